"""The way from a queue, or a topic, into Redis: what a receiver's door asks, and no signature.

Who may write into a queue is for its own rights to say. What comes again is the same event, since
its id follows from the message; what can be no event is kept as a refusal of its tool. Nothing may
be deleted or committed elsewhere before :meth:`QueueDoor.take` has returned, or Redis has the
refusal.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from prometheus_client import Counter

from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import (
    HookstreamError,
    LimitError,
    PayloadTooLargeError,
    SuspendedError,
    UnavailableError,
)
from hookstream.app.ingest.acceptance import Acceptance
from hookstream.app.ingest.appender import Appender
from hookstream.app.ingest.events import Incoming, incoming
from hookstream.app.ingest.refusals import Refusal, Refusals
from hookstream.app.providers import PROVIDERS
from hookstream.app.queues.states import QueueState
from hookstream.app.queues.unpacked import Unpacked
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.settings import Settings

__all__ = ["Arrival", "Limit", "QueueDoor", "QueueDoors", "bits_of"]

#: How long is waited for what only others can change: a quota, a tenant, the spool.
PATIENCE_SECONDS: Final = 5.0
#: How often the spool is looked at while it has events of messages in hand.
SPOOL_SECONDS: Final = 0.2


class Limit(Protocol):
    """What a tool, and its tenant, may send."""

    def look_at(self, tool: Tool) -> None:
        """Raises LimitError where there is nothing left; nothing is taken."""

    def take_of(self, tool: Tool, events: int = 1, size: int = 0) -> None:
        """Take some. Raises LimitError."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that has come.

    ``name``: what it is called in the log. ``method`` and ``place``: where it came from, for a
    refusal. ``source``: the event's. ``at_ms``: when it was sent (Unix ms), 0 where nobody says.
    ``bits``: see :func:`bits_of`. ``headers``: its sender's own, by names in lower case.
    """

    name: str
    method: str
    place: str
    source: str
    body: str | bytes
    at_ms: int
    bits: int
    headers: Mapping[str, str] = field(default_factory=dict)


def bits_of(name: str) -> int:
    """What tells a message's events from others of its millisecond: the same each time it comes.

    ``name``: of the message and of where it is, in the whole world.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 2


class QueueDoors:
    """What the doors of all tools' queues share in this process."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Callable[[], Catalog],
        acceptance: Acceptance,
        appender: Appender,
        limit: Limit,
        refusals: Refusals,
        most_bytes: Callable[[Tool], int],
    ) -> None:
        """``most_bytes``: of a webhook of a tool's provider."""
        self.settings = settings
        self.catalog = catalog
        self.acceptance = acceptance
        self.appender = appender
        self.limit = limit
        self.refusals = refusals
        self.most_bytes = most_bytes

    def of(self, tool_id: str, state: QueueState) -> "QueueDoor":
        """The door of one tool's queue."""
        return QueueDoor(self, tool_id, state)


class QueueDoor:
    """Lets in what comes out of one tool's queue."""

    def __init__(self, doors: QueueDoors, tool_id: str, state: QueueState) -> None:
        self._doors = doors
        self.tool_id = tool_id
        self.state = state

    def tool(self) -> Tool:
        """The tool as it is now. Raises UnavailableError where there is none any more."""
        tool = self._doors.catalog().tools.get(self.tool_id)
        if tool is None:
            raise UnavailableError("there is no such tool any more")
        return tool

    def waits(self) -> tuple[str, str] | None:
        """What nothing is taken for now: its kind, and in words. What is not taken stays there."""
        if self._doors.appender.has_spooled:
            return "spool", "events wait in the spool here: see parts `spool` and `redis`"
        try:
            self._check(self.tool())
            self._doors.limit.look_at(self.tool())
        except HookstreamError as error:
            return error.slug, str(error)
        return None

    async def wait(self) -> None:
        """Wait a while for what is waited for."""
        await asyncio.sleep(PATIENCE_SECONDS)

    def _check(self, tool: Tool) -> None:
        if trouble := self._doors.catalog().tenant(tool.tenant).trouble:
            raise SuspendedError(trouble)

    async def take(self, arrival: Arrival, unpack: Callable[[], Unpacked]) -> None:
        """Have a message's events in Redis; waits for as long as what that takes is not there.

        ``unpack`` raises BadRequestError where it is not of the source's format.

        Raises:
            HookstreamError: it can be no event, however often it is tried: see :meth:`refuse`.
        """
        failures = 0
        came: Incoming | None = None
        while True:
            try:
                tool = self.tool()
                self._check(tool)
                if came is None:
                    came = self._incoming(tool, arrival, unpack)
                now_ms = arrival.at_ms or time.time_ns() // 1_000_000
                await self._doors.acceptance.accept(came, tool, now_ms, bits=arrival.bits)
                # in the spool it is durable, but another receiver would let what is behind it
                # overtake it
                while self._doors.appender.has_spooled:  # noqa: ASYNC110
                    await asyncio.sleep(SPOOL_SECONDS)
            except (LimitError, SuspendedError, UnavailableError) as error:
                failures += 1
                self.state.troubled(error.slug, str(error))
                wait = backoff_seconds(failures)
                if isinstance(error, LimitError):
                    wait = max(wait, min(error.retry_after_seconds or 1.0, PATIENCE_SECONDS))
                await asyncio.sleep(wait)
            else:
                return

    def _incoming(self, tool: Tool, arrival: Arrival, unpack: Callable[[], Unpacked]) -> Incoming:
        """What is in a message, once its tool has room for that, which is taken."""
        doors, row = self._doors, PROVIDERS[tool.provider]
        size, most = len(arrival.body), doors.most_bytes(tool)
        if size > most:
            unit = "characters" if isinstance(arrival.body, str) else "bytes"
            raise PayloadTooLargeError(
                f"{size} {unit}, and a webhook of its provider has {most} at most"
            )
        found = unpack()
        row = found.row(row)
        found.check(row, tool.options)
        came = incoming(found.hook, row, doors.settings.max_batch_events, tool.options)
        doors.limit.take_of(tool, max(1, len(came.requests)), len(found.hook.body))
        return replace(came, source=arrival.source)

    async def refuse(
        self,
        arrival: Arrival,
        error: HookstreamError,
        refused: Counter | None,
        *,
        again: bool = False,
    ) -> bool:
        """Keep what can be no event as a refusal of its tool; whether Redis has that.

        ``refused`` counts it by tool and reason; None: it is counted. ``again``: it was kept when
        it came before.
        """
        tool = self._doors.catalog().tools.get(self.tool_id)
        if refused is not None:
            refused.labels(tool=self.tool_id, reason=error.slug).inc()
        if tool is None:
            return False
        if refused is not None:
            self._doors.refusals.count(tool, error.slug)
        if again:
            return True
        refusal = _refusal(arrival, tool, error)
        return await self._doors.refusals.keep_now(tool, refusal, error.title)


def _refusal(arrival: Arrival, tool: Tool, error: HookstreamError) -> Refusal:
    body = arrival.body
    if isinstance(body, str):
        body = body.encode(errors="replace")
    return Refusal(
        at_ms=time.time_ns() // 1_000_000,
        tool_id=tool.tool_id,
        status=error.status,
        reason=error.slug,
        detail=f"{arrival.name}: {error}",
        address="",
        method=arrival.method,
        origin="",
        path=arrival.place,
        headers={name: (value,) for name, value in arrival.headers.items()},
        body=body,
        body_bytes=len(body),
        whole=True,
    )
