"""What was blocked and whose turn has come: it goes before all that is in its stream.

It came earlier than what is there now. Appended to the stream again it would come behind what
arrives meanwhile, which would then have to wait too, and so on: a key that is busy would be held
for ever. So its failed events become a batch of their own, straight from their list, and what has
gone through leaves the list in that batch's commit.
"""

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
        """Whether an ordering key is released."""
        return bool(partition[FailureState].released())

    async def take(self, partition: Partition, limit: int) -> list[Entry]:
        """The next entries, ``limit`` at most. Raises what a commit raises."""
        state = partition[FailureState]
        entries: list[Entry] = []
        for key in state.released():
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
    number = partition.number
    names = [
        name.decode() for name in await redis.lrange(keys.blocked_events(number, key), 0, limit - 1)
    ]
    if not names:
        return []
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.hmget(keys.failed_event(number, name), *FIELDS)
    found = []
    gone = []
    for name, (raw, entry_id, attempts, state) in zip(names, await pipe.execute(), strict=True):
        if raw is None or entry_id is None:
            gone.append(name)
        elif state == b"held":
            found.append(
                Entry(
                    entry_id.decode(),
                    raw,
                    None,
                    failed_event_id=name,
                    attempts=int(attempts or 0),
                    listed=key,
                )
            )
        # what is tried again, or is in its stream already, comes from there
    if gone:
        # a name without a failed event is nothing to anybody
        pipe = redis.pipeline(transaction=False)
        for name in gone:
            pipe.lrem(keys.blocked_events(number, key), 1, name)
        await pipe.execute()
    return found
