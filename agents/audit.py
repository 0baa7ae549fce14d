"""Audit: writes what was decided to PostgreSQL, where it can be searched.

In: batches of ``audit[p]``. While PostgreSQL is away they wait in their stream; receiving and
delivery go on.
"""

from hookstream.app import channels, keys
from hookstream.app.batch import Batch
from hookstream.app.main import app
from hookstream.app.stores.audit import write_audit


@app.batches(channels.audit)
async def audit(batch: Batch) -> None:
    """Records events and deliveries: two inserts a batch."""
    await write_audit(app.parts.postgres, [entry.value for entry in batch.live()])
    partition = batch.partition
    await app.parts.scripts.call(
        "commit",
        [keys.lease(partition.number), keys.audit(partition.number)],
        [
            partition.epoch,
            partition.nonce,
            keys.GROUP,
            0,
            1,
            *(entry.entry_id for entry in batch.entries),
        ],
    )
    batch.done()
