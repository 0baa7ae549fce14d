"""Cookies of people: whose they are, and for which pages they count."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hookstream.app.errors import ForbiddenError
from hookstream.app.identity.provider import Attempt
from hookstream.app.web.cookies import Cookies

HOST = "hooks.example.com"
PUBLIC = f"https://{HOST}"


def request(method: str = "GET", **headers: str) -> web.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request(method, "/", {"Host": HOST, **named})


def test_a_session_is_this_host_s_alone_and_no_page_s() -> None:
    cookies, response = Cookies(PUBLIC), web.Response()
    cookies.keep(request(), response, "token", 60)
    cookie = response.cookies["__Host-hookstream_session"].OutputString()
    assert cookie.startswith("__Host-hookstream_session=token")
    for attribute in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=60"):
        assert attribute in cookie, cookie
    assert "Domain" not in cookie
    assert cookies.token(request(Cookie="__Host-hookstream_session=token")) == "token"
    # what a neighbour under the same domain may have planted
    assert cookies.token(request(Cookie="hookstream_session=token")) == ""
    plain = Cookies("")
    assert plain.token(request(Cookie="hookstream_session=token")) == "token"


def test_an_attempt_comes_back_as_it_was() -> None:
    cookies, response, attempt = Cookies(PUBLIC), web.Response(), Attempt.new()
    cookies.begin(request(), response, attempt)
    kept = response.cookies["__Host-hookstream_sign_in"]
    assert kept["samesite"] == "Lax"
    again = request(Cookie=f"__Host-hookstream_sign_in={kept.value}")
    assert cookies.attempt(again) == attempt
    for wrong in ("", "x", "bnVsbA==", "WzEsMiwzXQ==", "WyJhIl0="):
        assert cookies.attempt(request(Cookie=f"__Host-hookstream_sign_in={wrong}")) is None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Sec_Fetch_Site": "same-origin"}),
        ("POST", {"Origin": PUBLIC}),
        ("DELETE", {"Sec_Fetch_Site": "same-origin"}),
        ("GET", {"Upgrade": "websocket", "Origin": PUBLIC}),
    ],
)
def test_pages_of_ours_may_ask(method: str, headers: dict[str, Any]) -> None:
    Cookies(PUBLIC).check_own_page(request(method, **headers))


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Sec_Fetch_Site": "cross-site"}),
        ("GET", {"Origin": "https://evil.example"}),
        ("POST", {}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "https://evil.example"}),
        ("POST", {"Sec_Fetch_Site": "same-site"}),
        ("GET", {"Upgrade": "websocket"}),
        ("GET", {"Upgrade": "websocket", "Origin": "https://evil.example"}),
    ],
)
def test_others_may_not_nor_who_does_not_say(method: str, headers: dict[str, Any]) -> None:
    with pytest.raises(ForbiddenError):
        Cookies(PUBLIC).check_own_page(request(method, **headers))
