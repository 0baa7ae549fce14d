"""What a browser says about the page that asks, and what follows from it."""

import pytest
from aiohttp.test_utils import make_mocked_request

from hookstream.app.errors import ForbiddenError
from hookstream.app.web.browsers import refuse_other_sites

pytestmark = pytest.mark.browser

HERE = "127.0.0.1:6066"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": f"http://{HERE}"},
        {"Origin": f"HTTP://{HERE}"},
        {"Origin": f"http://{HERE}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://hooks.example.com"},
        {"Origin": "http://LOCALHOST:6066", "Host": "localhost:6066"},
        {"Origin": "http://[::1]:6066", "Host": "[::1]:6066"},
    ],
)
def test_this_site_and_what_is_no_browser_passes(headers: dict[str, str]) -> None:
    request = make_mocked_request("POST", "/hooks/t", {"Host": HERE, **headers})
    for strict in (False, True):
        refuse_other_sites(request, "https://hooks.example.com/", known_names_only=strict)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1:6067"},
        {"Origin": f"http://{HERE}.evil.example"},
        {"Origin": f"http://{HERE}@evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": " Cross-Site "},
        {"Origin": f"http://{HERE}", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    for public in ("", "https://hooks.example.com"):
        with pytest.raises(ForbiddenError, match="another site"):
            refuse_other_sites(
                make_mocked_request("POST", "/hooks/t", {"Host": HERE, **headers}), public
            )


@pytest.mark.parametrize("host", ["evil.example:6066", "localhost.evil.example:6066"])
def test_a_stranger_s_name_for_this_machine_is_another_site(host: str) -> None:
    request = make_mocked_request("POST", "/hooks/t", {"Host": host, "Origin": f"http://{host}"})
    with pytest.raises(ForbiddenError):
        refuse_other_sites(request, "", known_names_only=True)
    refuse_other_sites(request, f"http://{host}", known_names_only=True)
