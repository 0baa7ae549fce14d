"""IP addresses and networks of them, as people and headers write them.

An IPv4 address inside an IPv6 one (``::ffff:192.0.2.1``, which is what a socket of both kinds says)
is the IPv4 address: nothing here tells the two apart.
"""

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

__all__ = ["Address", "Network", "address_of", "is_among", "networks_of"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Longest text that is an address with brackets, a zone and a port.
MAX_CHARS: Final = 80
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def address_of(text: str) -> Address | None:
    """The address in a text; None where there is none. A port behind it is left out.

    Takes ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]``,
    ``[2001:db8::1]:80``, and zones (``fe80::1%eth0``), which say nothing to another machine.
    """
    text = text.strip()
    if len(text) > MAX_CHARS:
        return None
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in text or (port and not _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation; an address is a network of one.

    Raises:
        ValueError: one is none, with what to write instead.
    """
    return tuple(_network(text.strip()) for text in texts)


def is_among(address: Address | None, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; no address is in none."""
    return address is not None and any(address in network for network in networks)


def _network(text: str) -> Network:
    shown = repr(text[:MAX_CHARS])
    if len(text) > MAX_CHARS or "%" in text:
        raise ValueError(f"{shown} is no network: write 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
    try:
        network = ip_network(text)
    except ValueError:
        try:
            wider = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f"{shown} is no network: write 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1"
            ) from None
        raise ValueError(f"{shown} has more bits than its mask: write {wider}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        inner = network.network_address.ipv4_mapped
        return IPv4Network(f"{inner}/{network.prefixlen - 96}")
    return network


def _is_port(text: str) -> bool:
    digits = text[1:]
    return text[:1] == ":" and digits.isascii() and digits.isdigit() and len(digits) <= 5
