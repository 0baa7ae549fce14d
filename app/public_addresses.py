"""Which addresses we may call on an operator's word: none inside their own network by default.

Server-side request forgery: an address that a setting names must not reach what only this machine
can reach (cloud metadata, databases, neighbours). Checked is what is connected to, not what a name
said a moment before.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from yarl import URL

__all__ = ["check_public", "check_url", "is_public"]

_NAT64: Final = IPv6Network("64:ff9b::/96")
#: All of IPv6 that is given out to the internet; the rest is local, reserved or historic.
_GLOBAL: Final = IPv6Network("2000::/3")
#: What is in there and no place of the internet: protocols' own (Teredo and ORCHID among them), and
#: what documents use.
_NOT_GLOBAL: Final = (
    IPv6Network("2001::/23"),
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
)
#: IANA's special addresses that Python counts as global: protocols' own, and 6to4's relays.
_SPECIAL: Final = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
#: A host whose last part is a number is an IPv4 address to whatever connects, as it is written.
_NUMBER: Final = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)")


def is_public(text: str) -> bool:
    """Whether an IP address is of the public internet, whichever IPv6 form it hides in.

    Raises:
        ValueError: it is no IP address.
    """
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv4Address):
        special = any(address in network for network in _SPECIAL)
        return address.is_global and not address.is_multicast and not special
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    return address in _GLOBAL and not any(address in network for network in _NOT_GLOBAL)


def check_url(
    text: str, *, allow_private: bool, setting: str = "HOOKSTREAM_ALERT_ALLOW_PRIVATE"
) -> URL:
    """The address to call; ``setting``: what allows private ones.

    Raises:
        ValueError: it is not one, or not a public one; the message says what to set.
    """
    url = URL(text)
    if not url.host or url.scheme not in ("https", "http") or url.user or url.password:
        raise ValueError("an address such as https://alerts.example.com/hook, without credentials")
    if allow_private:
        return url
    if url.scheme != "https":
        raise ValueError(f"must be https unless {setting} is set")
    try:
        public = is_public(url.host)
    except ValueError:
        # 127.000.000.001, 0x7f.1 and 2130706433 are no names: they never come to a resolver
        if _NUMBER.fullmatch(url.host.rstrip(".").rpartition(".")[2]):
            raise ValueError(
                f"{url.host} is no address as it is written: four decimal numbers, as in 192.0.2.1"
            ) from None
        return url
    if not public:
        raise ValueError(_refusal(url.host, setting))
    return url


def check_public(address: str) -> None:
    """Raises ValueError where an IP address is not public; the message says what to set."""
    if not is_public(address):
        raise ValueError(_refusal(address))


def _refusal(address: str, setting: str = "HOOKSTREAM_ALERT_ALLOW_PRIVATE") -> str:
    return f"{address} is not a public address: set {setting}=true if that is meant"
