"""Priority inheritance: what waits goes along with something urgent about the same thing.

It is read from its stream where it lies, goes into feeds in the commit of what takes it along, and
leaves its stream in the same commit. Whoever has read it from there passes over it; a new owner
does not find it any more.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app.feeds.state import FeedState
from hookstream.app.feeds.waiting import Deferred, Waiting
from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.app.streams.batch import Batch, Entry, event_of
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.entry_fields import read_entry
from hookstream.app.streams.outcome import ACCEPTED
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.slot import BATCH_MAX_PAYLOAD_BYTES, payload_size
from hookstream.codecs.routed import decode_routed

__all__ = ["MakeReadable", "kept_whole", "read_along", "still_wait", "taken_of", "write_along"]

logger = get_logger(__name__)

#: What waits and is taken along, by its stream of deferred updates.
Along = Mapping[str, Sequence[Waiting]]
#: Makes the payloads of entries readable, as the reader of a channel does.
MakeReadable = Callable[[Sequence[Entry]], Awaitable[None]]


async def read_along(
    redis: Any, number: int, along: Along, make_readable: MakeReadable
) -> list[Entry] | None:
    """The entries of partition ``number`` that are taken along: one round trip.

    None where one of them is not there, cannot be read, or comes again after it failed: then what
    becomes of it is for its own stream to say. Nor are they more bytes than a batch may have.
    """
    places = [(keys.deferred(number, stream), each) for stream in along for each in along[stream]]
    try:
        pipe = redis.pipeline(transaction=False)
        for key, each in places:
            pipe.xrange(key, each.entry_id, each.entry_id)
        entries = []
        for (key, each), found in zip(places, await pipe.execute(), strict=True):
            if not found:
                logger.info("%s has no entry %s to take along", key, each.entry_id)
                return None
            parts = [part for pair in found[0][1].items() for part in pair]
            entry = read_entry(each.entry_id, parts, sent=True)
            if entry.failure is None:
                entry.value = decode_routed(entry.raw)
            entries.append(entry)
        if _size(entries) > BATCH_MAX_PAYLOAD_BYTES:
            return None
        await make_readable(entries)
    except Exception as error:  # noqa: BLE001 whatever it is, its own stream is where it is told
        logger.info(
            "partition %d: what waits is not taken along: %s: %s",
            number,
            type(error).__name__,
            error,
        )
        return None
    plain = all(entry.failure is None and not entry.failed_event_id for entry in entries)
    return entries if plain else None


def _size(entries: Sequence[Entry]) -> int:
    events = (event_of(entry.value) for entry in entries)
    return sum(payload_size(event) for event in events if event)


def still_wait(deferred: Mapping[str, Deferred], along: Along) -> bool:
    """Whether all of it waits, with the lock of the feeds held: nothing else has delivered it."""
    return all(deferred[stream].still_hold(waiting) for stream, waiting in along.items())


def write_along(
    writes: Writes, number: int, deferred: Mapping[str, Deferred], along: Along
) -> None:
    """Take what goes along out of its streams; ``deferred`` of partition ``number`` follows."""
    for stream, waiting in along.items():
        key, ids = keys.deferred(number, stream), [each.entry_id for each in waiting]
        writes.add("XACK", key, keys.GROUP, *ids)
        writes.add("XDEL", key, *ids)
    writes.then(lambda: _take(deferred, along))


@asynccontextmanager
async def kept_whole(partition: Partition, stream: str) -> AsyncIterator[None]:
    """Within this nothing is taken along out of a stream of deferred updates: for whoever copies
    it, and would put back what went meanwhile.
    """
    state = partition[FeedState]
    async with state.lock:
        state.deferred[stream].kept_whole += 1
    try:
        yield
    finally:
        state.deferred[stream].kept_whole -= 1


def _take(deferred: Mapping[str, Deferred], along: Along) -> None:
    for stream, waiting in along.items():
        deferred[stream].take(waiting)


def taken_of(batch: Batch, source: str) -> set[str]:
    """Ids of a batch of deferred updates that something has taken along since they were read.

    To be asked with the lock of the feeds held before it commits. Nothing is left to say of them.
    """
    taken = batch.partition[FeedState].deferred[source].taken
    if not taken:
        return set()
    gone = [entry for entry in batch.entries if entry_order(entry.entry_id) in taken]
    for entry in gone:
        entry.outcome = ACCEPTED
    return {entry.entry_id for entry in gone}
