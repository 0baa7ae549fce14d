"""Legal holds: what they cover is deleted by nothing, until somebody releases them.

They win over every time that something is kept, over trimming and over erasures. Whoever deletes
asks here first, and what is known here is seconds old at most: where PostgreSQL cannot say what is
held, nothing is deleted.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hookstream.app.ids import new_event_id, random_bits
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.postgres.sql import statement

__all__ = ["ALL_EVENTS", "Hold", "HoldStore", "held_events", "hold_against", "refuse"]

FIRST: Final = UUID(int=0)
LAST: Final = UUID(int=(1 << 128) - 1)
#: From the first to the last event that there can be.
ALL_EVENTS: Final = (FIRST, LAST)
#: What is known of holds is asked for again when it is older than this.
FRESH_SECONDS: Final = 1.0
#: Whether a feed has something of a hold; and of how many it is remembered.
FEED_SECONDS: Final = 60.0
MOST_FEEDS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. ``tool_id`` and ``context_id``: "" for any; events from first to last, both too."""

    hold_id: str
    tenant: str
    tool_id: str = ""
    context_id: str = ""
    first_event: UUID = FIRST
    last_event: UUID = LAST
    reason: str = ""
    placed_at: datetime | None = None
    released_at: datetime | None = None
    release_reason: str = ""

    @property
    def whole(self) -> bool:
        """Whether it holds all events, of whatever time."""
        return (self.first_event, self.last_event) == ALL_EVENTS


def hold_against(
    holds: Iterable[Hold],
    tenant: str,
    *,
    tool_id: str = "",
    context_id: str = "",
    events: tuple[UUID, UUID] = ALL_EVENTS,
) -> Hold | None:
    """The hold that keeps something from being deleted; None where it may go.

    ``tool_id``, ``context_id``: what is to go is theirs; "" where it may be anybody's of the
    tenant, as for an erasure of all that there is. ``events``: from which to which id (both too).
    A tool's name says nothing without its tenant: another one may have a tool of the same name.

    A hold of a context covers its feed. One of a tool, or of a range, covers events, and updates
    that tell of them; one of neither covers all of its tenant.
    """
    first, last = events
    for hold in holds:
        if hold.released_at is not None or hold.tenant != tenant:
            continue
        if hold.last_event < first or last < hold.first_event:
            continue
        if hold.context_id and context_id not in ("", hold.context_id):
            continue
        if hold.context_id and tool_id and not context_id:
            # events of a tool; what the context was told of them is its feed's
            continue
        if hold.tool_id and tool_id not in ("", hold.tool_id):
            continue
        return hold
    return None


def held_events(holds: Iterable[Hold], tenant: str, tool_id: str) -> list[tuple[UUID, UUID]]:
    """From which to which event nothing of a tool's goes."""
    return [
        (hold.first_event, hold.last_event)
        for hold in holds
        if hold_against([hold], tenant, tool_id=tool_id)
    ]


def _may_cover_feed(hold: Hold, context_id: str) -> bool:
    return hold.context_id in ("", context_id)


class HoldStore:
    """Holds in PostgreSQL, and those in force as this process knows them."""

    def __init__(self, postgres: Postgres, *, now: Callable[[], float] = time.monotonic) -> None:
        self._postgres = WholePostgres(postgres)
        self._now = now
        self._known: list[Hold] = []
        self._known_at = float("-inf")
        #: By hold and context: when it was asked whether the feed has something held, and whether.
        self._feeds: dict[tuple[str, str], tuple[float, bool]] = {}

    async def in_force(self) -> Sequence[Hold]:
        """All holds of now, of all tenants.

        Raises:
            UnavailableError: it cannot be said; then nothing may be deleted.
        """
        asked_at = self._now()
        if asked_at - self._known_at > FRESH_SECONDS:
            rows = await self._postgres.fetch(statement("holds_in_force"))
            self._known, self._known_at = [_hold(row) for row in rows], asked_at
        return self._known

    async def now(self) -> Sequence[Hold]:
        """As :meth:`in_force`, by asking at this moment. Raises UnavailableError."""
        self._known_at = float("-inf")
        return await self.in_force()

    async def on_tenant(self, tenant: str) -> list[str]:
        """Ids of the holds on anything of a tenant: with one of them it is not deleted."""
        return [hold.hold_id for hold in await self.now() if hold.tenant == tenant]

    async def check(self, tenant: str, **what: Any) -> Hold | None:
        """:func:`hold_against` by the holds of this moment.

        Raises:
            UnavailableError: it cannot be said.
        """
        return hold_against(await self.now(), tenant, **what)

    async def of_feed(self, holds: Iterable[Hold], tenant: str, context_id: str) -> Hold | None:
        """The hold that keeps a context's feed; None where it may be trimmed or deleted.

        One of a tool, or of a range, does where any of its events came into the feed, by the event
        log; that is asked for again once a minute.

        Raises:
            UnavailableError: it cannot be asked.
        """
        for hold in holds:
            if hold.tenant != tenant or not _may_cover_feed(hold, context_id):
                continue
            if (not hold.tool_id and hold.whole) or await self._has(hold, context_id):
                return hold
        return None

    async def _has(self, hold: Hold, context_id: str) -> bool:
        name = (hold.hold_id, context_id)
        at, known = self._feeds.get(name, (float("-inf"), False))
        # what came into a feed has come
        if not known and self._now() - at > FEED_SECONDS:
            row = await self._postgres.fetchrow(
                statement("feed_has_held"),
                hold.tenant,
                context_id,
                hold.tool_id or None,
                hold.first_event,
                hold.last_event,
            )
            known = bool(row and row["held"])
            if len(self._feeds) >= MOST_FEEDS:
                self._feeds.clear()
            self._feeds[name] = self._now(), known
        return known

    async def place(
        self,
        tenant: str,
        *,
        tool_id: str,
        context_id: str,
        events: tuple[UUID, UUID],
        reason: str,
        now_ms: int,
    ) -> Hold:
        """Place a hold; it is in force everywhere within some seconds.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        hold_id = new_event_id(now_ms, 0, random_bits())
        row = await self._postgres.fetchrow(
            statement("place_hold"), UUID(hold_id), tenant, tool_id, context_id, *events, reason
        )
        self._known_at = float("-inf")
        assert row is not None
        return _hold(row)

    async def release(self, tenant: str, hold_id: str, reason: str) -> Hold | None:
        """Release one; None where there is none of this id in force.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        row = await self._postgres.fetchrow(
            statement("release_hold"), tenant, UUID(hold_id), reason
        )
        self._known_at = float("-inf")
        return _hold(row) if row else None

    async def find(self, tenant: str, hold_id: str) -> Hold | None:
        """One of a tenant's, released or not. Raises UnavailableError."""
        rows = await self._postgres.fetch(statement("holds"), tenant, UUID(hold_id), None, 1)
        return _hold(rows[0]) if rows else None

    async def page(self, tenant: str, below: str | None, limit: int) -> list[Hold]:
        """Those of a tenant, the newest first, ``below`` an id. Raises UnavailableError."""
        rows = await self._postgres.fetch(
            statement("holds"), tenant, None, UUID(below) if below else None, limit
        )
        return [_hold(row) for row in rows]


def _hold(row: Any) -> Hold:
    return Hold(
        str(row["hold_id"]),
        row["tenant"],
        row["tool_id"],
        row["context_id"],
        _uuid(row["first_event"]),
        _uuid(row["last_event"]),
        row["reason"],
        row["placed_at"],
        row["released_at"],
        row["release_reason"],
    )


def _uuid(value: Any) -> UUID:
    # asyncpg's own class compares with itself only by number; ours is plain
    return UUID(int=value.int)


def refuse(hold: Hold, what: str) -> str:
    """A sentence for who wanted to delete something that is held."""
    return (
        f"{what} is under the legal hold {hold.hold_id} ({hold.reason}): it can be deleted once "
        f"`hookstream holds release {hold.hold_id}` has released that"
    )
