"""What alerts may call."""

import pytest

from hookstream.app.errors import SettingsError
from hookstream.app.public_addresses import check_url, is_public
from hookstream.app.public_resolver import PublicResolver
from hookstream.app.settings import load_settings


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
        "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "fec0::1", "64:ff9b:1::1", "5f00::1",
        "64:ff9b::a9fe:a9fe", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2001:20::1", "3fff::1",
        "100::1", "fd00:ec2::254", "fe80::a9fe:a9fe", "ff0e::1", "4000::1", "64:ff9b::c000:c0",
        "192.0.0.1", "192.0.0.192", "192.0.0.9", "192.88.99.1", "198.18.0.1", "203.0.113.9",
        "240.0.0.1", "2002:c0a8:101::1",
    ],
)  # fmt: skip
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


async def test_name_that_leads_inside_is_refused_when_it_is_resolved() -> None:
    with pytest.raises(OSError, match="not a public address"):
        await PublicResolver().resolve("localhost", 443)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://127.0.0.1/hook", "not a public address"),
        ("https://[::1]/hook", "not a public address"),
        ("http://alerts.example.com/hook", "must be https"),
        ("ftp://alerts.example.com/", "an address such as"),
        ("https://user:secret@alerts.example.com/", "without credentials"),
        ("nonsense", "an address such as"),
        ("https://127.000.000.001/", "no address as it is written"),
        ("https://0177.0.0.1/", "no address as it is written"),
        ("https://0x7f.0.0.1/", "no address as it is written"),
        ("https://0x7f000001/", "no address as it is written"),
        ("https://2130706433/", "no address as it is written"),
        ("https://127.1/", "no address as it is written"),
        ("https://127.0.0.1./", "no address as it is written"),
        ("https://[::ffff:7f00:1]/", "not a public address"),
    ],
)
def test_wrong_address_is_said_at_the_start(url: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        check_url(url, allow_private=False)
    with pytest.raises(SettingsError, match="HOOKSTREAM_ALERT_URL"):
        load_settings({"HOOKSTREAM_ALERT_URL": url, "HOOKSTREAM_ALERT_SECRET": "whsec_YWJj"})


def test_private_address_is_taken_when_allowed_and_a_secret_is_needed() -> None:
    settings = {
        "HOOKSTREAM_ALERT_URL": "http://127.0.0.1:9/hook",
        "HOOKSTREAM_ALERT_ALLOW_PRIVATE": "true",
    }
    with pytest.raises(SettingsError, match="HOOKSTREAM_ALERT_SECRET"):
        load_settings(settings)
    load_settings({**settings, "HOOKSTREAM_ALERT_SECRET": "whsec_YWJj"})
