"""What storing warm blocks computes, by itself: a process of its own does it.

Neither Redis nor PostgreSQL are needed, nor anything of a process that has them.
"""

from collections.abc import Mapping, Sequence

from hookstream.app.archive import parquet
from hookstream.app.archive.ranges import Covered, place
from hookstream.app.archive.rows import ArchivedEvent
from hookstream.codecs.errors import CodecError
from hookstream.codecs.sealed import KEYS, MonthKey, block_place
from hookstream.codecs.warm_block import read_block

__all__ = ["check_rows", "encode_blocks"]

check_rows = parquet.check_rows


def encode_blocks(
    tenant: str,
    tool_id: str,
    partition: int,
    blocks: Sequence[tuple[str, bytes]],
    ranges: Sequence[Covered],
    opens: Sequence[MonthKey] = (),
    keys: Mapping[str, MonthKey] | None = None,
) -> tuple[list[int], list[parquet.Encoded]] | None:
    """How many events each block has, and the objects that all of them make, one an hour.

    ``blocks`` are their names and bytes, ``ranges`` all entries that they may have. ``opens`` are
    keys that open them, ``keys`` seal what is made of them, by months; None: nothing is sealed.
    None where one of them is damaged, or has others, or what is no event: whoever asks looks at
    each by itself then.
    """
    try:
        with KEYS.lent(opens):
            read = [read_block(data, block_place(name)) for name, data in blocks]
        events = [
            ArchivedEvent(partition, event.entry_id, event.envelope)
            for block in read
            for event in block
        ]
        placed = [event for *_, event in place(events, ranges)]
        objects = parquet.encode_by_hour(tenant, tool_id, placed, keys)
        return [len(block) for block in read], objects
    except (CodecError, ValueError, parquet.LackingKeyError):
        return None
