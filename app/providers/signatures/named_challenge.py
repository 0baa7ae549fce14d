"""How a sender that nobody has a file for tries out an address, as a tool's options say it."""

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

import orjson

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["AS_HEADER", "Place", "fill_answer", "is_token", "parse_answer", "parse_place"]

Kind = Literal["header", "query", "field"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: In place of a template: the header that the challenge came in, with the same value.
AS_HEADER: Final = "header"
#: What a challenge may be where an HMAC of it is given away: whoever asks may choose it, so it must
#: be nothing that is accepted as a signed body.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,256}")
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: Headers that mean something to whoever gets an answer: nothing of a stranger goes back in them.
_MEANT: Final = re.compile(
    r"(?i:content-.*|access-control-.*|cross-origin-.*|sec-.*|proxy-.*|.*cookie|authorization|"
    r"location|refresh|link|connection|keep-alive|transfer-encoding|trailer|upgrade|host|date|"
    r"server|vary|via|warning|age|cache-control|expires|etag|last-modified|retry-after|"
    r"www-authenticate|clear-site-data|strict-transport-security|x-content-type-options|"
    r"x-frame-options|referrer-policy|hookstream-.*)"
)
_HOLE: Final = re.compile(r"\{(challenge|hmac)\}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text of a request stands: in a header, the query, or a JSON body's field."""

    kind: Kind
    name: str

    def text(self, request: WebhookRequest) -> str:
        """The text; "" where there is none."""
        if self.kind == "header":
            values = request.headers.get(self.name.lower(), ())
            return values[0] if len(values) == 1 else ""
        if self.kind == "query":
            return request.query(self.name)
        return text_at(request.json(), self.name)


def is_token(text: str) -> bool:
    """Whether a challenge is one whose HMAC may be given away."""
    return _TOKEN.fullmatch(text) is not None


def parse_place(text: str, *, kinds: tuple[Kind, ...] = KINDS) -> Place:
    """``header:NAME``, ``query:NAME`` or ``field:PATH``.

    Raises:
        BadRequestError: it is none of ``kinds``.
    """
    kind, _, name = text.partition(":")
    for known in kinds:
        if kind == known and name and (kind != "header" or HEADER_NAME.fullmatch(name)):
            if kind == "header" and _MEANT.fullmatch(name):
                raise BadRequestError(f"header:{name}: this header has a meaning of its own")
            return Place(known, name)
    forms = {"header": "header:NAME", "query": "query:NAME", "field": "field:PATH"}
    raise BadRequestError("one of " + ", ".join(forms[kind] for kind in kinds))


def parse_answer(template: str, place: Place) -> tuple[str, ...]:
    """The names that a template of an answer fills in, of ``challenge`` and ``hmac``.

    Raises:
        BadRequestError: it fills in nothing, or it is JSON and cannot be read.
    """
    if template == AS_HEADER:
        if place.kind != "header":
            raise BadRequestError("header: the challenge does not come in one")
        return ("challenge",)
    names = tuple(_HOLE.findall(template))
    if not names:
        raise BadRequestError(
            'header, or a text with {challenge} or {hmac} in it, as {"challengeResponse": "{hmac}"}'
        )
    if _is_json(template):
        try:
            orjson.loads(template)
        except ValueError as error:
            raise BadRequestError(f"it begins as JSON, and is none: {error}") from error
    return names


def fill_answer(template: str, challenge: str, digest: str) -> tuple[bytes, bool]:
    """A template with ``challenge`` and its HMAC filled in, and whether it is JSON."""
    is_json = _is_json(template)
    values = {"challenge": challenge, "hmac": digest}

    def value(hole: re.Match[str]) -> str:
        text = values[hole[1]]
        return orjson.dumps(text)[1:-1].decode() if is_json else text

    return _HOLE.sub(value, template).encode(), is_json


def _is_json(template: str) -> bool:
    # {challenge} alone is text
    return template.startswith("{") and not _HOLE.match(template)
