"""Links that strangers wrote made text: nothing of theirs is fetched or followed by a click.

A client that shows Markdown fetches an image as soon as it shows it, and whatever is in the address
goes with it. In text of strangers no link and no image is one; where it would have led stays to be
read: ``[text] (hxxps://host[.]example/path)``. An address stays one where it leads to a provider's
own host, or one of ``HOOKSTREAM_LINK_HOSTS``: those are where agents go to work.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from hookstream.app.providers import PROVIDERS

__all__ = ["Hosts", "hosts", "is_address", "leads_home", "may_lead", "without_links"]

#: A bracket that may be the end of a link's text.
_BRACKET: Final = re.compile(r"\]\s?[(:[]")
#: An address that is one by itself: its scheme, and the place up to the path.
_PLACE: Final = re.compile(r"[^\s/?#()\[\]<>\"'`,;‹›❴❵|^]*")
_ADDRESS: Final = re.compile(
    rf"(?P<scheme>https?|ftp)(?P<slashes>:[/\\]{{2,}})(?P<place>{_PLACE.pattern})", re.IGNORECASE
)
#: What ends a name of a host in text, and may stand in one in a browser: who follows
#: ``https://github.com,.evil.example`` comes to ``evil.example``.
_LONGER: Final = re.compile(r"[()\[\]<>\"'`,;‹›❴❵|^]++[^\s/?#]")
_WWW: Final = re.compile(r"(?<![A-Za-z0-9/.-])www\.(?P<rest>[A-Za-z0-9.-]+)", re.IGNORECASE)
#: An address without a scheme, as HTML's attributes and Markdown's links may have it.
_RELATIVE: Final = re.compile(
    r"(?<=[(\"'=<‹])(?P<slashes>[/\\]{2,})(?P<place>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)"
)
#: What makes a text a link or an image, inline or by a definition elsewhere, if it leads anywhere:
#: that shows in how its target begins. Of many brackets each would look to the text's end; what
#: begins far away counts as one that leads somewhere.
_LINK: Final = re.compile(
    r"\](?=[(:](?P<far>\s{9}))"
    r"|\](?=\(\s{0,8}[<‹]?(?P<inline>[^)\s>›]{0,64}))"
    r"|\](?=:\s{0,8}[<‹]?(?P<elsewhere>[^\s>›]{0,64}))"
)
#: The beginning of an image, by what is left of one.
_IMAGE: Final = re.compile(r"!\[(?=[^\[\]]{0,500}\](?: ?\(|\[))")
_DEFANGED: Final = {"http": "hxxp", "https": "hxxps", "ftp": "fxp"}
#: Longer ones are no names of hosts (RFC 1035).
MAX_NAME_CHARS: Final = 253
_WHOLE: Final = re.compile(r"https?://[!#-&*-;=?-Z_a-z~]+", re.IGNORECASE)


class Hosts:
    """Hosts, as ``git.acme.com`` or ``*.acme.com``, that addresses may lead to."""

    def __init__(self) -> None:
        #: Those of the installation's setting.
        self.own: frozenset[str] = frozenset()

    def allow(self, names: Iterable[str]) -> None:
        """Let addresses lead to these, and no others beside the providers'."""
        self.own = frozenset(name.lower() for name in names)

    def __contains__(self, place: str) -> bool:
        if len(place) > MAX_NAME_CHARS + len(":65535"):
            return False
        host = place.lower().rstrip(".")
        name, colon, port = host.partition(":")
        if colon and not (port.isascii() and port.isdecimal()):
            return False
        return any(
            name in known or any(f"*.{parent}" in known for parent in _parents(name))
            for known in (_providers(), self.own)
        )


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[at:]) for at in range(1, len(parts))]


@cache
def _providers() -> frozenset[str]:
    return frozenset(host for row in PROVIDERS.values() for host in row.hosts)


hosts = Hosts()


def is_address(text: str) -> bool:
    """Whether a text is an address and nothing else."""
    return _WHOLE.fullmatch(text) is not None


def may_lead(text: str) -> bool:
    """Whether there may be a link in a text. Most have none of this: 0.3 µs."""
    return (
        "//" in text
        or "\\" in text
        or ("]" in text and _BRACKET.search(text) is not None)
        or "www." in text.lower()
    )


def leads_home(text: str) -> bool:
    """Whether all there is of links in a text are whole addresses at hosts that are allowed.

    :func:`without_links` would leave such a text as it is, in ten times the time.
    """
    if "\\" in text or "![" in text or "www." in text.lower() or _BRACKET.search(text):
        return False
    at = text.find("//")
    while at >= 0:
        found = _PLACE.match(text, at + 2)
        if found is None or text[max(0, at - 6) : at] != "https:" or not _is_home(found, found[0]):
            return False
        at = text.find("//", found.end())
    return True


def _is_home(found: "re.Match[str]", place: str) -> bool:
    """Whether a place, which ends where ``found`` does, is allowed and goes no further."""
    return place in hosts and not _LONGER.match(found.string, found.end())


def without_links(text: str) -> str:
    """``text`` in which no link or image of Markdown or HTML leads to a host that is not allowed.

    Idempotent. What a link says and where it leads stays to be read.
    """
    if not may_lead(text):
        return text
    text = _ADDRESS.sub(_defanged, text)
    text = _RELATIVE.sub(_undotted, text)
    text = _WWW.sub(_unnamed, text)
    text = _IMAGE.sub("! [", _LINK.sub(_apart, text))
    if "![" in text:
        # one with brackets in its text, however deep: wherever it leads, also to a file beside
        text = text.replace("](", "] (").replace("][", "] [")
    return text


def _defanged(found: "re.Match[str]") -> str:
    scheme, slashes, place = found["scheme"].lower(), found["slashes"], found["place"]
    if scheme == "https" and slashes == "://" and _is_home(found, place):
        return found[0]
    return _DEFANGED[scheme] + slashes + _dotted(place)


def _undotted(found: "re.Match[str]") -> str:
    return found[0] if found["place"] in hosts else found["slashes"] + _dotted(found["place"])


def _unnamed(found: "re.Match[str]") -> str:
    place = f"www.{found['rest']}"
    return found[0] if place in hosts or found["rest"] in hosts else _dotted(found[0])


def _dotted(place: str) -> str:
    # a dot at the end is a sentence's
    return re.sub(r"\.(?=[^.])", "[.]", place)


def _apart(found: "re.Match[str]") -> str:
    """The bracket, and a space behind it where what follows leads out of where it stands."""
    target = found["inline"] or found["elsewhere"] or ""
    leads = (
        found["far"] or target.startswith(("//", "/\\")) or any(char in target for char in ":&\\")
    )
    return "] " if leads else "]"
