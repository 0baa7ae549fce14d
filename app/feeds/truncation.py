"""What a client is told when updates that it has not had are kept no longer.

That is no loss of data (:mod:`hookstream.app.feeds.resets` tells of those): numbers go on as they
were, and what went is told as one digest of what the event log has of it.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.feeds.feed import Feeds
from hookstream.app.ids import own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.summaries.text import plain_text

__all__ = ["GoneDigest", "Truncated", "Truncations", "gone_digest"]

logger = get_logger(__name__)

Who = tuple[str, str]

#: How long a client waits for the event log to say what went.
WAIT_SECONDS = 2.0
#: Events that a digest of what went looks at, the newest ones: an index range of so many rows.
COUNTED = 5000
#: Kinds of events that it names, the most frequent ones, and the characters of each name.
MAX_KINDS = 20
MAX_TYPE_CHARS = 80


@dataclass(frozen=True, slots=True)
class GoneDigest:
    """What the event log has of updates that went. ``more``: there are older ones than counted."""

    text: str
    events: int
    kinds: Sequence[tuple[str | None, str | None, int]]
    first_at: datetime | None
    last_at: datetime | None
    more: bool

    def out(self) -> dict[str, Any]:
        """As a client gets it."""
        return {
            "text": self.text,
            "events": self.events,
            "more": self.more,
            "kinds": [
                {"tool_id": tool, "event_type": kind, "events": count}
                for tool, kind, count in self.kinds
            ],
            "first_at": _ms(self.first_at),
            "last_at": _ms(self.last_at),
        }


@dataclass(frozen=True, slots=True)
class Truncated:
    """That the updates past ``after`` and up to ``to`` are kept no longer.

    ``digest``: None where the event log did not answer.
    """

    context_id: str
    generation: int
    after: int
    to: int
    digest: GoneDigest | None

    def out(self) -> dict[str, Any]:
        """As a client gets it."""
        return {
            "type": "truncated",
            "context_id": self.context_id,
            "generation": self.generation,
            "from_seq": self.after + 1,
            "to_seq": self.to,
            "updates": self.to - self.after,
            "digest": self.digest.out() if self.digest else None,
            "untrusted": ["digest"],
        }


class Truncations:
    """Says what went of a feed. The event log is asked only where a client has missed it."""

    def __init__(self, feeds: Feeds, postgres: Postgres) -> None:
        self._feeds = feeds
        self._postgres = postgres

    async def between(self, who: Who, after: int, to: int, generation: int) -> Truncated | None:
        """What of the updates past ``after`` and up to ``to`` went since its time was over.

        None where nothing did: they are missing for another reason. What went ends a feed's
        beginning, so all between ``after`` and the end of what is told did.

        Raises:
            redis.exceptions.RedisError: it could not be asked.
        """
        to = min(to, await self._feeds.trimmed(*who))
        if to <= after:
            return None
        return Truncated(who[1], generation, after, to, await self._digest(who, after, to))

    async def _digest(self, who: Who, after: int, to: int) -> GoneDigest | None:
        query = tasks.awaited(
            "Truncations.digest",
            self._postgres.fetch(statement("trimmed_deliveries"), *who, after, to, COUNTED),
        )
        # to cancel it would wait for a server that hangs: it ends by its own time limit
        done, _ = await asyncio.wait((query,), timeout=WAIT_SECONDS)
        try:
            if not done:
                query.add_done_callback(_ended)
                raise UnavailableError(f"PostgreSQL has not answered in {WAIT_SECONDS:g} s")
            return gone_digest(query.result(), after, to)
        except (UnavailableError, asyncpg.PostgresError) as error:
            logger.warning("what went from the feed of %s/%s is not told: %s", *who, error)
            return None


def gone_digest(rows: Sequence[Mapping[str, Any]], after: int, to: int) -> GoneDigest:
    """Rows of trimmed_deliveries.sql as one digest.

    >>> gone_digest([], 0, 3).text
    'Updates #1–3 are kept no longer. The event log has nothing of them any more.'
    """
    events = sum(row["events"] for row in rows)
    kinds = [(own_tool_id(row["tool_id"]), row["type"], row["events"]) for row in rows[:MAX_KINDS]]
    first = min((row["first_at"] for row in rows), default=None)
    last = max((row["last_at"] for row in rows), default=None)
    more = events >= COUNTED
    span = f"#{after + 1}–{to}" if to > after + 1 else f"#{to}"
    head = f"Updates {span} are kept no longer."
    if first is None or last is None:
        text = f"{head} The event log has nothing of them any more."
    else:
        named: Counter[str] = Counter()
        for _, kind, count in kinds:
            named[plain_text(kind or "unknown", MAX_TYPE_CHARS)] += count
        listed = ", ".join(f"{name} ×{count}" for name, count in named.most_common())
        rest = events - sum(named.values())
        others = f", others ×{rest}" if rest else ""
        counted = f"the newest {events}" if more else f"{events}"
        text = (
            f"{head} They told of {counted} events, {first:%Y-%m-%d %H:%M} to "
            f"{last:%Y-%m-%d %H:%M} UTC: {listed}{others}."
        )
    return GoneDigest(text, events, kinds, first, last, more)


def _ms(at: datetime | None) -> int | None:
    return int(at.timestamp() * 1000) if at else None


def _ended(query: "asyncio.Future[Any]") -> None:
    if not query.cancelled():
        query.exception()
