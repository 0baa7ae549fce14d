"""Opening a claimed partition: its table, and its state as Redis has it.

Whatever goes wrong on the way, nothing stays open; and what cannot be read of state that can be
derived, or done without, does not keep the partition closed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from mode.utils.logging import get_logger

from hookstream.app.circuit_breaker import Breaker
from hookstream.app.feeds.delivery import read_deferred
from hookstream.app.feeds.state import learn_feeds
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Partition
from hookstream.app.streams.marks import Marks
from hookstream.app.streams.recovery import open_restored
from hookstream.app.streams.source_positions import OriginMark
from hookstream.tables.dedup import DedupTable

if TYPE_CHECKING:
    from hookstream.app.services import Parts

__all__ = ["open_partition"]

logger = get_logger(__name__)

T = TypeVar("T")
K = TypeVar("K")


async def open_partition(
    parts: "Parts",
    settings: Settings,
    number: int,
    nonce: str,
    claim: Sequence[Any],
    throttled: Iterable[str] = (),
    marks: Marks | None = None,
) -> Partition:
    """A claimed partition with its table and its state; ``claim`` is what claim.lua answered.

    ``throttled``: contexts of this partition (``tenant/context_id``) that have a rate: what is
    withheld of them is counted anew, whatever was written down about it. ``marks``: what is
    remembered of partitions elsewhere.

    Raises:
        TableError: its table cannot be opened.
        redis.exceptions.RedisError: what the server said; nothing is left open.
    """
    path: Path = settings.state_path / "tables"
    table = await open_restored(parts.redis, path, number, DedupTable)
    partition = Partition(number, int(claim[1]), nonce, table)
    try:
        lease = dict(zip(claim[2::2], claim[3::2], strict=True))
        partition.sequence = int(lease.get(b"sequence", 0))
        if marks is not None:
            await marks.settle(partition, lease)
        await _read_state(parts, settings, partition)
        await learn_feeds(parts.scripts, partition, {*partition.withheld, *throttled})
    except BaseException:
        # left open, it could not be opened again for as long as anything remembers the error
        partition.close_tables()
        raise
    return partition


async def _read_state(parts: "Parts", settings: Settings, partition: Partition) -> None:
    number = partition.number
    pipe = parts.redis.pipeline(transaction=False)
    for key in (keys.origins, keys.holds, keys.pins, keys.breakers, keys.withheld):
        pipe.hgetall(key(number))
    origins, holds, pins, breakers, withheld = await pipe.execute()

    def breaker(kept: bytes) -> Breaker:
        return Breaker.from_dict(
            orjson.loads(kept),
            threshold=settings.breaker_failures,
            wait_ms=int(settings.breaker_wait_seconds * 1000),
        )

    partition.origins = _decoded(
        keys.origins(number), origins, int, lambda mark: OriginMark.decode(mark.decode())
    )
    partition.holds = _decoded(keys.holds(number), holds, bytes.decode, bytes.decode)
    partition.pins = _decoded(keys.pins(number), pins, bytes.decode, bytes.decode)
    partition.breakers = _decoded(keys.breakers(number), breakers, bytes.decode, breaker)
    partition.withheld = _decoded(keys.withheld(number), withheld, bytes.decode, int)
    partition.deferred = await read_deferred(parts.redis, parts.scripts, number)


def _decoded(
    key: str, values: Mapping[bytes, bytes], name: Callable[[bytes], K], value: Callable[[bytes], T]
) -> dict[K, T]:
    """A hash's fields and values; what is malformed is left out, and said."""
    found = {}
    for field, content in values.items():
        try:
            found[name(field)] = value(content)
        except (ValueError, TypeError, KeyError) as error:
            logger.error("%s: field %r cannot be read and is left out: %s", key, field, error)
    return found
