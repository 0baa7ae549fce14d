"""Resets: what a client is told when the numbers that it has are no more, since Redis lost data."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.feeds.feed import Feeds, FeedUpdate
from hookstream.app.feeds.generations import Generations, Place
from hookstream.app.feeds.truncation import Truncated, Truncations
from hookstream.app.ids import own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement

__all__ = ["Gap", "Page", "Reset", "Resets", "Standing", "unbroken"]

logger = get_logger(__name__)

#: Missing updates that a reset names; it counts all of them.
MAX_NAMED = 100
#: How long a client waits for the event log to say what is missing.
WAIT_SECONDS = 2.0
#: Until a feed is looked at again whose owner has to say first that what is there is all.
LOOK_SECONDS = 0.2

Who = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Reset:
    """That a feed goes on elsewhere, and what is known to be missing in between.

    ``missing_count``: None where the event log did not answer.
    """

    context_id: str
    generation: int
    previous_generation: int
    after: int
    missing: Sequence[Mapping[str, Any]] = ()
    missing_count: int | None = None

    def out(self) -> dict[str, Any]:
        """As a client gets it."""
        return {
            "type": "reset",
            "context_id": self.context_id,
            "generation": self.generation,
            "previous_generation": self.previous_generation or None,
            "after": self.after,
            "missing": list(self.missing),
            "missing_count": self.missing_count,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a client stands in a feed that ends at ``last``, and what it has to be told first."""

    generations: Generations
    last: int
    after: int
    reset: Reset | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """What is told where updates are missing between two numbers, in this order."""

    truncated: Truncated | None = None
    reset: Reset | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Updates as JSON values, and where to go on; ``truncated`` and ``reset`` come before them."""

    updates: list[dict[str, Any]]
    generation: int
    after: int
    last: int
    reset: Reset | None = None
    truncated: Truncated | None = None

    def told(self) -> dict[str, Any]:
        """What comes before the updates, where there is anything."""
        told = {"truncated": self.truncated, "reset": self.reset}
        return {name: what.out() for name, what in told.items() if what}


class Resets:
    """Finds out where clients stand. What is missing is asked of the event log only then."""

    def __init__(self, feeds: Feeds, postgres: Postgres) -> None:
        self._feeds = feeds
        self._postgres = postgres
        self._truncations = Truncations(feeds, postgres)

    async def stand(self, who: Who, after: int, generation: int = 0) -> Standing | None:
        """Where a client goes on that has come to ``after`` of ``generation`` (0: it was not told).

        None where that cannot be said yet: its number is not here, and nobody who remembers more
        has looked at the feed. Whoever is told that numbers are lost waits until its owner has
        looked once more.

        Raises:
            redis.exceptions.RedisError: the feed could not be read.
        """
        first = end = await self._feeds.look(*who)
        while after > end.last and (
            end.generations.place(after, generation, end.last).reset or not end.generations.begun
        ):
            if not end.settled:
                return None
            if end.renewed_ms != first.renewed_ms:
                break
            # its lease may be of a copy that is older than its last look: the next one tells
            await asyncio.sleep(LOOK_SECONDS)
            end = await self._feeds.look(*who)
        generations, last = end.generations, end.last
        # what has come while this waited is new to it
        place = generations.place(after, generation, min(first.last, last))
        if not place.reset:
            return Standing(generations, last, after)
        return Standing(
            generations,
            last,
            *await self._replaced(who, place, generations, last, after, generation),
        )

    async def _replaced(
        self,
        who: Who,
        place: Place,
        generations: Generations,
        last: int,
        after: int,
        generation: int,
    ) -> tuple[int, Reset]:
        to = place.after
        unseen, _ = await self._missing(who, last, None)
        if place.reset == "beyond" and unseen != 0:
            # numbers that Redis does not know were given, and perhaps given again since
            to = min(to, generations.start - 1)
        count, missing = await self._missing(who, max(after, last), None)
        previous = generation or generations.at(after)
        return to, Reset(who[1], generations.current, previous, to, missing, count)

    async def skip(
        self, who: Who, after: int, to: int, generations: Generations, generation: int = 0
    ) -> Gap:
        """What is told a client at ``after`` where the updates up to ``to`` are gone from a feed.

        Their time was over, they were deleted, or a generation begins behind them. A client that
        has had nothing before is told of what went only.
        """
        truncated = await self._truncations.between(who, after, to, generations.at(after))
        reached = truncated.to if truncated else after
        if reached == to and generations.at(to) == generations.at(after):
            return Gap(truncated)
        # what went in time is no loss
        count, missing = await self._missing(who, reached, to + 1)
        if not after and not generation and count == 0:
            return Gap(truncated)
        previous = generations.at(after) or generation
        reset = Reset(who[1], generations.at(to), previous, to, missing, count)
        return Gap(truncated, reset)

    async def truncated(self, who: Who, after: int, to: int) -> Truncated | None:
        """What of the updates past ``after`` and up to ``to`` went since its time was over."""
        if to <= after:
            return None
        end = await self._feeds.look(*who)
        return await self._truncations.between(who, after, to, end.generations.at(after))

    async def page(self, who: Who, after: int, generation: int, limit: int) -> Page:
        """The next updates past ``after``, none of two generations.

        Raises:
            redis.exceptions.RedisError: the feed could not be read.
        """
        standing = await self.stand(who, after, generation)
        if standing is None:
            return Page([], generation, after, after)
        generations, reset = standing.generations, standing.reset
        after, truncated = standing.after, None
        while True:
            into = generations.crossing(after)
            before = into.start if into else None
            updates = unbroken(await self._feeds.read(*who, after, limit, before=before))
            if updates and updates[0].seq != after + 1:
                gap = await self.skip(who, after, updates[0].seq - 1, generations, generation)
                if truncated and gap.truncated:
                    # of the next generation: the next page tells it
                    updates = []
                    break
                truncated, reset = truncated or gap.truncated, reset or gap.reset
                after = updates[0].seq - 1
            if updates or into is None or await self._feeds.holds(*who, after, into.start):
                break
            gap = await self.skip(who, after, into.start - 1, generations, generation)
            truncated, reset = truncated or gap.truncated, reset or gap.reset
            after = into.start - 1
        return Page(
            [update.values(generations.at(update.seq - 1)) for update in updates],
            generations.current,
            _reached(updates, after),
            standing.last,
            reset,
            truncated,
        )

    async def _missing(
        self, who: Who, after: int, before: int | None
    ) -> tuple[int | None, list[dict[str, Any]]]:
        """How many updates the event log has between two numbers, and the first of them."""
        query = tasks.awaited(
            "Resets.missing",
            self._postgres.fetch(statement("missing_deliveries"), *who, after, before, MAX_NAMED),
        )
        # to cancel it would wait for a server that hangs: it ends by its own time limit
        done, _ = await asyncio.wait((query,), timeout=WAIT_SECONDS)
        try:
            if not done:
                query.add_done_callback(_ended)
                raise UnavailableError(f"PostgreSQL has not answered in {WAIT_SECONDS:g} s")
            rows = query.result()
        except (UnavailableError, asyncpg.PostgresError) as error:
            logger.warning("a reset of %s/%s says not what is missing: %s", *who, error)
            return None, []
        return rows[0]["total"] if rows else 0, [_missing_out(row) for row in rows]


def unbroken(updates: Sequence[FeedUpdate]) -> list[FeedUpdate]:
    """Updates up to the first one that is missing between them: numbers have no gaps."""
    first = updates[0].seq if updates else 0
    return [update for at, update in enumerate(updates, first) if update.seq == at]


def _reached(updates: Sequence[FeedUpdate], after: int) -> int:
    return updates[-1].seq if updates else after


def _missing_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a client gets it; the event itself may not be in the log yet."""
    received = row["received_at"]
    return {
        "seq": row["seq"],
        "event_id": str(row["event_id"]),
        "tool_id": row["tool_id"] and own_tool_id(row["tool_id"]),
        "event_type": row["type"],
        "received_at": int(received.timestamp() * 1000) if received else None,
    }


def _ended(query: "asyncio.Future[Any]") -> None:
    if not query.cancelled():
        query.exception()
