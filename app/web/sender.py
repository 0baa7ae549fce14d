"""Who has sent a request, and what it called us: past the proxies that are trusted to know.

A header says what whoever wrote it likes. ``Forwarded`` (RFC 7239) and ``X-Forwarded-*`` are
believed where the connection is from a network in ``HOOKSTREAM_TRUSTED_PROXIES``, and there from
the right: each proxy adds at the end the address that it was called from. The first one that is no
trusted proxy's is the sender's, and what stands to the left of it is what the sender has written.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDictProxy

from hookstream.app.addresses import Address, Network, address_of, is_among
from hookstream.app.errors import ForbiddenError

__all__ = [
    "Sender",
    "check_allowed",
    "look_past",
    "past_proxies",
    "peer_of",
    "see_senders",
    "seen_through",
    "sender_of",
]

#: Proxies one behind the other; in a longer list nobody is believed.
MAX_HOPS: Final = 32
#: Characters of the lines of a ``Forwarded`` header.
MAX_FORWARDED: Final = 8192
PORTS: Final = {"http": "80", "https": "443"}

_Headers = Mapping[str, Sequence[str]]
#: One pair of a ``Forwarded`` element, or none, and what ends it.
_PAIR: Final = re.compile(
    r"[ \t]*+(?:([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})="
    r'(?:"((?:[^"\\]|\\.)*+)"|([^\s",;=]*+)))?[ \t]*+(?:([;,])|\Z)'
)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class AddressError(ForbiddenError):
    """A webhook from an address that its tool takes nothing from."""

    slug = "address-not-allowed"
    title = "Not from this address"


@dataclass(frozen=True, slots=True)
class Sender:
    """``address`` is text that is no address where the sender's is not known.

    ``scheme`` and ``host`` are how it called us; ``host`` has a port where it named one.
    """

    address: str
    scheme: str
    host: str

    @property
    def origin(self) -> str:
        """Scheme and host, as a URL begins."""
        return f"{self.scheme}://{self.host}"


_SENDER: web.RequestKey[Sender] = web.RequestKey("sender", Sender)


def see_senders(trusted: Sequence[Network]) -> Middleware:
    """A middleware that looks past trusted proxies; to be the first."""

    @web.middleware
    async def see(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        look_past(request, trusted)
        return await handler(request)

    return see


def look_past(request: web.Request, trusted: Sequence[Network]) -> None:
    """Find out who has sent a request, for :func:`sender_of`."""
    request[_SENDER] = past_proxies(sender_of(request), request.headers, trusted)


def past_proxies(
    direct: Sender, headers: CIMultiDictProxy[str], trusted: Sequence[Network]
) -> Sender:
    """Who is behind ``direct``, which has connected; itself where it is no trusted proxy."""
    peer = address_of(direct.address)
    if peer is None or not is_among(peer, trusted):
        return direct
    lines = {name: headers.getall(name, []) for name in NAMES}
    return seen_through(peer, direct, lines, trusted)


def sender_of(request: web.Request) -> Sender:
    """Who has sent a request, as far as :func:`see_senders` could see; else who has connected."""
    known: Sender | None = request.get(_SENDER)
    if known is not None:
        return known
    remote = plain_address(request.remote or "")
    request[_SENDER] = known = Sender(remote, request.scheme, _host(request))
    return known


def _host(request: web.Request) -> str:
    """The host that was called, with its port; of a whole address (RFC 9112, 3.2.2) its own."""
    if request.raw_path.startswith("/"):
        return request.host
    # aiohttp leaves out the port
    return request.url.host_port_subcomponent or request.host


def plain_address(remote: str) -> str:
    """The address at a connection's other end, of IPv4 as such on a socket of both kinds, too."""
    return remote[7:] if remote.startswith("::ffff:") and "." in remote else remote


def peer_of(peername: object, *, is_secure: bool) -> Sender:
    """Who is at a connection's other end, by the address of its socket; it has no host."""
    remote = peername[0] if isinstance(peername, (list, tuple)) else peername
    return Sender(plain_address(str(remote or "")), "https" if is_secure else "http", "")


def check_allowed(allow_from: Sequence[Network], address: str) -> None:
    """Raise where a tool takes webhooks from certain networks, and this is from none of them.

    Raises:
        AddressError: with the address; no networks are any.
    """
    if allow_from and not is_among(address_of(address), allow_from):
        raise AddressError(
            f"this tool takes webhooks from certain addresses only (its allow_from), and this one "
            f"came from {address or 'no address'}"
        )


NAMES: Final = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
)


def seen_through(
    peer: Address, direct: Sender, headers: _Headers, trusted: Sequence[Network]
) -> Sender:
    """The sender behind a trusted proxy, which ``peer`` is; ``direct`` is what its request says.

    Where both kinds of header are there, one of them may be the sender's own, passed on by a proxy
    that writes the other: they have to name the same address, or it is not known. Of scheme and
    host, with which no more can be had than with a ``Host`` header, ``X-Forwarded-*`` count first.
    """
    given = headers["X-Forwarded-For"]
    found, hops = _walk(peer, (address_of(text) for text in _from_right(given)), trusted)
    elements: list[dict[str, str]] = []
    if headers["Forwarded"]:
        elements = _elements(headers["Forwarded"])
        named = (address_of(element.get("for", "")) for element in reversed(elements))
        other, depth = _walk(peer, named, trusted)
        if not elements or (given and other != found):
            other = found = None
        if not given:
            found, hops = other, depth
    element = elements[-min(hops, len(elements))] if elements else {}
    scheme = _nth(headers["X-Forwarded-Proto"], hops).lower() or element.get("proto", "").lower()
    if scheme not in PORTS:
        scheme = direct.scheme
    host = _nth(headers["X-Forwarded-Host"], hops) or element.get("host", "")
    if not _HOST.fullmatch(host):
        host = direct.host
    port = _nth(headers["X-Forwarded-Port"], hops)
    if _names_port(port) and not _has_port(host) and port != PORTS[scheme]:
        host = f"{host}:{port}"
    address = str(found) if found is not None else f"unknown (through {peer})"
    return Sender(address, scheme, host)


def _walk(
    peer: Address, hops: Iterable[Address | None], trusted: Sequence[Network]
) -> tuple[Address | None, int]:
    """The first address from the right that is no trusted proxy's, and its place, from 1 on.

    None where what stands there is none: nobody has vouched for what is left of it.
    """
    found: Address | None = peer
    place = 0
    for hop in hops:
        place += 1
        found = hop
        if place > MAX_HOPS:
            return None, 1
        if hop is None or not is_among(hop, trusted):
            break
    return found, max(place, 1)


def _from_right(values: Sequence[str]) -> list[str]:
    """The members of a list, the last first: one more than are looked at, at most."""
    parts = ",".join(values).rsplit(",", MAX_HOPS + 1)[-MAX_HOPS - 1 :]
    return [part for part in map(str.strip, reversed(parts)) if part]


def _nth(values: Sequence[str], place: int) -> str:
    """The member of a list at a place from the right; of a shorter list its first."""
    parts = _from_right(values)
    return parts[min(place, len(parts)) - 1] if parts else ""


def _elements(values: Sequence[str]) -> list[dict[str, str]]:
    """The elements of a ``Forwarded`` header; none where it is not well-formed.

    Quotes that a sender opens shall not swallow what a proxy adds: a line has all of it right.
    """
    if sum(map(len, values)) > MAX_FORWARDED:
        return []
    elements: list[dict[str, str]] = []
    for line in values:
        element: dict[str, str] = {}
        elements.append(element)
        at = 0
        while at < len(line):
            pair = _PAIR.match(line, at)
            if pair is None:
                return []
            name, quoted, plain, end = pair.groups()
            if name is not None:
                if name.lower() in element:
                    return []
                text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                element[name.lower()] = text
            if end == ",":
                element = {}
                elements.append(element)
            at = pair.end()
    return [element for element in elements if element]


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _names_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536
