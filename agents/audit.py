"""Audit: writes what was decided to PostgreSQL, where it can be searched.

In: batches of ``audit[p]``. While PostgreSQL is away they wait in their stream; receiving and
delivery go on.
"""

from hookstream.app import channels
from hookstream.app.failures.blocking import bury_failed, judge
from hookstream.app.failures.failed_events import write_failures
from hookstream.app.main import app
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.commit import Writes, commit


@app.batches(channels.audit)
async def audit(batch: Batch) -> None:
    """Records events and deliveries, together with what other partitions have just then."""
    services, now_ms = app.services, app.services.clock.now_ms()
    await bury_failed(services.scripts, batch, app.settings, now_ms)
    await app.worker.recorder.record(batch.partition, [entry.value for entry in batch.entries])
    if batch.entries:
        writes = Writes()
        write_failures(writes, batch, judge(batch, app.settings, now_ms), app.settings, now_ms)
        await commit(
            services.scripts, batch.partition, batch.channel, writes, batch.entries, trim=True
        )
    batch.done()
