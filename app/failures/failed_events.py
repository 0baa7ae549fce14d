"""failed events: events that failed, wait for their next attempt, or are dead.

A failed event is a hash with the entry's bytes, where and why it failed, and one field an attempt;
it is
one and the same from its first failure until it succeeds or is discarded. Which sorted set names it
says what it waits for: ``retries`` its time, ``parked`` its tool's breaker, ``dead-failed_events``
a
person; a list ``held`` its turn, a list ``held-version`` a worker that can read it. A failed event
in none of them is in its stream again.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from mode.utils.logging import get_logger

from hookstream.app.backoff import retry_delay_ms
from hookstream.app.failures.rules import PARKED, Decision
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry, event_of
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import (
    Accepted,
    Blocked,
    Dropped,
    Duplicate,
    Failed,
    Quarantined,
)
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event

__all__ = [
    "QUARANTINED",
    "failed_event_id",
    "is_first",
    "origin_named_in",
    "partition_named_in",
    "pin",
    "requeue",
    "unpin",
    "write_failures",
]

logger = get_logger(__name__)

#: Separates the parts of a failed event's id; no id of ours contains it.
SEPARATOR = "~"
#: How much of an error an attempt's record keeps; the newest one is kept whole.
HISTORY_ERROR_CHARACTERS = 300
#: The state of a failed event whose envelope only a newer worker reads.
QUARANTINED = "held-version"


def failed_event_id(channel: str, partition: int, entry: Entry) -> str:
    """The id of an entry's failed event: its event's id, with what tells apart where that is not
    enough.

    A replay adds its own id; an update that could not be delivered, and an entry that cannot be
    read, say where they are.
    """
    if entry.failed_event_id:
        return entry.failed_event_id
    if isinstance(entry.value, Event) and channel == "events":
        parts = [entry.value.event_id, entry.value.replay_id]
        return SEPARATOR.join(part for part in parts if part)
    if event := event_of(entry.value):
        return SEPARATOR.join((event.event_id, event.replay_id, channel, str(partition)))
    return SEPARATOR.join(("", entry.entry_id, channel, str(partition)))


def is_first(entry: Entry) -> bool:
    """Whether an entry is decided about for the first time: one that was unreadable, too."""
    name = entry.failed_event_id
    return not name or (not entry.attempts and bool(origin_named_in(name)))


def partition_named_in(failed_event: str) -> int | None:
    """The partition that a failed event's id names; None where its event's id says it."""
    parts = failed_event.split(SEPARATOR)
    return int(parts[3]) if len(parts) == 4 and parts[3].isdecimal() else None


def origin_named_in(failed_event: str) -> str:
    """The entry that a failed event's id names, of one that could not be read; "" for others."""
    parts = failed_event.split(SEPARATOR)
    return parts[1] if len(parts) == 4 and not parts[0] else ""


def write_failures(
    writes: Writes, batch: Batch, decision: Decision, settings: Settings, now_ms: int
) -> None:
    """Add what becomes of failed, blocked and resolved entries, by ``decision``.

    An entry that came again and does not have to wait any more is resolved: it loses its failed
    event.
    """
    number, state = batch.partition.number, batch.partition[FailureState]
    for move in decision.moves:
        listed = keys.blocked_events(number, move.key)
        if move.into:
            writes.add("RPUSH", listed, move.name)
        else:
            writes.add("LREM", listed, int(move.first_only), move.name)
    for key, blocker in decision.blocked.items():
        writes.add("HSET", keys.blocked_keys(number), key, blocker)
    for tool_id, breaker in decision.breakers.items():
        writes.add("HSET", keys.breakers(number), tool_id, orjson.dumps(breaker.to_dict()))
    writes.then(lambda: state.blocked.update(decision.blocked))
    writes.then(lambda: state.follow(decision.breakers))
    for entry in batch.entries:
        # of one that came for the first time and went through nothing is kept
        if entry.failed_event_id or not isinstance(entry.outcome, (Accepted, Duplicate, Dropped)):
            _write_outcome(writes, batch, entry, settings, now_ms)


def _write_outcome(
    writes: Writes, batch: Batch, entry: Entry, settings: Settings, now_ms: int
) -> None:
    number = batch.partition.number
    name = failed_event_id(batch.channel, number, entry)
    if entry.parked and entry.outcome != Blocked(PARKED):
        writes.add("ZREM", keys.parked(number, entry.parked), name)
    match entry.outcome:
        case Failed() as failure:
            fields = _failed(writes, number, entry, failure, name, settings, now_ms)
            _keep(writes, batch, entry, name, fields)
        case Blocked(reason=reason):
            if reason == PARKED:
                event: Event = entry.value
                parked = keys.parked(number, event.tool_id)
                writes.add("ZADD", parked, event.received_at_ms, name)
            _keep(writes, batch, entry, name, {"state": reason})
        case Quarantined(version=version):
            _keep(writes, batch, entry, name, {"state": QUARANTINED})
            writes.add("HSET", keys.quarantines(number), version, "")
            writes.add("RPUSH", keys.quarantined(number, version), name)
        case Accepted() | Duplicate() | Dropped():
            writes.add("DEL", keys.failed_event(number, name))
            unpin(writes, batch.partition, name)


def _failed(
    writes: Writes,
    number: int,
    entry: Entry,
    failure: Failed,
    name: str,
    settings: Settings,
    now_ms: int,
) -> dict[str, object]:
    """When it is tried again, or that it is dead; returns the fields that say so."""
    attempts = entry.attempts + 1
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
    if failure.trace or entry.attempts:
        fields["traceback"] = failure.trace
    if failure.final:
        writes.add("ZADD", keys.dead(number), now_ms, name)
    else:
        delay_ms = retry_delay_ms(
            attempts,
            int(settings.retry_base_seconds * 1000),
            int(settings.retry_max_seconds * 1000),
        )
        fields["due_ms"] = now_ms + delay_ms
        writes.add("ZADD", keys.retries(number), now_ms + delay_ms, name)
    return fields


def _keep(writes: Writes, batch: Batch, entry: Entry, name: str, fields: dict[str, object]) -> None:
    """The failed event's hash; what never changes is written the first time only."""
    if entry.sent and batch.channel == "events" and name not in batch.partition[FailureState].pins:
        # also one that comes again: what was sent this time has this entry for its source position
        pin(writes, batch.partition, name, entry.entry_id)
    if not entry.failed_event_id:
        event = event_of(entry.value)
        fields |= {
            "raw": entry.raw,
            "channel": batch.channel,
            "entry_id": entry.entry_id,
            "attempts": fields.get("attempts", 0),
        }
        if event is not None:
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
        keys.failed_event(batch.partition.number, name),
        *(part for pair in fields.items() for part in pair),
    )


def pin(writes: Writes, partition: Partition, name: str, entry_id: str) -> None:
    """Keep the source position under which a failed event's outputs may have been sent: it has no
    other one.

    Who takes such outputs goes on remembering whether they came, for as long as it is pinned.
    """
    writes.add("HSET", keys.pins(partition.number), name, entry_id)
    writes.then(lambda: partition[FailureState].pins.update({name: entry_id}))


def unpin(writes: Writes, partition: Partition, name: str) -> None:
    """Forget the source position of a failed event that is resolved."""
    pins = partition[FailureState].pins
    if name in pins:
        writes.add("HDEL", keys.pins(partition.number), name)
        writes.then(lambda: pins.pop(name, None))


def log_failures(batch: Batch) -> None:
    """One line a batch, however many failed."""
    quarantined = [e.outcome for e in batch.entries if isinstance(e.outcome, Quarantined)]
    for version, count in Counter(each.version for each in quarantined).items():
        logger.warning(
            "%s[%d]: %d entries of envelope version %d are quarantined: this worker cannot read "
            "them, upgrade it",
            batch.channel,
            batch.partition.number,
            count,
            version,
        )
    failures = [(e, e.outcome) for e in batch.entries if isinstance(e.outcome, Failed)]
    if not failures:
        return
    entry, first = failures[0]
    event = event_of(entry.value)
    logger.warning(
        "%s[%d]: %d of %d entries failed (%d are dead letters now), the first in stage %s: %s",
        batch.channel,
        batch.partition.number,
        len(failures),
        len(batch),
        sum(failure.final for _, failure in failures),
        first.stage,
        first.error,
        extra={"event_id": event.event_id} if event else None,
    )


def requeue(
    writes: Writes, partition: Partition, name: str, failed_event: Sequence[Any], from_set: str
) -> bool:
    """Put a failed event into its stream again, out of the sorted set ``from_set`` ("" for none).

    ``failed_event`` is its ``raw``, ``channel`` and ``attempts``. False when it was discarded
    meanwhile.
    """
    raw, channel, attempts = failed_event
    if from_set:
        writes.add("ZREM", from_set, name)
    if raw is None or channel is None:
        return False
    stream = keys.stream(channel.decode(), partition.number)
    writes.append(stream, raw, r=name, a=int(attempts or 0))
    writes.add("HSET", keys.failed_event(partition.number, name), "state", "queued")
    return True
