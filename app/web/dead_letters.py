"""``/api/v1/dead-letters``: what failed for good, and what to do about it."""

from collections.abc import Sequence

from aiohttp import web

from hookstream.app.errors import BadRequestError, ConflictError, NotFoundError
from hookstream.app.failures.dead_letters import DeadLetterFilter, DeadLetters, Place
from hookstream.app.settings import Settings
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, read_model
from hookstream.app.web.events import check_query, note_read, parse_limit, parse_time
from hookstream.app.web.models.dead_letters import (
    LETTER_QUERY,
    LetterChanged,
    LetterFilterIn,
    LetterList,
    LetterOut,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.recorded import tell
from hookstream.app.web.routes import Route

__all__ = ["LetterViews"]

LETTER = "/api/v1/dead-letters/{letter_id}"

#: Most letters that one call by filter changes; the answer says whether there are more.
MAX_BULK = 10_000
#: And most that it looks at for them.
BULK_LOOKED_AT = 50_000


class LetterViews:
    """List, show, retry and discard dead letters."""

    def __init__(self, *, settings: Settings, dead_letters: DeadLetters, trail: AuditTrail) -> None:
        self._trail = trail
        self._settings = settings
        self._dead_letters = dead_letters

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/dead-letters",
                self.list,
                "List dead letters, the newest failure first",
                gives=LetterList,
                errors=(400,),
                query=LETTER_QUERY,
            ),
            Route(
                "POST",
                "/api/v1/dead-letters/retry",
                self.retry_many,
                "Try dead letters again, by filter",
                takes=LetterFilterIn,
                gives=LetterChanged,
                action="dead_letter.retried",
                status=202,
                errors=(400,),
            ),
            Route(
                "POST",
                "/api/v1/dead-letters/discard",
                self.discard_many,
                "Throw dead letters away, by filter",
                takes=LetterFilterIn,
                gives=LetterChanged,
                action="dead_letter.discarded",
                errors=(400,),
            ),
            Route(
                "GET",
                LETTER,
                self.get,
                "Show a dead letter, its history and payload",
                gives=LetterOut,
                errors=(400, 404),
            ),
            Route(
                "POST",
                LETTER + "/retry",
                self.retry,
                "Try a dead letter again, now",
                gives=LetterChanged,
                action="dead_letter.retried",
                status=202,
                errors=(400, 404, 409),
            ),
            Route(
                "DELETE",
                LETTER,
                self.discard,
                "Throw a dead letter away",
                status=204,
                action="dead_letter.discarded",
                errors=(400, 404, 409),
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of dead letters, the newest failure first."""
        query = request.query
        check_query(query, LETTER_QUERY)
        limit = parse_limit(query.get("limit", "50"))
        wanted = DeadLetterFilter(
            query.get("tool"),
            query.get("stage"),
            parse_time("since", query.get("since")),
            parse_time("until", query.get("until")),
        )
        page = await self._dead_letters.find(
            request[TENANT_KEY], wanted, limit, _cursor(query.get("cursor"))
        )
        return json_response({"letters": page.letters, "cursor": _cursor_of(page.next)})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One letter with its history and payload."""
        letter_id = _id(request)
        letter = await self._dead_letters.get(request[TENANT_KEY], letter_id)
        if letter is None:
            raise NotFoundError(f"there is no dead letter {letter_id}")
        event_id = letter["event_id"]
        await note_read(self._trail, request[CALLER_KEY], "dead_letter", letter_id, event_id)
        return json_response(letter)

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Try one letter again, now."""
        letter_id = await self._dead(request)
        await self._dead_letters.retry(request[TENANT_KEY], [letter_id])
        return json_response(_counts(1, 1, None), status=202)

    async def discard(self, request: web.Request) -> web.StreamResponse:
        """Throw one letter away."""
        letter_id = await self._dead(request)
        await self._dead_letters.discard(request[TENANT_KEY], [letter_id])
        return web.Response(status=204)

    async def retry_many(self, request: web.Request) -> web.StreamResponse:
        """Try again what a filter matches."""
        names, events, cursor = await self._matching(request)
        changed = await self._dead_letters.retry(request[TENANT_KEY], names)
        _tell_many(request, events, changed)
        return json_response(_counts(len(names), changed, cursor), status=202)

    async def discard_many(self, request: web.Request) -> web.StreamResponse:
        """Throw away what a filter matches."""
        names, events, cursor = await self._matching(request)
        changed = await self._dead_letters.discard(request[TENANT_KEY], names)
        _tell_many(request, events, changed)
        return json_response(_counts(len(names), changed, cursor))

    async def _matching(
        self, request: web.Request
    ) -> tuple[Sequence[str], Sequence[str], str | None]:
        """Letters that a call is about, their events, and the cursor of the next call, if any."""
        given = await read_model(self._settings, request, LetterFilterIn)
        if not given.model_fields_set - {"cursor"}:
            raise BadRequestError(
                'say which: at least one of tool, stage, since, until; {"until": "…now…"} is all'
            )
        wanted = DeadLetterFilter(
            given.tool,
            given.stage,
            parse_time("since", given.since),
            parse_time("until", given.until),
        )
        page = await self._dead_letters.find(
            request[TENANT_KEY], wanted, MAX_BULK, _cursor(given.cursor), BULK_LOOKED_AT
        )
        events = sorted({letter["event_id"] for letter in page.letters if letter["event_id"]})
        # before anything is done: it may break off
        _tell_many(request, events, None)
        return [letter["letter_id"] for letter in page.letters], events, _cursor_of(page.next)

    async def _dead(self, request: web.Request) -> str:
        letter_id = _id(request)
        letter = await self._dead_letters.get(request[TENANT_KEY], letter_id)
        if letter is None:
            raise NotFoundError(f"there is no dead letter {letter_id}")
        if letter["state"] != "dead":
            raise ConflictError(f"{letter_id} is not dead, it is {letter['state']}")
        events = [letter["event_id"]] if letter["event_id"] else []
        tell(request, "dead_letter", letter_id, events=events)
        return letter_id


def _id(request: web.Request) -> str:
    letter_id = request.match_info["letter_id"]
    if len(letter_id) > 200 or not letter_id.isascii() or not letter_id.isprintable():
        raise BadRequestError("letter_id: an event's id, or a letter_id of the list")
    return letter_id


def _cursor(text: str | None) -> Place | None:
    if text is None:
        return None
    at_ms, dot, letter_id = text.partition(".")
    if not (dot and at_ms.isascii() and at_ms.isdecimal() and len(at_ms) < 16):
        raise BadRequestError("cursor: from the page before")
    return int(at_ms), letter_id


def _cursor_of(place: Place | None) -> str | None:
    return f"{place[0]}.{place[1]}" if place else None


def _tell_many(request: web.Request, events: Sequence[str], changed: int | None) -> None:
    after = None if changed is None else {"changed": changed}
    tell(request, "dead_letter", "by filter", events=list(events), after=after)


def _counts(matched: int, changed: int, cursor: str | None) -> dict[str, object]:
    return {
        "matched": matched,
        "changed": changed,
        "more": cursor is not None,
        "cursor": cursor,
    }
