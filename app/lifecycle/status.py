"""What is in which tier, and what workers say of their last run."""

import json
from collections.abc import Mapping
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app.redis import keys
from hookstream.app.redis.memory import SAYS, MemoryWatch
from hookstream.app.stores.tiers import warm_entry

__all__ = ["ask_for_run", "asked_runs", "lifecycle_status", "note_run", "warm_of"]

logger = get_logger(__name__)

#: The field of :data:`keys.LIFECYCLE` that is no worker's.
ASKED = "asked"
#: A worker that has noted nothing for so long is gone.
FORGOTTEN_MS = 24 * 3_600_000


async def ask_for_run(redis: Any) -> int:
    """Have every worker move what is due at once; the run's number. Raises what Redis says."""
    return int(await redis.hincrby(keys.LIFECYCLE, ASKED, 1))


async def asked_runs(redis: Any) -> int:
    """The number of the last run that was asked for; 0 for none. Raises what Redis says."""
    return int(await redis.hget(keys.LIFECYCLE, ASKED) or 0)


async def note_run(redis: Any, worker: str, note: Mapping[str, Any]) -> None:
    """Say what a worker's last run came to; ``note["at_ms"]`` is when. Raises what Redis says."""
    await redis.hset(keys.LIFECYCLE, worker, json.dumps(note))


async def warm_of(redis: Any, partition: int) -> dict[tuple[str, str], list[bytes]]:
    """By tenant and tool: the index of their warm blocks in a partition, the oldest first."""
    names = [
        name.decode().partition("/") for name in await redis.smembers(keys.warm_tools(partition))
    ]
    pipe = redis.pipeline(transaction=False)
    for tenant, _, tool_id in names:
        pipe.zrange(keys.warm_index(partition, tenant, tool_id), 0, -1)
    found = await pipe.execute() if names else []
    return {
        (tenant, tool_id): members
        for (tenant, _, tool_id), members in zip(names, found, strict=True)
    }


async def lifecycle_status(
    redis: Any, memory: MemoryWatch, partitions: int, now_ms: int
) -> dict[str, Any]:
    """What is hot and warm over all partitions, and the last run of each worker.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    pipe = redis.pipeline(transaction=False)
    for number in range(partitions):
        pipe.xlen(keys.events(number))
        pipe.xrange(keys.events(number), "-", "+", count=1)
    replies = await pipe.execute()
    first = [int(page[0][0].partition(b"-")[0]) for page in replies[1::2] if page]
    blocks = events = size = 0
    oldest = now_ms
    for number in range(partitions):
        for members in (await warm_of(redis, number)).values():
            found = [warm_entry(member) for member in members]
            blocks += len(found)
            events += sum(block.events for block in found)
            size += sum(block.size for block in found)
            oldest = min([oldest, *(block.first_ms for block in found[:1])])
    return {
        "memory": {
            "pressure": int(memory.pressure),
            "means": SAYS[memory.pressure],
            "used_bytes": memory.used,
            "max_bytes": memory.most,
        },
        "hot": {
            "entries": sum(replies[::2]),
            "oldest_seconds": (now_ms - min(first, default=now_ms)) / 1000,
        },
        "warm": {
            "events": events,
            "blocks": blocks,
            "bytes": size,
            "oldest_seconds": (now_ms - oldest) / 1000,
        },
        "workers": await _runs(redis, now_ms),
    }


async def _runs(redis: Any, now_ms: int) -> dict[str, Any]:
    runs = {}
    for worker, note in (await redis.hgetall(keys.LIFECYCLE)).items():
        if worker == ASKED.encode():
            continue
        try:
            said = json.loads(note)
            at_ms = int(said.pop("at_ms"))
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.warning("%s: the note of %r cannot be read", keys.LIFECYCLE, worker)
            continue
        if now_ms - at_ms > FORGOTTEN_MS:
            await redis.hdel(keys.LIFECYCLE, worker)
            continue
        runs[worker.decode()] = {**said, "seconds_ago": max(0.0, (now_ms - at_ms) / 1000)}
    return runs
