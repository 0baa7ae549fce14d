"""Warm blocks that lose some of their events: opened, and put together anew as they were kept."""

import asyncio
from collections.abc import Sequence

from hookstream.app.keyring.data_keys import DataKeys
from hookstream.codecs.sealed import MonthKey, block_place, is_sealed, key_ids, sealed_like
from hookstream.codecs.warm_block import KeptEvent, pack_block, read_block

__all__ = ["block_of", "open_block"]


async def open_block(data_keys: DataKeys | None, name: str, data: bytes) -> list[KeptEvent]:
    """The events of the block ``name``, sealed or not.

    Raises:
        SealingKeyError: its key cannot be had now.
        ErasedError: its key was destroyed.
        CodecError: it cannot be read.
    """
    if data_keys is not None:
        await data_keys.fetch(key_ids((data,)))
    return await asyncio.to_thread(read_block, data, block_place(name))


async def block_of(
    left: Sequence[KeptEvent], name: str, old: bytes, by: MonthKey | None = None
) -> bytes:
    """A block in place of ``old``, under its name and sealed where that was sealed.

    By its key, or ``by`` another one. b"" where nothing is left.

    Raises:
        ErasedError: the key was destroyed meanwhile.
        CodecError: it cannot be packed.
    """
    if not left:
        return b""
    events = [(one.entry_id, (one.envelope,)) for one in left]
    block = await asyncio.to_thread(pack_block, events)
    if by is not None and is_sealed(old):
        return by.seal(block, block_place(name))
    return sealed_like(old, block, block_place(name))
