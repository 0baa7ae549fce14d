"""Audit: writes what was decided to PostgreSQL, where it can be searched.

In: batches of ``audit[p]``. While PostgreSQL is away they wait in their stream; receiving and
delivery go on.
"""

from hookstream.app import channels
from hookstream.app.failures.blocking import bury_failed, judge
from hookstream.app.failures.failed_events import write_failures
from hookstream.app.main import app
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.commit import Commit, Writes, commit_all
from hookstream.app.streams.group import Group


async def audit_together(group: Group) -> None:
    """The same for several batches; those are left of which entries have failed already."""
    for batch in group:
        if not batch.entries or any(entry.failure for entry in batch.entries):
            group.leave(batch)
    going = list(group)
    records = [(batch.partition, [entry.value for entry in batch.entries]) for batch in going]
    for batch, error in zip(going, await app.worker.recorder.record_all(records), strict=True):
        if error is not None:
            batch.fail(error)
    now_ms = app.services.clock.now_ms()
    going = list(group)
    commits = [_commit(batch, now_ms) for batch in going]
    for batch, error in zip(going, await commit_all(app.services.scripts, commits), strict=True):
        if error is None:
            batch.done()
        else:
            batch.fail(error)


@app.batches(channels.audit, together=audit_together)
async def audit(batch: Batch) -> None:
    """Records events and deliveries, together with what other partitions have just then."""
    services, now_ms = app.services, app.services.clock.now_ms()
    await bury_failed(services.scripts, batch, app.settings, now_ms)
    await app.worker.recorder.record(batch.partition, [entry.value for entry in batch.entries])
    if batch.entries:
        [error] = await commit_all(services.scripts, [_commit(batch, now_ms)])
        if error is not None:
            raise error
    batch.done()


def _commit(batch: Batch, now_ms: int) -> Commit:
    writes = Writes()
    write_failures(writes, batch, judge(batch, app.settings, now_ms), app.settings, now_ms)
    return Commit(batch.partition, batch.channel, writes, batch.entries, trim=True)
