"""Addresses of the internet protocol. Those of a machine's own, and of no machine, are none."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from hookstream.app.privacy.detector import Place, Span

__all__ = ["Ips"]

_V4: Final = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])")
_V6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{4,39}(?![\w:•])")
_VERSIONS: Final = ("version", "release", "tag", "oid")


class Ips:
    """IPv4 and IPv6, but in fields of versions."""

    kinds = frozenset({"ip"})
    rank = 6
    texts = r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]"
    names = ""

    def concerns(self, place: Place) -> bool:
        """No field says it."""
        return False

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if len(text) < 6 or place.field.endswith(_VERSIONS):
            return
        for pattern, mark in ((_V4, "."), (_V6, ":")):
            if mark not in text:
                continue
            for found in pattern.finditer(text):
                if _is_somebodys(found[0]):
                    yield Span(found.start(), found.end(), "ip")


def _is_somebodys(text: str) -> bool:
    # words of hexadecimal digits with colons between them are names of programs
    if text.count(":") == 1 or not any(char.isdigit() for char in text):
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)
