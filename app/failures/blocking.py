"""What makes events wait: a blocked ordering key, a tool whose circuit breaker is open.

The rules are in :mod:`hookstream.app.failures.rules`; this asks them about a batch. What is
blocked or parked is let go by the retry scheduler.
"""

from collections.abc import Iterable

from hookstream.app import metrics
from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures import rules
from hookstream.app.failures.failed_events import failed_event_id, log_failures, write_failures
from hookstream.app.failures.hand_overs import holder_of
from hookstream.app.failures.rules import Candidate, Decision
from hookstream.app.failures.state import FailureState
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.event_keys import key_name_of
from hookstream.app.routing.paths import OLD
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.outcome import Blocked, Failed
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event

__all__ = ["blocked_key", "bury_failed", "judge", "mark_waiting", "tripped"]


def blocked_key(event: Event, catalog: Catalog) -> str:
    """The ordering key that an event blocks if it fails; "" where its tool lets others pass."""
    tool = catalog.tools.get(event.tool_id)
    if tool is None or tool.on_error != "hold":
        return ""
    return key_name_of(tool, event)


def mark_waiting(batch: Batch, catalog: Catalog) -> None:
    """Take events that have to wait out of the stages' way."""
    state = batch.partition[FailureState]
    if not state.blocked and not state.breakers:
        return
    for entry in list(batch.live()):
        if entry.path == OLD:
            continue  # nobody waits here for what is worked on elsewhere
        key = blocked_key(entry.value, catalog) if state.blocked else ""
        candidate = _candidate(batch, entry, key)
        if blocked := rules.waits_for(candidate, state.blocked, state.breakers):
            entry.outcome = blocked


def judge(
    batch: Batch, settings: Settings, now_ms: int, catalog: Catalog | None = None
) -> Decision:
    """Decide what becomes of every entry, and set its outcome; Redis and state stay as they are.

    Where there is no ``catalog`` nothing is blocked and no breaker counts: failed entries are
    tried again or dead, that is all.
    """
    state = batch.partition[FailureState]
    troubled = any(isinstance(e.outcome, (Failed, Blocked)) for e in batch.entries)
    if not (troubled or state.blocked or state.breakers):
        # most batches: there is nothing to decide, and it costs nothing
        return Decision([entry.outcome for entry in batch.entries])
    keyed = catalog is not None and (troubled or bool(state.blocked))
    decision = rules.decide(
        [
            _candidate(batch, entry, *(_key(entry, catalog) if keyed else ("", False)))
            for entry in batch.entries
        ],
        state.blocked,
        state.breakers,
        max_attempts=settings.retry_max_attempts,
        new_breaker=lambda: Breaker(
            settings.breaker_failures, int(settings.breaker_wait_seconds * 1000)
        ),
        now_ms=now_ms,
    )
    for entry, outcome in zip(batch.entries, decision.outcomes, strict=True):
        entry.outcome = outcome
    return decision


def tripped(partitions: Iterable[Partition]) -> dict[str, str]:
    """Tools whose circuit breaker is open or half-open in one of them, with its state."""
    return {
        tool_id: breaker.state.value
        for partition in partitions
        for tool_id, breaker in partition[FailureState].breakers.items()
        if breaker.state is not BreakerState.CLOSED
    }


def _key(entry: Entry, catalog: Catalog | None) -> tuple[str, bool]:
    """The ordering key that counts for an entry, "" for none; whether that is a soft one."""
    if catalog is None or not isinstance(entry.value, Event):
        return "", False
    if isinstance(entry.outcome, Blocked) and entry.outcome.key:
        # its tool may be another one by now: it is listed where it was told to wait
        return entry.outcome.key, False
    if key := blocked_key(entry.value, catalog):
        return key, False
    # it has waited for a hand-over, and its tool does not hold others back
    return entry.listed, bool(entry.listed)


def _candidate(batch: Batch, entry: Entry, key: str, soft: bool = False) -> Candidate:
    return Candidate(
        failed_event_id(batch.channel, batch.partition.number, entry),
        entry.outcome,
        again=bool(entry.failed_event_id),
        key=key,
        # elsewhere than in the pipeline, what fails says nothing of its tool
        tool_id=entry.value.tool_id
        if isinstance(entry.value, Event) and batch.channel == "events"
        else "",
        listed=entry.listed,
        attempts=entry.attempts,
        holder=holder_of(entry.mark) if entry.mark else "",
        soft=soft,
    )


async def bury_failed(scripts: Scripts, batch: Batch, settings: Settings, now_ms: int) -> None:
    """Make failed events of a batch's failed entries at once, and take them out of the batch.

    For stages that have no commit of their own before their work is done; rare, so the second
    script is cheap.
    """
    failed = [entry for entry in batch.entries if entry.failure]
    if not failed:
        return
    part = Batch(batch.channel, batch.partition, failed, lambda *_: None)
    writes = Writes()
    write_failures(writes, part, judge(part, settings, now_ms), settings, now_ms)
    await commit(scripts, batch.partition, batch.channel, writes, failed)
    # not before: a batch that comes again is what is in it now
    batch.entries = [entry for entry in batch.entries if not entry.failure]
    log_failures(part)
    for entry in failed:
        metrics.EVENTS.labels(status=entry.status).inc()
