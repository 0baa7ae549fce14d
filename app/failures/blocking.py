"""What makes an event wait: an ordering key that is held back, a tool whose breaker is open.

The decisions are functions of a batch and its partition; the keeper lets go what they held.
"""

import hashlib
from collections.abc import Iterable, Iterator

import orjson

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures.failed_events import letter_id
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Registry
from hookstream.app.routing.event_keys import ordering_key
from hookstream.app.settings import Settings
from hookstream.app.status import Status
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event

__all__ = ["Holds", "hold_key", "judge_breakers", "mark_waiting", "tripped", "write_holds"]

#: What changes in a partition's ``holds`` once the commit is through; None removes a key.
Holds = dict[str, str | None]
HELD, PARKED = "held", "parked"


def hold_key(event: Event, registry: Registry) -> str:
    """The ordering key under which an event holds others back; "" where its tool lets them pass."""
    tool = registry.tools.get(event.tool_id)
    if tool is None or tool.on_error != "hold":
        return ""
    data = event.data() if tool.order_by == "field" else None
    parts = ordering_key(tool, event.message_id, data)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def passes(entry: Entry, holder: str) -> bool:
    """Whether an entry goes on although its key is held by ``holder`` ("": what waited comes)."""
    return bool(entry.letter_id) and holder in ("", entry.letter_id)


def mark_waiting(batch: Batch, registry: Registry) -> None:
    """Take events that have to wait out of the stages' way."""
    state = batch.partition[FailureState]
    if not state.holds and not state.breakers:
        return
    for entry in list(batch.live()):
        key = hold_key(entry.value, registry) if state.holds else ""
        if key in state.holds and not passes(entry, state.holds[key]):
            # its tool may be another by the time that this is committed
            entry.hold_key = key
            _wait(entry, HELD)
            continue
        breaker = state.breakers.get(entry.value.tool_id)
        if breaker is None or breaker.state is BreakerState.CLOSED:
            continue
        if not (entry.letter_id and entry.letter_id == breaker.probe):
            _wait(entry, PARKED)


def write_holds(writes: Writes, batch: Batch, registry: Registry) -> Holds:
    """Hold back what comes behind an event that failed, where its tool says so.

    To be called when all stages are through, and before outputs are sent. Returns what changes in
    the partition's holds, which follows from the commit.
    """
    partition, state = batch.partition, batch.partition[FailureState]
    changes: Holds = {}
    for entry, key in _keyed(batch, registry):
        name = letter_id(batch.channel, partition.number, entry)
        holder = changes.get(key, state.holds.get(key))
        blocks = entry.failure is not None or entry.waits == PARKED
        if (
            holder is not None
            and entry.status is not Status.DUPLICATE
            and not passes(entry, holder)
        ):
            # whatever became of it in this batch: its turn has not come, and an attempt ahead of
            # its turn does not count
            entry.failure = None
            _wait(entry, HELD)
            blocks = False
        if not blocks and entry.waits != HELD:
            if entry.letter_id:
                writes.add("LREM", keys.held(partition.number, key), 1, entry.letter_id)
            if holder and holder == entry.letter_id:
                # what waits behind it comes now
                changes[key] = ""
            continue
        _enlist(writes, partition, entry, key, name)
        if blocks:
            changes[key] = name
        elif holder is None:
            # what it waited for was let go meanwhile: its turn is next
            changes[key] = ""
    for key, name_or_none in changes.items():
        writes.add("HSET", keys.holds(partition.number), key, name_or_none or "")
    writes.then(lambda: state.holds.update({k: name or "" for k, name in changes.items()}))
    return changes


def _keyed(batch: Batch, registry: Registry) -> Iterator[tuple[Entry, str]]:
    """Entries of tools that hold back, with their keys; none when nothing can be held."""
    if not batch.partition[FailureState].holds and not any(
        e.failure or e.waits for e in batch.entries
    ):
        return
    for entry in batch.entries:
        if isinstance(entry.value, Event):
            key = entry.hold_key or hold_key(entry.value, registry)
            if key:
                yield entry, key


def _enlist(writes: Writes, partition: Partition, entry: Entry, key: str, name: str) -> None:
    """Put a letter into the list of its ordering key, once, and out of any other one's."""
    if entry.held == key:
        return
    if entry.held:
        writes.add("LREM", keys.held(partition.number, entry.held), 0, name)
    if entry.letter_id:
        # it failed when its tool did not hold back yet, or by another key: or it is there already
        if partition[FailureState].holds.get(key) == name:
            return
        writes.add("LREM", keys.held(partition.number, key), 0, name)
    writes.add("RPUSH", keys.held(partition.number, key), name)


def judge_breakers(
    writes: Writes, batch: Batch, settings: Settings, now_ms: int
) -> dict[str, Breaker | None]:
    """Count failures and successes by tool; park what waits. Returns the breakers that changed.

    None stands for a breaker that is closed again and need not be remembered. The partition's own
    follow from the commit.
    """
    partition, state = batch.partition, batch.partition[FailureState]
    changed: dict[str, Breaker | None] = {}
    if not state.breakers and not any(e.failure or e.waits for e in batch.entries):
        return changed
    for entry in batch.entries:
        event = entry.value
        if not isinstance(event, Event):
            continue
        if entry.waits == PARKED:
            name = letter_id(batch.channel, partition.number, entry)
            key = keys.parked(partition.number, event.tool_id)
            writes.add("ZADD", key, event.received_at_ms, name)
            continue
        if entry.waits or entry.status is Status.DUPLICATE:
            continue
        breaker = changed.get(event.tool_id) or _copy(state.breakers.get(event.tool_id))
        probe = breaker is not None and entry.letter_id == breaker.probe
        if entry.failure and entry.failure.final and not probe:
            # a payload that breaks its schema says nothing about the next one
            continue
        if entry.failure:
            breaker = breaker or Breaker(
                settings.breaker_failures, int(settings.breaker_wait_seconds * 1000)
            )
            breaker.failed(now_ms)
        elif breaker is None or (
            breaker.state is not BreakerState.CLOSED and entry.letter_id != breaker.probe
        ):
            continue
        else:
            breaker.succeeded()
        changed[event.tool_id] = breaker
    for tool_id, breaker in changed.items():
        assert breaker is not None
        writes.add(
            "HSET", keys.breakers(partition.number), tool_id, orjson.dumps(breaker.to_dict())
        )
    kept = {tool_id: breaker for tool_id, breaker in changed.items() if breaker}
    writes.then(lambda: state.breakers.update(kept))
    return changed


def tripped(partitions: Iterable[Partition]) -> dict[str, str]:
    """Tools whose circuit breaker is open or half-open in one of them, with its state."""
    return {
        tool_id: breaker.state.value
        for partition in partitions
        for tool_id, breaker in partition[FailureState].breakers.items()
        if breaker.state is not BreakerState.CLOSED
    }


def _copy(breaker: Breaker | None) -> Breaker | None:
    if breaker is None:
        return None
    return Breaker.from_dict(
        breaker.to_dict(), threshold=breaker.threshold, wait_ms=breaker.wait_ms
    )


def _wait(entry: Entry, what: str) -> None:
    entry.status = Status.RETRYING
    entry.waits = what
