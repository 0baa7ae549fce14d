"""The text that a sender signs, as a template of its request: ``{timestamp}.{body}``."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["compile_template", "signed_text", "uses"]

#: Names that stand alone; ``header:NAME``, ``query:NAME`` and ``field:PATH`` take a place.
NAMES: Final = ("body", "timestamp", "id", "method", "url", "decoded_url", "path")
PLACES: Final = ("header", "query", "field")
MAX_CHARS: Final = 200
MAX_PARTS: Final = 16

_HOLE = re.compile(r"\{([^{}]*)\}")

#: Text as it stands, or a name and its place.
Part = str | tuple[str, str]


@lru_cache(maxsize=1024)
def compile_template(template: str) -> tuple[Part, ...]:
    """A template in parts.

    Raises:
        BadRequestError: too long, an unknown name, a brace of its own, nothing that is filled in.
    """
    if not 0 < len(template) <= MAX_CHARS or not template.isprintable():
        raise BadRequestError(f"a template has 1 to {MAX_CHARS} printable characters")
    parts: list[Part] = []
    at = 0
    for hole in _HOLE.finditer(template):
        if text := template[at : hole.start()]:
            parts.append(text)
        name, colon, place = hole[1].partition(":")
        if not ((name in NAMES and not colon) or (name in PLACES and place)):
            raise BadRequestError(
                f"{{{hole[1]}}} is nothing that a sender signs: one of "
                + ", ".join(f"{{{name}}}" for name in NAMES)
                + ", {header:NAME}, {query:NAME}, {field:PATH}"
            )
        parts.append((name, place))
        at = hole.end()
    if text := template[at:]:
        parts.append(text)
    if any("{" in part or "}" in part for part in parts if isinstance(part, str)):
        raise BadRequestError("a brace stands alone: names are written {body}")
    if not any(isinstance(part, tuple) for part in parts):
        raise BadRequestError("nothing of the request is in the template: as in {timestamp}.{body}")
    if len(parts) > MAX_PARTS:
        raise BadRequestError(f"a template has at most {MAX_PARTS} parts")
    return tuple(parts)


def uses(template: str, name: str) -> bool:
    """Whether ``{name}`` is in a template. Raises BadRequestError as :func:`compile_template`."""
    return any(part[0] == name for part in compile_template(template) if isinstance(part, tuple))


def signed_text(
    template: str, request: WebhookRequest, *, timestamp: str = "", delivery_id: str = ""
) -> bytes:
    """What is signed of a request: the body as it came, all else as UTF-8.

    ``{decoded_url}`` has its percent encoding undone, ``{path}`` is the path with its query, and
    ``{field:PATH}`` a text or whole number at a dotted path of a JSON body.

    Raises:
        SignatureError: a header, query parameter or field that is signed is missing.
    """
    return b"".join(
        part.encode()
        if isinstance(part, str)
        else _filled(part[0], part[1], request, timestamp, delivery_id)
        for part in compile_template(template)
    )


def _filled(
    name: str, place: str, request: WebhookRequest, timestamp: str, delivery_id: str
) -> bytes:
    if name == "body":
        return request.body
    if name == "timestamp":
        text = timestamp
    elif name == "id":
        text = delivery_id
    elif name == "method":
        text = request.method
    elif name == "url":
        text = request.url
    elif name == "decoded_url":
        text = unquote(request.url)
    elif name == "path":
        text = "/" + request.url.partition("://")[2].partition("/")[2]
    elif name == "header":
        text = request.single(place)
    elif name == "query":
        text = request.query(place)
        if not text:
            raise SignatureError(f"the query has no {place}, which is signed")
    else:
        text = word_at(request.json(), place)
        if not text:
            raise SignatureError(f"the body has no {place}, which is signed")
    return text.encode("utf-8", "surrogatepass")
