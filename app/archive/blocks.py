"""What storing warm blocks computes, by itself: a process of its own does it.

Neither Redis nor PostgreSQL are needed, nor anything of a process that has them.
"""

from collections.abc import Sequence

from hookstream.app.archive import parquet
from hookstream.app.archive.ranges import Covered, place
from hookstream.app.archive.rows import ArchivedEvent
from hookstream.codecs.errors import CodecError
from hookstream.codecs.warm_block import read_block

__all__ = ["check_rows", "encode_blocks"]

check_rows = parquet.check_rows


def encode_blocks(
    tenant: str, tool_id: str, partition: int, blocks: Sequence[bytes], ranges: Sequence[Covered]
) -> tuple[list[int], list[parquet.Encoded]] | None:
    """How many events each block has, and the objects that all of them make, one an hour.

    ``ranges`` are all entries that the blocks may have. None where one of them is damaged, or has
    others, or what is no event: whoever asks looks at each by itself then.
    """
    try:
        read = [read_block(data) for data in blocks]
        events = [
            ArchivedEvent(partition, event.entry_id, event.envelope)
            for block in read
            for event in block
        ]
        placed = [event for *_, event in place(events, ranges)]
        return [len(block) for block in read], parquet.encode_by_hour(tenant, tool_id, placed)
    except (CodecError, ValueError):
        return None
