"""What was blocked or parked and whose turn has come: it goes before all that is in its stream.

It came earlier than what is there now. Appended to the stream again it would come behind what
arrives meanwhile, which would then have to wait too, and so on: a key that is busy would be held
for ever. So its failed events become a batch of their own, straight from their list, and what has
gone through leaves the list in that batch's commit.
"""

from collections.abc import Sequence
from typing import Any

from hookstream.app.failures.failed_events import pin
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import FAILED_EVENTS, Writes, commit
from hookstream.app.streams.partition import Partition

__all__ = ["ReleasedEntries"]

FIELDS = ("raw", "entry_id", "attempts", "state")


class ReleasedEntries:
    """Gives a reader the next entries of released ordering keys.

    They are pinned first: they go under the source position that they had when they came, and a
    crash between sending and committing must find it known.
    """

    def __init__(self, redis: Any, scripts: Scripts) -> None:
        self._redis = redis
        self._scripts = scripts

    def any(self, partition: Partition) -> bool:
        """Whether an ordering key is released, or something parked may go."""
        state = partition[FailureState]
        return bool(state.released() or state.draining)

    def first(self, partition: Partition) -> bool:
        """Whether all of it comes before anything else: what was parked, of which there is no more
        than there is, for what comes meanwhile is not parked any more.
        """
        return bool(partition[FailureState].draining)

    async def take(self, partition: Partition, limit: int) -> list[Entry]:
        """The next entries, ``limit`` at most. Raises what a commit raises."""
        state = partition[FailureState]
        entries: list[Entry] = []
        for tool_id in sorted(state.draining):
            found = await _of_tool(self._redis, partition, tool_id, limit - len(entries))
            if not found:
                state.draining.discard(tool_id)
            entries += found
            if len(entries) >= limit:
                break
        for key in state.released() if len(entries) < limit else ():
            entries += await _of_key(self._redis, partition, key, limit - len(entries))
            if len(entries) >= limit:
                break
        writes = Writes()
        for entry in entries:
            if entry.failed_event_id not in state.pins:
                pin(writes, partition, entry.failed_event_id, entry.entry_id)
        if writes.commands:
            async with state.lock:
                await commit(self._scripts, partition, FAILED_EVENTS, writes)
        return entries


async def _of_key(redis: Any, partition: Partition, key: str, limit: int) -> list[Entry]:
    """What waits for its turn behind an event of the same ordering key."""
    number = partition.number
    listed = keys.blocked_events(number, key)
    names = [name.decode() for name in await redis.lrange(listed, 0, limit - 1)]
    found, others = await _waiting(redis, number, names, b"held")
    for entry in found:
        entry.listed = key
    if gone := [name for name, state in others.items() if state is None]:
        # a name without a failed event is nothing to anybody
        pipe = redis.pipeline(transaction=False)
        for name in gone:
            pipe.lrem(listed, 1, name)
        await pipe.execute()
    # what is tried again, or is in its stream already, comes from there
    return found


async def _of_tool(redis: Any, partition: Partition, tool_id: str, limit: int) -> list[Entry]:
    """What was parked while the tool's circuit breaker was open, in the order in which it came."""
    number = partition.number
    parked = keys.parked(number, tool_id)
    while names := [name.decode() for name in await redis.zrange(parked, 0, limit - 1)]:
        found, others = await _waiting(redis, number, names, b"parked")
        for entry in found:
            entry.parked = tool_id
        if others:
            # gone, or waiting for something else by now
            await redis.zrem(parked, *others)
        if found:
            return found
    return []


async def _waiting(
    redis: Any, number: int, names: Sequence[str], wanted: bytes
) -> tuple[list[Entry], dict[str, bytes | None]]:
    """Failed events in state ``wanted``, as entries; the others with their state, None: gone."""
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.hmget(keys.failed_event(number, name), *FIELDS)
    found: list[Entry] = []
    others: dict[str, bytes | None] = {}
    replies = await pipe.execute() if names else []
    for name, (raw, entry_id, attempts, state) in zip(names, replies, strict=True):
        if raw is None or entry_id is None:
            others[name] = None
        elif state != wanted:
            others[name] = state or b""
        else:
            found.append(
                Entry(
                    entry_id.decode(),
                    raw,
                    None,
                    failed_event_id=name,
                    attempts=int(attempts or 0),
                )
            )
    return found, others
