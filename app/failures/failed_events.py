"""Letters: events that failed, wait for their next attempt, or are dead.

A letter is a hash with the entry's bytes, where and why it failed, and one field an attempt; it is
one and the same from its first failure until it succeeds or is discarded. Which sorted set names it
says what it waits for: ``retries`` its time, ``parked`` its tool's breaker, ``dead-letters`` a
person; a list ``held`` its turn, a list ``held-version`` a worker that can read it. A letter in
none of them is in its stream again.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.backoff import retry_delay_ms
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.status import Status
from hookstream.app.streams.batch import HELD_VERSION, Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Routed

__all__ = [
    "bury_failed",
    "letter_id",
    "letter_origin",
    "letter_partition",
    "pin",
    "requeue",
    "unpin",
    "write_letters",
]

logger = get_logger(__name__)

#: Separates the parts of a letter's id; no id of ours contains it.
SEPARATOR = "~"
#: How much of an error an attempt's record keeps; the newest one is kept whole.
HISTORY_ERROR_CHARACTERS = 300


def letter_id(channel: str, partition: int, entry: Entry) -> str:
    """The id of an entry's letter: its event's id, with what tells apart where that is not enough.

    A replay adds its own id; an update that could not be delivered, and an entry that cannot be
    read, say where they are.
    """
    if entry.letter_id:
        return entry.letter_id
    if isinstance(entry.value, Event):
        parts = [entry.value.event_id, entry.value.replay_id]
        return SEPARATOR.join(part for part in parts if part)
    if isinstance(entry.value, Routed):
        event = entry.value.event
        return SEPARATOR.join((event.event_id, event.replay_id, channel, str(partition)))
    return SEPARATOR.join(("", entry.entry_id, channel, str(partition)))


def letter_partition(letter: str) -> int | None:
    """The partition that a letter's id names; None where its event's id says it."""
    parts = letter.split(SEPARATOR)
    return int(parts[3]) if len(parts) == 4 and parts[3].isdecimal() else None


def letter_origin(letter: str) -> str:
    """The entry that a letter's id names, of one that could not be read; "" for others."""
    parts = letter.split(SEPARATOR)
    return parts[1] if len(parts) == 4 and not parts[0] else ""


def write_letters(writes: Writes, batch: Batch, settings: Settings, now_ms: int) -> int:
    """Add what becomes of failed and retried entries; returns how many failed.

    Sets each failed entry's status: retrying, or dead when its attempts are used up. An entry
    that came again and did not fail loses its letter: it is resolved.
    """
    number = batch.partition.number
    failed = 0
    for entry in batch.entries:
        if entry.failure is None and not entry.waits:
            if entry.letter_id:
                writes.add("DEL", keys.letter(number, entry.letter_id))
                unpin(writes, batch.partition, entry.letter_id)
            continue
        name = letter_id(batch.channel, number, entry)
        if entry.waits:
            _keep(writes, batch, entry, name, {"state": entry.waits})
            if entry.waits == HELD_VERSION:
                writes.add("HSET", keys.held_versions(number), entry.version, "")
                writes.add("RPUSH", keys.held_version(number, entry.version), name)
            continue
        failed += 1
        _write_failure(writes, batch, entry, name, settings, now_ms)
    return failed


def _write_failure(
    writes: Writes, batch: Batch, entry: Entry, name: str, settings: Settings, now_ms: int
) -> None:
    number, failure = batch.partition.number, entry.failure
    assert failure is not None
    attempts = entry.attempts + 1
    dead = failure.final or attempts >= settings.retry_max_attempts
    entry.status = Status.DEAD if dead else Status.RETRYING
    record = {
        "at_ms": now_ms,
        "stage": failure.stage,
        "error": failure.error[:HISTORY_ERROR_CHARACTERS],
    }
    fields: dict[str, object] = {
        "state": entry.status.value,
        "stage": failure.stage,
        "error": failure.error,
        "attempts": attempts,
        "last_failed_ms": now_ms,
        f"attempt:{attempts}": orjson.dumps(record),
    }
    if entry.attempts == 0:
        fields["first_failed_ms"] = now_ms
    if dead:
        writes.add("ZADD", keys.dead(number), now_ms, name)
    else:
        delay_ms = retry_delay_ms(
            attempts,
            int(settings.retry_base_seconds * 1000),
            int(settings.retry_max_seconds * 1000),
        )
        fields["due_ms"] = now_ms + delay_ms
        writes.add("ZADD", keys.retries(number), now_ms + delay_ms, name)
    _keep(writes, batch, entry, name, fields)


def _keep(writes: Writes, batch: Batch, entry: Entry, name: str, fields: dict[str, object]) -> None:
    """The letter's hash; what never changes is written the first time only."""
    if entry.sent and batch.channel == "events" and name not in batch.partition[FailureState].pins:
        # also one that comes again: what was sent this time has this entry for its origin
        pin(writes, batch.partition, name, entry.entry_id)
    if not entry.letter_id:
        event = entry.value.event if isinstance(entry.value, Routed) else entry.value
        fields |= {
            "raw": entry.raw,
            "channel": batch.channel,
            "entry_id": entry.entry_id,
            "attempts": fields.get("attempts", 0),
        }
        if isinstance(event, Event):
            fields |= {
                "event_id": event.event_id,
                "tenant": event.tenant,
                "tool_id": event.tool_id,
                "type": event.type,
                "replay_id": event.replay_id,
                "received_at_ms": event.received_at_ms,
            }
    writes.add(
        "HSET",
        keys.letter(batch.partition.number, name),
        *(part for pair in fields.items() for part in pair),
    )


def pin(writes: Writes, partition: Partition, name: str, entry_id: str) -> None:
    """Keep the origin under which a letter's outputs may have been sent: it has no other one.

    Who takes such outputs goes on remembering whether they came, for as long as it is pinned.
    """
    writes.add("HSET", keys.pins(partition.number), name, entry_id)
    writes.then(lambda: partition[FailureState].pins.update({name: entry_id}))


def unpin(writes: Writes, partition: Partition, name: str) -> None:
    """Forget the origin of a letter that is resolved."""
    pins = partition[FailureState].pins
    if name in pins:
        writes.add("HDEL", keys.pins(partition.number), name)
        writes.then(lambda: pins.pop(name, None))


def log_failures(batch: Batch) -> None:
    """One line a batch, however many failed."""
    for version, count in Counter(e.version for e in batch.entries if e.version).items():
        logger.warning(
            "%s[%d]: %d entries of envelope version %d are held: this worker cannot read them, "
            "upgrade it",
            batch.channel,
            batch.partition.number,
            count,
            version,
        )
    failures = [entry for entry in batch.entries if entry.failure]
    if not failures:
        return
    first = failures[0].failure
    assert first is not None
    dead = sum(entry.status is Status.DEAD for entry in failures)
    logger.warning(
        "%s[%d]: %d of %d entries failed (%d are dead letters now), the first in stage %s: %s",
        batch.channel,
        batch.partition.number,
        len(failures),
        len(batch),
        dead,
        first.stage,
        first.error,
    )


async def bury_failed(scripts: Scripts, batch: Batch, settings: Settings, now_ms: int) -> None:
    """Make letters of a batch's failed entries at once, and take them out of the batch.

    For stages that have no commit of their own before their work is done; rare, so the second
    script is cheap.
    """
    failed = [entry for entry in batch.entries if entry.failure]
    if not failed:
        return
    part = Batch(batch.channel, batch.partition, failed, lambda *_: None)
    writes = Writes()
    write_letters(writes, part, settings, now_ms)
    await commit(scripts, batch.partition, batch.channel, writes, failed)
    # not before: a batch that comes again is what is in it now
    batch.entries = [entry for entry in batch.entries if not entry.failure]
    log_failures(part)
    for entry in failed:
        metrics.EVENTS.labels(status=entry.status).inc()


def requeue(
    writes: Writes, partition: Partition, name: str, letter: Sequence[Any], from_set: str
) -> bool:
    """Put a letter into its stream again, out of the sorted set ``from_set`` ("" for none).

    ``letter`` is its ``raw``, ``channel`` and ``attempts``. False when it was discarded meanwhile.
    """
    raw, channel, attempts = letter
    if from_set:
        writes.add("ZREM", from_set, name)
    if raw is None or channel is None:
        return False
    stream = keys.stream(channel.decode(), partition.number)
    writes.append(stream, raw, r=name, a=int(attempts or 0))
    writes.add("HSET", keys.letter(partition.number, name), "state", "queued")
    return True
