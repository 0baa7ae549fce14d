"""Addresses and networks as people and headers write them."""

from ipaddress import IPv6Address, ip_address, ip_network

import pytest

from hookstream.app.addresses import address_of, is_among, networks_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:4711 ", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]:80", "192.0.2.1"),
    ],
)
def test_an_address_is_found_in_each_form(text: str, address: str) -> None:
    assert address_of(text) == ip_address(address)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "unknown", "_hidden", "localhost", "192.0.2", "192.0.2.256", "192.0.2.01", "1"),
        *("192.0.2.1:", "192.0.2.1:x", "192.0.2.1:123456", "192.0.2.1:١", "[192.0.2.1]", "[::1"),
        *("[::1]x", "[::1]80", "::1]", "192.0.2.1, 192.0.2.2", "192.0.2.0/24", "0x7f.0.0.1"),
        *(":" * 1000, "1" * 100_000, "192.0.2.1\0", "\ud800"),
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert address_of(text) is None


def test_a_network_s_members_are_found_in_whichever_form() -> None:
    networks = networks_of(["10.0.0.0/8", " 2001:db8::/32", "192.0.2.7", "::ffff:172.16.0.0/108"])
    assert list(map(str, networks)) == [
        "10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32", "172.16.0.0/12",
    ]  # fmt: skip
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5", "192.0.2.7", "172.31.0.1"):
        assert is_among(address_of(text), networks), text
    for text in ("11.0.0.1", "192.0.2.8", "2001:db9::1", "172.32.0.1", "::10.1.2.3"):
        assert not is_among(address_of(text), networks), text
    assert not is_among(None, [*networks, ip_network("0.0.0.0/0"), ip_network("::/0")])
    # every IPv4 address is not every address
    assert not is_among(IPv6Address("::1"), networks_of(["0.0.0.0/0"]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.5/8", "write 10.0.0.0/8"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
        ("example.com", "is no network"),
        ("", "is no network"),
        ("10.0.0.0/33", "is no network"),
        ("fe80::1%eth0", "is no network"),
        ("1" * 1000, "is no network"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        networks_of(["192.0.2.1", text])
