"""A secret in the URL's query, for senders that sign nothing and send no header of one's own."""

from collections.abc import Sequence
from urllib.parse import quote

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import key_bytes, keys_of, match
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["url_with_token", "verify_url_token"]


def url_with_token(url: str, secret: str, name: str = "secret") -> str:
    """The URL with the secret in its query."""
    return f"{url}{'&' if '?' in url else '?'}{name}={quote(secret, safe='')}"


def verify_url_token(request: WebhookRequest, secrets: Sequence[str], name: str = "secret") -> None:
    """The query parameter ``name`` is one of the secrets. Raises SignatureError."""
    keys = keys_of(secrets)
    found = request.query(name)
    place = f"the query's {name}"
    if not found:
        raise SignatureError(f"{place} is missing or empty: set the URL with ?{name}=… there")
    match(place, keys, [key_bytes(found)])
