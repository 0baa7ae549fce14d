"""Whose request it is, past proxies that are trusted, and whatever a sender writes into headers."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.addresses import address_of, networks_of
from hookstream.app.errors import ForbiddenError
from hookstream.app.web.sender import (
    NAMES,
    Sender,
    check_allowed,
    see_senders,
    seen_through,
    sender_of,
)
from tests.support.cost import least_cpu

TRUSTED = networks_of(["10.0.0.0/8", "fd00::/8"])
PROXY = "10.0.0.1"
DIRECT = Sender(PROXY, "http", "in.example")


def seen(peer: str = PROXY, **headers: str | list[str]) -> Sender:
    """``x_forwarded_for`` and the like as lines of headers."""
    lines: dict[str, list[str]] = {name: [] for name in NAMES}
    for name, value in headers.items():
        [known] = [known for known in NAMES if known.lower() == name.replace("_", "-")]
        lines[known] = [value] if isinstance(value, str) else value
    address = address_of(peer)
    assert address is not None
    return seen_through(address, DIRECT, lines, TRUSTED)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:5555", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        # what the sender has written stands to the left
        ("1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.9, 198.51.100.7", "198.51.100.7"),
        ("garbage, unknown,, 198.51.100.7", "198.51.100.7"),
        (["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
        (["198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        # past proxies
        ("1.1.1.1, 198.51.100.7, 10.0.0.3, fd00::2", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.3 ,", "198.51.100.7"),
        # all of them are proxies: one of those asks, say for /health
        ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
        ("", PROXY),
        (" , ,", PROXY),
    ],
)
def test_the_first_from_the_right_that_is_no_proxy_is_the_sender(
    given: str | list[str], address: str
) -> None:
    assert seen(x_forwarded_for=given).address == address


@pytest.mark.parametrize(
    "given",
    [
        "unknown",
        "198.51.100.7, garbage",
        "198.51.100.7, unknown, 10.0.0.3",
        "198.51.100.7, 1.1.1.1.1",
        "10.0.0.2, _hidden",
        ", ".join(["198.51.100.7", *["10.0.0.3"] * 40]),
    ],
)
def test_where_nobody_vouches_the_sender_is_not_known(given: str) -> None:
    quoted = ", ".join(f'for="{one}"' for one in given.split(", "))
    for found in (seen(x_forwarded_for=given), seen(forwarded=quoted)):
        assert found.address == "unknown (through 10.0.0.1)"
        assert address_of(found.address) is None
        with pytest.raises(ForbiddenError):
            check_allowed(networks_of(["0.0.0.0/0", "::/0"]), found.address)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("for=198.51.100.7", "198.51.100.7"),
        ("For=198.51.100.7;proto=HTTPS;by=10.0.0.1", "198.51.100.7"),
        ('for="198.51.100.7:443"', "198.51.100.7"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        (r'for="198\.51.100\.7"', "198.51.100.7"),
        ("for=1.1.1.1, for=198.51.100.7;by=10.0.0.2, for=10.0.0.2", "198.51.100.7"),
        (["for=1.1.1.1", "for=198.51.100.7 , for=10.0.0.2;;"], "198.51.100.7"),
        ("for=198.51.100.7, ,", "198.51.100.7"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(given: str | list[str], address: str) -> None:
    assert seen(forwarded=given).address == address


@pytest.mark.parametrize(
    "given",
    [
        # a quote that the sender has opened swallows nothing of what the proxy adds
        'for=1.1.1.1;x=", for=198.51.100.7',
        'for=1.1.1.1;x=", for=198.51.100.7;host="a"',
        'for=1.1.1.1;x=", for="[2001:db8::1]"',
        ['for=1.1.1.1;x="', "for=198.51.100.7"],
        "for=198.51.100.7;for=1.1.1.1",
        "for 198.51.100.7",
        "198.51.100.7",
        "=198.51.100.7",
        "for=198.51.100.7 by=10.0.0.1",
        "for=198.51.100.7," + "x=y;" * 3000,
        "host=evil.example",
        ",",
    ],
)
def test_a_forwarded_that_is_not_well_formed_names_nobody(given: str | list[str]) -> None:
    assert seen(forwarded=given).address == "unknown (through 10.0.0.1)"


def test_two_kinds_of_header_have_to_agree() -> None:
    both = {"x_forwarded_for": "9.9.9.9, 198.51.100.7"}
    assert seen(**both, forwarded="for=198.51.100.7").address == "198.51.100.7"
    assert seen(**both, forwarded='for="198.51.100.7:80"').address == "198.51.100.7"
    for other in ("for=9.9.9.9", "for=10.0.0.9", "for=unknown", "proto=https", "for", 'for="'):
        # one is what the sender has written, and nobody knows which
        assert seen(**both, forwarded=other).address.startswith("unknown")
    # of scheme and host the others count first
    found = seen(
        x_forwarded_proto="https",
        x_forwarded_host="a.example",
        forwarded="for=198.51.100.7;host=b.example;proto=http",
    )
    assert found.origin == "https://a.example"


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, "http://in.example"),
        ({"x_forwarded_proto": "https"}, "https://in.example"),
        ({"x_forwarded_proto": "HTTPS", "x_forwarded_port": "443"}, "https://in.example"),
        ({"x_forwarded_proto": "https", "x_forwarded_port": "8443"}, "https://in.example:8443"),
        ({"x_forwarded_host": "a.example"}, "http://a.example"),
        ({"x_forwarded_host": "a.example:81", "x_forwarded_port": "82"}, "http://a.example:81"),
        ({"x_forwarded_host": "[2001:db8::1]"}, "http://[2001:db8::1]"),
        ({"x_forwarded_host": "[::1]", "x_forwarded_port": "82"}, "http://[::1]:82"),
        ({"forwarded": "for=1.1.1.1;host=b.example;proto=https"}, "https://b.example"),
        ({"forwarded": 'for=1.1.1.1;host="b.example:81"'}, "http://b.example:81"),
        # what the sender has written is to the left of what the proxy has
        ({"x_forwarded_proto": "http, https"}, "https://in.example"),
        ({"x_forwarded_host": "evil.example, a.example"}, "http://a.example"),
        ({"forwarded": "host=evil.example, for=1.1.1.1;host=a.example"}, "http://a.example"),
        # each of two proxies has added its own: the outer one's is what the sender has called
        (
            {"x_forwarded_for": "1.1.1.1, 10.0.0.2", "x_forwarded_host": "x, a.example, b"},
            "http://a.example",
        ),
        ({"x_forwarded_proto": "gopher"}, "http://in.example"),
        ({"x_forwarded_host": "a b"}, "http://in.example"),
        ({"x_forwarded_host": "a.example/path"}, "http://in.example"),
        ({"x_forwarded_host": "u:p@a.example"}, "http://in.example"),
        ({"x_forwarded_host": "a" * 300}, "http://in.example"),
        ({"x_forwarded_port": "0"}, "http://in.example"),
        ({"x_forwarded_port": "80 "}, "http://in.example"),
        ({"x_forwarded_port": "99999"}, "http://in.example"),
        ({"x_forwarded_port": "²"}, "http://in.example"),
    ],
)
def test_scheme_and_host_are_those_that_the_sender_has_called(
    headers: dict[str, str], origin: str
) -> None:
    assert seen(**headers).origin == origin


texts = st.lists(
    st.text(alphabet='for=;," \\[]:.%1a\t', max_size=40) | st.text(max_size=40), max_size=4
)


@given(texts, texts, texts, texts)
def test_whatever_comes_is_some_address_or_none(
    first: list[str], second: list[str], third: list[str], fourth: list[str]
) -> None:
    found = seen(
        forwarded=first, x_forwarded_for=second, x_forwarded_host=third, x_forwarded_port=fourth
    )
    assert address_of(found.address) or found.address.startswith("unknown (")
    assert found.host.isprintable()
    assert found.scheme in ("http", "https")


@pytest.mark.parametrize(
    "headers",
    [
        {"forwarded": 'for="' + "\\a" * 3900},
        {"forwarded": " " * 8000 + "x"},
        {"forwarded": ("a=b" + " " * 20 + ";") * 300},
        {"forwarded": [","] * 8000},
        {"x_forwarded_for": ["," * 8000] * 100},
        {"x_forwarded_for": ["1.1.1.1," * 1000] * 100},
        {"x_forwarded_host": ["[" * 8000] * 100},
    ],
)
def test_what_takes_long_is_not_read_to_its_end(headers: dict[str, Any]) -> None:
    assert least_cpu(lambda: seen(**headers), 0.1) < 0.1


async def through(peer: str, trusted: list[str], headers: dict[str, str]) -> Sender:
    """As the server sees a request from ``peer``."""

    class Socket:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return (peer, 1234) if name == "peername" else default

    request = make_mocked_request(
        "POST", "/hooks/t", {"Host": "in.example", **headers}, transport=Socket()
    )
    found = []

    async def handler(request: web.Request) -> web.Response:
        found.append(sender_of(request))
        return web.Response()

    await see_senders(networks_of(trusted))(request, handler)
    return found[0]


SPOOFED = {
    "X-Forwarded-For": "1.1.1.1",
    "X-Forwarded-Host": "a.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "81",
    "Forwarded": "for=1.1.1.1;host=a.example;proto=https",
    "X-Real-IP": "2.2.2.2",
}


async def test_only_a_trusted_proxy_is_believed() -> None:
    for peer in ("198.51.100.7", "11.0.0.1", "2001:db8::1"):
        assert await through(peer, ["10.0.0.0/8"], SPOOFED) == Sender(peer, "http", "in.example")
    for peer in ("10.0.0.1", "::ffff:10.0.0.1"):
        found = await through(peer, ["10.0.0.0/8"], SPOOFED)
        assert found == Sender("1.1.1.1", "https", "a.example:81")
    # a header that no standard knows of is nobody's word
    found = await through("10.0.0.1", ["10.0.0.0/8"], {"X-Real-IP": "2.2.2.2"})
    assert found.address == "10.0.0.1"


async def test_an_ipv4_sender_is_shown_as_such_on_a_socket_of_both_kinds() -> None:
    assert (await through("::ffff:192.0.2.1", ["10.0.0.0/8"], {})).address == "192.0.2.1"


def test_a_tool_without_networks_takes_from_anybody() -> None:
    for address in ("192.0.2.1", "", "unknown (through 10.0.0.1)"):
        check_allowed((), address)
    only = networks_of(["192.0.2.0/24"])
    check_allowed(only, "192.0.2.1")
    for address in ("192.0.3.1", "", "::1", "unknown (through 192.0.2.1)"):
        with pytest.raises(ForbiddenError, match="allow_from"):
            check_allowed(only, address)
