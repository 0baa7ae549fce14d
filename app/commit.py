"""Committing a batch: one script that appends, and acknowledges last."""

import time
from collections.abc import Sequence

from mode.utils.logging import get_logger

from hookstream.app import keys, metrics
from hookstream.app.batch import Batch, Entry
from hookstream.app.redis_client import Scripts
from hookstream.proto.pipeline_pb2 import DeadLetter

__all__ = ["bury_failed", "commit_batch", "dead_letters"]

logger = get_logger(__name__)


async def commit_batch(
    scripts: Scripts,
    batch: Batch,
    entries: Sequence[Entry],
    appends: Sequence[tuple[str, bytes]] = (),
    *,
    trim: bool = False,
) -> list[bytes]:
    """Run ``commit.lua``: append to streams of the batch's partition, acknowledge ``entries``.

    ``appends`` are (key, value). With ``trim`` the source loses what is acknowledged. Returns the
    ids of the appends; none when this was committed before and only the reply was lost.

    Raises:
        FencedError: the partition has another owner; nothing was written.
    """
    names = sorted({key for key, _ in appends})
    index = {key: at + 3 for at, key in enumerate(names)}
    partition = batch.partition
    ids: list[bytes] = await scripts.call(
        "commit",
        [keys.lease(partition.number), keys.stream(batch.channel, partition.number), *names],
        [
            partition.epoch,
            partition.nonce,
            keys.GROUP,
            len(appends),
            *(part for key, value in appends for part in (index[key], value)),
            int(trim),
            *(entry.entry_id for entry in entries),
        ],
    )
    return ids


def dead_letters(batch: Batch) -> list[tuple[str, bytes]]:
    """Appends to the partition's dead letters, one for each entry of the batch that failed."""
    failed = [entry for entry in batch.entries if entry.failure]
    if not failed:
        return []
    first = failed[0].failure
    assert first is not None
    logger.warning(
        "%s[%d]: %d of %d entries become dead letters, the first in stage %s: %s",
        batch.channel,
        batch.partition.number,
        len(failed),
        len(batch),
        first.stage,
        first.error,
    )
    now_ms = time.time_ns() // 1_000_000
    return [(keys.dead(batch.partition.number), _dead_letter(entry, now_ms)) for entry in failed]


async def bury_failed(scripts: Scripts, batch: Batch) -> None:
    """Make dead letters of a batch's failed entries at once, and take them out of the batch.

    For stages whose own script has no place for dead letters; rare, so the second script is cheap.
    """
    failed = [entry for entry in batch.entries if entry.failure]
    if failed:
        await commit_batch(scripts, batch, failed, dead_letters(batch))
        batch.entries = [entry for entry in batch.entries if not entry.failure]
        metrics.EVENTS.labels(status="dead").inc(len(failed))


def _dead_letter(entry: Entry, now_ms: int) -> bytes:
    failure = entry.failure
    assert failure is not None
    return DeadLetter(
        envelope=entry.raw,
        entry_id=entry.entry_id,
        stage=failure.stage,
        error=failure.error,
        attempts=failure.attempts,
        first_failed_at_ms=now_ms,
        last_failed_at_ms=now_ms,
    ).SerializeToString()
