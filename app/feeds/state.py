"""What a partition's feeds are like: read from the feeds themselves, never from memory alone."""

import asyncio
from collections.abc import Iterable, Sequence

from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams.batch import Partition

__all__ = ["learn_feeds"]


async def learn_feeds(scripts: Scripts, partition: Partition, names: Iterable[str]) -> None:
    """Have the partition know the last number and the withheld updates of ``tenant/context_id``.

    Once a name and owner, in one round trip: after that every commit keeps both up.
    """
    unknown = [name for name in names if name not in partition.seqs]
    if not unknown:
        return
    found = await asyncio.gather(*(_read(scripts, partition.number, name) for name in unknown))
    for name, (seq, withheld) in zip(unknown, found, strict=True):
        # numbers of a new generation are above all that was ever given
        partition.seqs[name] = max(seq, partition.generations.start - 1)
        if withheld:
            partition.withheld[name] = withheld
        else:
            partition.withheld.pop(name, None)


async def _read(scripts: Scripts, number: int, name: str) -> Sequence[int]:
    tenant, _, context_id = name.partition("/")
    reply: Sequence[int] = await scripts.call(
        "feed_state",
        [
            keys.feed(number, tenant, context_id),
            keys.withheld_updates(number, tenant, context_id),
            keys.seqs(number),
        ],
        [name],
    )
    return reply
