"""What dedup keeps of a partition: the table of its windows, and its history."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hookstream.app.deduplication.history import PartitionHistory
from hookstream.app.redis import keys
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import OpenState, Partition
from hookstream.app.streams.recovery import open_restored
from hookstream.codecs.routed import encode_changes
from hookstream.tables.dedup import DedupTable

__all__ = ["DedupState", "opens_dedup", "write_dedup"]


@dataclass(slots=True, eq=False)
class DedupState:
    """The open table; ``history`` is opened when the first event here asks for it."""

    table: DedupTable
    history: PartitionHistory | None = None

    def close(self) -> None:
        """Close the table, let filters go."""
        if self.history is not None:
            self.history.close()
        self.table.close()

    def wipe(self) -> None:
        """Delete the table's folder."""
        self.table.wipe(self.table.path)


def opens_dedup(redis: Any, folder: Path) -> OpenState:
    """Opens the dedup table of a partition below ``folder``, as its changelog has it."""

    async def open_state(partition: Partition, lease: Mapping[bytes, bytes]) -> None:
        table = await open_restored(redis, folder, partition.number, DedupTable)
        partition.add(DedupState(table))

    return open_state


def write_dedup(writes: Writes, batch: Batch) -> None:
    """Add what dedup has to remember of a batch; the table follows once that is written."""
    dedup = batch.partition[DedupState]
    if batch.changes:
        writes.append(
            keys.changelog(batch.partition.number),
            encode_changes(DedupTable.name, batch.changes),
            then=lambda entry_id: dedup.table.apply(batch.changes, entry_id),
        )
    if dedup.history:
        dedup.history.write(writes, batch.remembered)
