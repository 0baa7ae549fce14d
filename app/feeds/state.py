"""What is known of a partition's feeds: read from the feeds themselves, never from memory alone."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hookstream.app.feeds.generations import Generations
from hookstream.app.feeds.waiting import Deferred
from hookstream.app.ids import entry_order, partition_of
from hookstream.app.priority import DEFERRABLE
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.errors import is_missing
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.partition import CountedLock, OpenState, Partition, decoded
from hookstream.app.streams.source_positions import SourcePosition
from hookstream.tables.rates import RateTable

__all__ = ["FeedState", "learn_feeds", "opens_feeds", "rated_contexts", "read_deferred"]

#: Deferred updates whose index is read in one round trip.
INDEX_PAGE = 1000

#: Compares a partition that was claimed with what is remembered of it elsewhere.
Settle = Callable[[Partition, Mapping[bytes, bytes]], Any]


@dataclass(slots=True, eq=False)
class FeedState:
    """The feeds of one partition, as Redis has them.

    ``source_positions``: what has been seen of each ``events[p]`` in ``updates[number]``; ``seqs``:
    the last
    sequence number of each ``tenant/context_id`` that was looked at here; ``throttled``: how many
    updates of each wait to be coalesced; ``arrivals``: GCRA's theoretical arrival time (Unix ms) of
    those that have a rate; ``deferred``: what waits in each stream of deferred updates.
    """

    source_positions: dict[int, SourcePosition] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    #: Where the feeds were begun anew, and the highest number that was found in any of them.
    generations: Generations = field(default_factory=Generations)
    top: int = 0
    throttled: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, float] = field(default_factory=dict)
    deferred: dict[str, Deferred] = field(
        default_factory=lambda: {priority: Deferred() for priority in DEFERRABLE}
    )
    #: Opened when the first context here turns out to have a rate.
    rates: RateTable | None = None
    #: Held by whoever numbers updates: the deliver stage, or what coalesces throttled ones.
    lock: CountedLock = field(default_factory=CountedLock)

    def close(self) -> None:
        """Close the table of rates."""
        if self.rates is not None:
            self.rates.close()

    def wipe(self) -> None:
        """Delete the table of rates."""
        if self.rates is not None:
            self.rates.wipe(self.rates.path)


def opens_feeds(
    redis: Any,
    scripts: Scripts,
    *,
    settle: Settle | None = None,
    rated: Callable[[int], Iterable[str]] = lambda number: (),
) -> OpenState:
    """Reads what a partition's feeds are like.

    ``settle`` compares it with what is remembered elsewhere, before anything is numbered.
    ``rated``: contexts of a partition (``tenant/context_id``) that have a rate: what is throttled
    of them is counted anew, whatever was written down about it.
    """

    async def open_state(partition: Partition, lease: Mapping[bytes, bytes]) -> None:
        number = partition.number
        state = FeedState()
        partition.add(state)
        if settle is not None:
            await settle(partition, lease)
        pipe = redis.pipeline(transaction=False)
        pipe.hgetall(keys.source_positions(number))
        pipe.hgetall(keys.throttled(number))
        source_positions, throttled = await pipe.execute()
        state.source_positions = decoded(
            keys.source_positions(number),
            source_positions,
            int,
            lambda mark: SourcePosition.decode(mark.decode()),
        )
        state.throttled = decoded(keys.throttled(number), throttled, bytes.decode, int)
        state.deferred = await read_deferred(redis, scripts, number)
        await learn_feeds(scripts, partition, {*state.throttled, *rated(number)})

    return open_state


def rated_contexts(
    catalog: Callable[[], Catalog], partitions: int
) -> Callable[[int], Sequence[str]]:
    """Contexts (``tenant/context_id``) of a partition that have a rate, by the catalog of now."""
    known: Catalog | None = None
    found: dict[int, list[str]] = {}

    def of(number: int) -> Sequence[str]:
        nonlocal known
        if (now := catalog()) is not known:
            known = now
            found.clear()
            for (tenant, context_id), context in now.contexts.items():
                if context.rate:
                    place = partition_of(partitions, tenant, context_id)
                    found.setdefault(place, []).append(keys.feed_field(tenant, context_id))
        return found.get(number, ())

    return of


async def learn_feeds(scripts: Scripts, partition: Partition, names: Iterable[str]) -> None:
    """Have the partition know the last number and the throttled updates of ``tenant/context_id``.

    Once a name and owner, in one round trip: after that every commit keeps both up.
    """
    state = partition[FeedState]
    unknown = [name for name in names if name not in state.seqs]
    if not unknown:
        return
    found = await asyncio.gather(*(_read(scripts, partition.number, name) for name in unknown))
    for name, (seq, throttled) in zip(unknown, found, strict=True):
        # numbers of a new generation are above all that was ever given
        state.seqs[name] = max(seq, state.generations.start - 1)
        if throttled:
            state.throttled[name] = throttled
        else:
            state.throttled.pop(name, None)


async def _read(scripts: Scripts, number: int, name: str) -> Sequence[int]:
    tenant, _, context_id = name.partition("/")
    reply: Sequence[int] = await scripts.call(
        "feed_state",
        [
            keys.feed(number, tenant, context_id),
            keys.throttled_updates(number, tenant, context_id),
            keys.seqs(number),
        ],
        [name],
    )
    return reply


async def read_deferred(redis: Any, scripts: Scripts, number: int) -> dict[str, Deferred]:
    """What waits in a partition's streams of deferred updates, for its new owner."""
    pipe = redis.pipeline(transaction=False)
    for priority in DEFERRABLE:
        pipe.xinfo_groups(keys.deferred(number, priority))
        pipe.xpending(keys.deferred(number, priority), keys.GROUP)
    replies = iter(await pipe.execute(raise_on_error=False))
    found = {}
    for priority in DEFERRABLE:
        groups, pending = next(replies), next(replies)
        for reply in (groups, pending):
            # a stream that was never written to is not there
            if isinstance(reply, Exception) and not is_missing(reply):
                raise reply
        found[priority] = waiting = Deferred()
        start = "-"
        if isinstance(pending, dict) and pending["pending"]:
            start = pending["min"].decode()
        elif isinstance(groups, list) and groups:
            start = f"({groups[0]['last-delivered-id'].decode()}"
            waiting.done = entry_order(start[1:])
        await _learn(scripts, keys.deferred(number, priority), start, waiting)
    return found


async def _learn(scripts: Scripts, key: str, start: str, waiting: Deferred) -> None:
    while True:
        page = await scripts.call("deferred_index", [key], [start, INDEX_PAGE])
        for entry_id, index in zip(page[::2], page[1::2], strict=True):
            waiting.add(entry_id.decode(), orjson.loads(index) if index else {})
        if len(page) < 2 * INDEX_PAGE:
            return
        start = f"({page[-2].decode()}"
