"""JSON within JSON: what envelopes carry as a text, in place of that text.

Some senders deliver what others have published: an SNS message, a Pub/Sub message, a token. Whoever
reads such an event looks for what was published. The payload stays as it was sent.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from hookstream.codecs.json_payload import parse_payload

__all__ = ["token_claims", "token_part", "unfolded"]

#: A JSON Web Token in its compact form; the first part begins with ``{"``.
_TOKEN: Final = re.compile(rb"eyJ[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


def unfolded(value: Any, *, exact: bool = False) -> Any:
    """``value`` with the JSON in it unfolded, where it is such an envelope.

    ``Message`` of an SNS message that is an object or a list; ``message.data`` of a Pub/Sub message
    decoded from base64, as JSON or as text; ``data`` of a token of Wix, and what is in there. What
    is nothing of the kind, or is not parsed, stays a text. ``exact``: as
    :func:`parse_payload`.
    """
    if type(value) is not dict:
        return value
    if "TopicArn" in value and "MessageId" in value:
        return _with(value, "Message", _json(value.get("Message"), exact))
    if "subscription" in value and type(message := value.get("message")) is dict:
        data = _decoded(message.get("data"), exact)
        return _with(value, "message", _with(message, "data", data))
    if "iat" in value and type(value.get("data")) is str:
        return _with(value, "data", _wix(value["data"], exact))
    return value


def token_claims(payload: bytes) -> dict[str, Any] | None:
    """What a JSON Web Token says, which nobody verifies here; None where a payload is none.

    Raises ValueError: it looks like one, and cannot be read.
    """
    part = token_part(payload)
    claims = parse_payload(part) if part else None
    return unfolded(claims) if type(claims) is dict else None


def token_part(payload: bytes) -> bytes:
    """The JSON of a token's claims; empty where a payload is no token. Raises ValueError."""
    if not payload.startswith(b"eyJ") or (found := _TOKEN.fullmatch(payload.strip())) is None:
        return b""
    return base64.urlsafe_b64decode(found[1] + b"=" * (-len(found[1]) % 4))


def _with(value: Mapping[str, Any], name: str, inner: Any) -> dict[str, Any]:
    return {**value, name: inner} if name in value else dict(value)


def _json(text: Any, exact: bool) -> Any:
    """The object or list that a text is, else the text."""
    if type(text) is not str or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        # two levels more than a payload may have can still be written within an answer
        return parse_payload(text.encode(), exact=exact)
    except ValueError:
        return text


def _decoded(text: Any, exact: bool) -> Any:
    """The text in base64, or the object or list that it is; as it came where it is none."""
    if type(text) is not str:
        return text
    try:
        return _json(base64.b64decode(text, validate=True).decode(), exact)
    except ValueError:
        return text


def _wix(text: str, exact: bool) -> Any:
    found = _json(text, exact)
    if type(found) is not dict:
        return found
    return {
        name: _json(inner, exact) if name in ("data", "identity") else inner
        for name, inner in found.items()
    }
