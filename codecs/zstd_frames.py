"""Where zstd frames end (RFC 8878, 3.1), without unpacking them.

A reader of a stream gives what is there and says nothing of what is missing: of a frame without a
checksum nobody would ever know.
"""

from typing import Final

__all__ = ["frame_end"]

_FRAME: Final = 0xFD2FB528
#: The last four bits are any.
_SKIPPED: Final = 0x184D2A50
_REPEATED: Final = 1
_DICTIONARY_BYTES: Final = (0, 1, 2, 4)
_SIZE_BYTES: Final = (0, 2, 4, 8)


def frame_end(data: bytes, at: int, max_blocks: int) -> tuple[int, int]:
    """Where the frame that begins at ``at`` ends, and how many blocks it has.

    The end is behind that of ``data`` where the frame is cut off. After ``max_blocks``, and one
    more, it looks no further. Raises ValueError: no frame begins there.
    """
    magic, cut_off = _number(data, at, 4), len(data) + 1
    if at + 4 > len(data):
        return cut_off, 0
    if magic & ~15 == _SKIPPED:
        return at + 8 + _number(data, at + 4, 4), 1
    if magic != _FRAME:
        raise ValueError("no zstd frame")
    if at + 5 > len(data):
        return cut_off, 0
    flags = data[at + 4]
    is_single = flags >> 5 & 1
    # a single segment has its size, of a byte at least, in place of a window's
    size = _SIZE_BYTES[flags >> 6] or is_single
    at += 5 + (1 - is_single) + _DICTIONARY_BYTES[flags & 3] + size
    blocks, is_last = 0, 0
    while not is_last and blocks <= max_blocks:
        if at + 3 > len(data):
            return cut_off, blocks
        head = _number(data, at, 3)
        is_last = head & 1
        # a byte that is repeated is one, however often
        at += 3 + (1 if head >> 1 & 3 == _REPEATED else head >> 3)
        blocks += 1
    return at + (4 if flags & 4 else 0), blocks


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
