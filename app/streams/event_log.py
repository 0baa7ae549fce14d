"""What the event log is told of a batch: one record for each event that has news.

It goes to PostgreSQL by ``audit[p]``, whose entries are acknowledged once they are written there.
"""

from typing import Any, Final

from hookstream.app.keyring.error_texts import CLEAR, ErrorTexts
from hookstream.app.redis import keys
from hookstream.app.routing.paths import OURS
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import Accepted, Blocked, Dropped, Failed, Outcome
from hookstream.app.streams.progress import is_worked_off, last_entry, pending_from
from hookstream.codecs.envelope import Event, decode_event
from hookstream.proto.pipeline_pb2 import AuditBatch, EventAudit, PathAudit

__all__ = ["audit", "audit_end", "is_recorded", "unrecorded_from", "write_audit_entry"]

#: Contexts of an event that are kept for the comparison; of one with more they are not compared.
MAX_CONTEXTS: Final = 1000


def write_audit_entry(writes: Writes, batch: Batch, errors: ErrorTexts = CLEAR) -> None:
    """Add an entry of ``audit[p]``, where there is anything to tell."""
    record = audit(batch, errors)
    if record.events:
        writes.append(keys.audit(batch.partition.number), record.SerializeToString())


def audit(batch: Batch, errors: ErrorTexts = CLEAR) -> AuditBatch:
    """What became of each event of the batch; a second append of the same event is no news."""
    return AuditBatch(
        partition=batch.partition.number,
        events=[_event_audit(entry, errors) for entry in batch.entries if _is_news(entry)],
    )


def _is_news(entry: Entry) -> bool:
    """Whether an entry says something about its event that is not known."""
    return isinstance(entry.value, Event) and entry.duplicate_of != entry.value.event_id


def _event_audit(entry: Entry, errors: ErrorTexts) -> EventAudit:
    event: Event = entry.value
    error = _error(entry)
    came = decode_event(entry.raw) if entry.changed else event
    return EventAudit(
        event_id=event.event_id,
        tenant=event.tenant,
        tool_id=event.tool_id,
        provider=event.provider,
        type=event.type,
        status=entry.status,
        duplicate_of=entry.duplicate_of,
        message_id=event.message_id,
        delivery_id=event.delivery_id,
        received_at_ms=event.received_at_ms,
        entry_id=entry.entry_id,
        payload_bytes=came.payload_bytes,
        error=errors.seal(event.tenant, error) if error else "",
        stage=_stage(entry.outcome),
        replay_id=event.replay_id,
        dedup=entry.dedup,
        schema_errors=[errors.seal(event.tenant, one) for one in event.schema_errors],
        enrichment=event.enriched,
        batch_id=event.batch_id,
        batch_index=event.batch_index,
        payload_changed=entry.changed and _has_another_payload(event, came),
        again=bool(entry.failed_event_id),
        path=_path(entry),
    )


def _error(entry: Entry) -> str:
    """Why it failed here, also where old workers work on it, and so it ended otherwise."""
    if entry.failure:
        return entry.failure.error
    return entry.taken.error if entry.taken else ""


def _path(entry: Entry) -> PathAudit | None:
    """What the comparison of both paths needs to know; None where there is only one."""
    taken = entry.taken
    if taken is None:
        return None
    ended = isinstance(entry.outcome, Accepted | Dropped) and not taken.error
    decided = ended and taken.works_here and len(entry.targets) <= MAX_CONTEXTS
    return PathAudit(
        path=entry.path or OURS,
        copied=taken.copied,
        key=taken.key,
        decided=decided,
        contexts=[target.context_id for target in entry.targets] if decided else (),
        dropped_by=taken.dropped_by,
        decided_at_ms=taken.at_ms,
    )


def _has_another_payload(event: Event, came: Event) -> bool:
    """Whether a stage put another payload in place of the one that ``came``; unpacks neither."""
    if came.stored is not None:
        return event.stored is None
    return event.payload != came.payload


def _stage(outcome: Outcome) -> str:
    """Where an event's way ended for now, or what it waits for."""
    match outcome:
        case Failed(stage=stage) | Dropped(stage=stage) | Blocked(reason=stage):
            return stage
        case _:
            return ""


async def unrecorded_from(redis: Any, partition: int) -> str | None:
    """Where in ``audit[p]`` what is not in PostgreSQL begins, as XRANGE takes it.

    None when there is no such stream. Raises what Redis says.
    """
    return await pending_from(redis, keys.audit(partition))


async def audit_end(redis: Any, partition: int) -> str:
    """The newest entry that ``audit[p]`` has or had; 0-0 where there is none."""
    return await last_entry(redis, keys.audit(partition))


async def is_recorded(redis: Any, partition: int, end: str) -> bool:
    """Whether all of ``audit[p]`` up to an entry is in PostgreSQL."""
    return await is_worked_off(redis, keys.audit(partition), end)
