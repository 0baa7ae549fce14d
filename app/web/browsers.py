"""What pages of other sites may have a visitor's browser do here: nothing.

A browser can reach what its user's machine can, and sends along the credentials it was once given.
It says for which page it asks, in ``Origin`` and ``Sec-Fetch-Site``, and no page can change these.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from hookstream.app.errors import ForbiddenError
from hookstream.app.web.sender import sender_of

__all__ = ["HARDENED", "harden", "refuse_other_sites"]

HARDENED = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class OtherSiteError(ForbiddenError):
    """A browser asks for a page of another site."""

    slug = "other-site"
    title = "Not for pages of other sites"


def refuse_other_sites(
    request: web.Request, *public_urls: str, known_names_only: bool = False
) -> None:
    """Raise where a browser says that a page of another site asks.

    A page of this site has the address that it is called by here, or one of ``public_urls``. With
    ``known_names_only`` an address by name counts only if it is ``localhost`` or the name in one of
    ``public_urls``: any other may be a stranger's name that leads to this machine (DNS rebinding).
    What names no site, as everything but a browser, passes.

    Raises:
        OtherSiteError: with what to do instead.
    """
    if request.headers.get("Sec-Fetch-Site", "").strip().lower() == "cross-site":
        raise OtherSiteError(_refusal("Sec-Fetch-Site is cross-site"))
    origins = request.headers.getall("Origin", [])
    if not origins:
        return
    place = _place(origins[0])
    if len(origins) > 1 or place is None:
        raise OtherSiteError(_refusal("Origin names no site"))
    if place in map(_place, public_urls):
        return
    if place != sender_of(request).host.lower() or (known_names_only and not _is_local(place)):
        raise OtherSiteError(_refusal("Origin is another site's"))


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Tell browsers to guess no content type and to keep no answer, unless a view said otherwise.

    For ``on_response_prepare``.
    """
    for name, value in HARDENED.items():
        response.headers.setdefault(name, value)


def _place(origin: str) -> str | None:
    """Host and port of an origin, in lower case; None where it has none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_local(place: str) -> bool:
    """Whether a host is an IP address, or a name that no stranger can lead here."""
    host = urlsplit(f"//{place}").hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refusal(what: str) -> str:
    return (
        f"{what}: a browser asks for a page of another site, which may not. Send it from a server, "
        "or from a page of this address (HOOKSTREAM_PUBLIC_URL, or the tool's public_url, "
        "where it is called by another)"
    )
