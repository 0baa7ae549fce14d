"""Audit: writes what was decided to PostgreSQL, where it can be searched.

In: batches of ``audit[p]``. While PostgreSQL is away they wait in their stream; receiving and
delivery go on.
"""

from hookstream.app import channels
from hookstream.app.batch import Batch
from hookstream.app.commit import bury_failed, commit_batch
from hookstream.app.main import app
from hookstream.app.stores.audit import write_audit


@app.batches(channels.audit)
async def audit(batch: Batch) -> None:
    """Records events and deliveries: two inserts a batch."""
    await bury_failed(app.parts.scripts, batch)
    await write_audit(app.parts.postgres, [entry.value for entry in batch.entries])
    if batch.entries:
        await commit_batch(app.parts.scripts, batch, batch.entries, trim=True)
    batch.done()
