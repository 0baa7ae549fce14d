"""Dead letters, as people look at them: list, show, retry, discard."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from hookstream.app import metrics
from hookstream.app.errors import ConflictError
from hookstream.app.failures.failed_events import SEPARATOR, partition_named_in
from hookstream.app.failures.held_letters import held_letter
from hookstream.app.ids import (
    DEFAULT_TENANT,
    event_time_ms,
    own_tool_id,
    partition_of_event,
)
from hookstream.app.keyring.error_texts import CLEAR, ErrorTexts
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.stores.events import content_out, payload_out
from hookstream.app.stores.holds import HoldStore, refuse
from hookstream.app.streams.lag import STREAMS
from hookstream.codecs.envelope import decode_event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import Finished, decode_routed
from hookstream.codecs.sealed import update_place

__all__ = ["DeadLetterFilter", "DeadLetters", "LetterPage", "Place"]

#: Letters in one round trip.
PAGE = 100
#: Letters that one look for those that a filter wants goes through.
LOOKED_AT = 5_000
#: Letters that are changed at once: each is a round trip of its own.
CHANGED_AT_ONCE = 32
ATTEMPT = b"attempt:"
#: What a list shows of a letter, and whose it is.
SHOWN: Final = tuple(
    name.encode()
    for name in (
        "tenant", "event_id", "tool_id", "type", "replay_id", "channel", "state", "stage", "error",
        "attempts", "first_failed_ms", "last_failed_ms",
    )
)  # fmt: skip

#: Where a list goes on: time (ms) and id of a letter.
Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters of a tenant; None means any. ``tool`` is the tenant's own id of it."""

    tool: str | None = None
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, letter: dict[str, Any]) -> bool:
        """Whether a letter of :meth:`DeadLetters.find` is meant; times are its last failure's."""
        at = datetime.fromisoformat(letter["last_failed_at"])
        return (
            (self.tool is None or letter["tool_id"] == self.tool)
            and (self.stage is None or letter["stage"] == self.stage)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
        )


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters that were found, and where to go on; None where that was all."""

    letters: list[dict[str, Any]]
    next: Place | None


class DeadLetters:
    """Reads letters of all partitions; changes them by scripts, each all or none."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        partitions: int,
        payloads: Payloads,
        holds: HoldStore | None = None,
        errors: ErrorTexts = CLEAR,
    ) -> None:
        """``holds``: what nobody throws away; ``errors``: opens what is said of failures."""
        self._errors = errors
        self._holds = holds
        self._redis = redis
        self._scripts = scripts
        self._partitions = partitions
        self._payloads = payloads

    async def find(
        self,
        tenant: str,
        wanted: DeadLetterFilter,
        limit: int,
        before: Place | None = None,
        looked_at: int = LOOKED_AT,
    ) -> LetterPage:
        """Dead letters of a tenant, the newest failure first, without payloads.

        ``before`` is the place of the page before. At most ``looked_at`` letters (and what else
        failed in the same millisecond) are looked at: where that ends it, ``next`` is where to go
        on, with however few were found, and names no letter: it might be another tenant's.
        Entries that could not even be read belong to no tenant and are shown to the default one,
        whose is the installation, without content.
        """
        found: list[dict[str, Any]] = []
        looked = 0
        while page := await self._page(before):
            for at, name, letter in page:
                if looked >= looked_at and before is not None and at < before[0]:
                    metrics.SCANS_CUT.labels(what="dead-letters").inc()
                    # below all of that millisecond
                    return LetterPage(found, (before[0], ""))
                before, looked = (at, name), looked + 1
                if letter is None or _owner(letter.get(b"tenant")) != tenant:
                    continue
                shown = letter_out(name, letter)
                if wanted.matches(shown):
                    shown["error"] = await self._errors.shown(tenant, shown["error"])
                    found.append(shown)
                    if len(found) == limit:
                        return LetterPage(found, before)
        return LetterPage(found, None)

    async def _page(self, before: Place | None) -> list[tuple[int, str, dict[bytes, bytes] | None]]:
        """The next letters in the order of all partitions; None for one that is no more."""
        places = await self._places(before)
        pipe = self._redis.pipeline(transaction=False)
        for _, name, number in places:
            # not the entry itself, which may be a megabyte
            pipe.hmget(keys.failed_event(number, name), SHOWN)
        found = await pipe.execute() if places else []
        letters = [
            {field: value for field, value in zip(SHOWN, values, strict=True) if value is not None}
            for values in found
        ]
        return [
            (at, name, letter or None)
            for (at, name, _), letter in zip(places, letters, strict=True)
        ]

    async def _places(self, before: Place | None) -> list[tuple[int, str, int]]:
        """The next (ms, letter, partition), the newest first, at most :data:`PAGE`."""
        top = "+inf" if before is None else str(before[0])
        rows: list[tuple[int, str, int]] = []
        offsets = dict.fromkeys(range(self._partitions), 0)
        #: Below the last row of a full reply of one partition are others of it.
        horizon: tuple[int, str, int] = (-1, "", 0)
        while offsets:
            pipe = self._redis.pipeline(transaction=False)
            for number, offset in offsets.items():
                pipe.zrevrangebyscore(
                    keys.dead(number), top, "-inf", start=offset, num=PAGE, withscores=True
                )
            replies = dict(zip(offsets, await pipe.execute(), strict=True))
            offsets = {number: offset + PAGE for number, offset in offsets.items()}
            for number, reply in replies.items():
                read = [(int(score), name.decode(), number) for name, score in reply]
                # many may have failed in one millisecond
                new = [row for row in read if before is None or row[:2] < before]
                rows += new
                if new or len(read) < PAGE:
                    del offsets[number]
                if new and len(read) == PAGE:
                    horizon = max(horizon, read[-1])
        return sorted((row for row in rows if row >= horizon), reverse=True)[:PAGE]

    async def get(self, tenant: str, letter_id: str) -> dict[str, Any] | None:
        """One letter with its history and payload, dead or waiting; None where there is none."""
        letter = await self._redis.hgetall(keys.failed_event(self._where(letter_id), letter_id))
        if not letter or _owner(letter.get(b"tenant")) != tenant:
            return None
        shown = letter_out(letter_id, letter)
        trace = letter.get(b"traceback", b"").decode("utf-8", "replace")
        return {
            **shown,
            "error": await self._errors.shown(tenant, shown["error"]),
            "traceback": await self._errors.shown(tenant, trace) or None,
            "history": await self._history(tenant, letter),
            **await self._content(letter),
        }

    async def attempts(self, tenant: str, letter_id: str) -> list[dict[str, Any]]:
        """The attempts of a failed event that there is still a letter of; none without one."""
        letter = await self._redis.hgetall(keys.failed_event(self._where(letter_id), letter_id))
        if not letter or _owner(letter.get(b"tenant")) != tenant:
            return []
        return await self._history(tenant, letter)

    async def _history(self, tenant: str, letter: dict[bytes, bytes]) -> list[dict[str, Any]]:
        """Every attempt that failed, the first one first."""
        return [
            {**row, "error": await self._errors.shown(tenant, row["error"])}
            for row in history(letter)
        ]

    async def _content(self, letter: dict[bytes, bytes]) -> dict[str, Any]:
        """Payload and headers, where the entry and its payload can be read.

        Of a stream channel of one's own: the entry as it stands there.
        """
        raw, channel = letter.get(b"raw", b""), letter.get(b"channel", b"").decode()
        own = channel not in STREAMS
        if own and b"event_id" not in letter:
            return payload_out(raw)
        try:
            routed = not own and channel != "events"
            event = decode_routed(raw).event if routed else decode_event(raw)
            if isinstance(event, Finished):
                # its payload stayed with the event: this is what its contexts would have read
                place = update_place(event.tenant, event.event_id)
                update = await self._payloads.opened(event.updates[0], place)
                return {} if update is None else payload_out(update)
            [readable] = await self._payloads.open([event])
        except CodecError:
            return {}
        return content_out(readable) if readable else {}

    async def retry(self, tenant: str, letter_ids: Sequence[str]) -> int:
        """Let dead letters be tried again at once; returns how many of them were dead."""
        return await self._each("retry_letter", tenant, letter_ids, (keys.dead, keys.retries))

    async def discard(self, tenant: str, letter_ids: Sequence[str]) -> int:
        """Throw dead letters away; returns how many of them were dead.

        Raises:
            ConflictError: one is under a legal hold; none is thrown away then.
            UnavailableError: it cannot be asked what is held.
        """
        holds = await self._holds.in_force() if self._holds else ()
        for letter_id in letter_ids if holds else ():
            key = keys.failed_event(self._where(letter_id), letter_id)
            if hold := await held_letter(self._redis, key, holds):
                raise ConflictError(refuse(hold, f"the dead letter {letter_id}"))
        return await self._each("discard_letter", tenant, letter_ids, (keys.dead, keys.pins))

    async def _each(self, script: str, tenant: str, letter_ids: Sequence[str], sets: Any) -> int:
        changed = 0
        for at in range(0, len(letter_ids), CHANGED_AT_ONCE):
            some = [(one, self._where(one)) for one in letter_ids[at : at + CHANGED_AT_ONCE]]
            pipe = self._redis.pipeline(transaction=False)
            for letter_id, number in some:
                pipe.hget(keys.failed_event(number, letter_id), "tenant")
            calls = [
                self._scripts.call(
                    script,
                    [*(name(number) for name in sets), keys.failed_event(number, letter_id)],
                    [letter_id],
                )
                for (letter_id, number), owner in zip(some, await pipe.execute(), strict=True)
                if _owner(owner) == tenant
            ]
            changed += sum(map(int, await asyncio.gather(*calls)))
        return changed

    def _where(self, letter_id: str) -> int:
        """The partition of a letter; 0 where the id is none of ours, which finds nothing there."""
        number = partition_named_in(letter_id)
        if number is None:
            try:
                event_time_ms(letter_id.partition(SEPARATOR)[0])
            except ValueError:
                return 0
            number = partition_of_event(letter_id)
        return number if number < self._partitions else 0


def _owner(tenant: bytes | None) -> str:
    return DEFAULT_TENANT if tenant is None else tenant.decode()


def letter_out(letter_id: str, letter: dict[bytes, bytes]) -> dict[str, Any]:
    """A letter as the API shows it."""

    def text(name: str) -> str:
        return letter.get(name.encode(), b"").decode("utf-8", "replace")

    return {
        "letter_id": letter_id,
        "event_id": text("event_id") or None,
        "tool_id": own_tool_id(text("tool_id")),
        "type": text("type"),
        "replay_id": text("replay_id") or None,
        "channel": text("channel"),
        "state": text("state"),
        "stage": text("stage"),
        "error": text("error"),
        "attempts": int(text("attempts") or 0),
        "first_failed_at": _time(text("first_failed_ms")),
        "last_failed_at": _time(text("last_failed_ms")),
    }


def history(letter: dict[bytes, bytes]) -> list[dict[str, Any]]:
    """Every attempt that failed, the first one first; what is said of it as it is kept."""
    numbers = sorted(int(name[len(ATTEMPT) :]) for name in letter if name.startswith(ATTEMPT))
    rows = []
    for number in numbers:
        record = orjson.loads(letter[ATTEMPT + str(number).encode()])
        rows.append(
            {
                "attempt": number,
                "at": _time(str(record["at_ms"])),
                "stage": record["stage"],
                "error": record["error"],
            }
        )
    return rows


def _time(milliseconds: str) -> str:
    return datetime.fromtimestamp(int(milliseconds or 0) / 1000, UTC).isoformat()
