"""Whether event log, manifest, archive and Redis say the same: what differs, as sentences."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hookstream.app.archive.rows import Place
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.lifecycle.rules import ttl_of
from hookstream.app.lifecycle.status import warm_of
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.tiers import COLD, GONE, WARM, Tiers, warm_entry
from hookstream.codecs.errors import CodecError, ErasedError
from hookstream.codecs.sealed import block_place, key_ids
from hookstream.codecs.warm_block import read_block

__all__ = ["Verified", "verify_events", "verify_warm"]

#: What an event is not in, by the tier that it should be in.
NOT_IN = {
    GONE: "no tier",
    WARM: "no warm block, though one goes from before it to behind it",
    COLD: "no object of the archive, though the manifest says that it was stored",
}
#: Blocks that are read in one round trip.
BLOCKS = 16


@dataclass(slots=True)
class Verified:
    """A part that was looked at: what differs, and from where the next one begins."""

    looked_at: int = 0
    differences: list[str] = field(default_factory=list)
    #: By tier: of how many events.
    tiers: dict[str, int] = field(default_factory=dict)
    cursor: str | None = None


async def verify_events(
    postgres: Postgres,
    tiers: Tiers,
    catalog: Catalog,
    now_ms: int,
    after: str,
    limit: int,
    *,
    read: bool = False,
) -> Verified:
    """Whether a page of events, in the order of their ids, are in some tier while they should be.

    ``read``: the archive's objects are looked into, and not only their manifest.

    Raises:
        UnavailableError: PostgreSQL or the archive is away.
        redis.exceptions.RedisError: Redis does not answer.
    """
    rows = await postgres.fetch(statement("verify_events"), UUID(after or "0" * 32), limit)
    places = [
        Place(row["tenant"], row["tool_id"], row["partition"], row["entry_id"]) for row in rows
    ]
    result = Verified(len(rows), cursor=str(rows[-1]["event_id"]) if len(rows) == limit else None)
    told = await tiers.tiers(places)
    found = await tiers.verified(places, told, read=read)
    for row, place, tier, there in zip(rows, places, told, found, strict=True):
        kept = tier if there else GONE
        result.tiers[kept] = result.tiers.get(kept, 0) + 1
        ttl = ttl_of(catalog, (place.tenant, place.tool_id))
        if there or ttl is None or tiers.is_erased(place.tenant, str(row["event_id"])):
            continue
        age_ms = now_ms - row["received_ms"]
        if age_ms < ttl.whole_ms:
            result.differences.append(
                f"event {row['event_id']} of {place.tenant}/{place.tool_id} (entry "
                f"{place.entry_id} of partition {place.partition}) is in {NOT_IN[tier]}, "
                f"{age_ms / 1000:.0f} s after it was received"
            )
    return result


async def verify_warm(redis: Any, partition: int, data_keys: DataKeys | None = None) -> Verified:
    """Whether a partition's warm blocks are there, readable, and what their index says.

    One whose data key was destroyed cannot be read, and is what it should be.

    Raises:
        SealingKeyError: a data key cannot be had now.
        redis.exceptions.RedisError: Redis does not answer.
    """
    result = Verified()
    for owner, members in (await warm_of(redis, partition)).items():
        for start in range(0, len(members), BLOCKS):
            some = members[start : start + BLOCKS]
            await _verify_blocks(redis, partition, owner, some, result, data_keys)
    return result


async def _verify_blocks(
    redis: Any,
    partition: int,
    owner: tuple[str, str],
    members: Sequence[bytes],
    result: Verified,
    data_keys: DataKeys | None,
) -> None:
    blocks = [warm_entry(member) for member in members]
    names = [keys.warm_block(partition, *owner, block.last) for block in blocks]
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.get(name)
    found = await pipe.execute()
    if data_keys is not None:
        await data_keys.fetch(key_ids(found))
    for name, block, data in zip(names, blocks, found, strict=True):
        result.looked_at += 1
        if data is None:
            # it may have been archived since the index was read
            index = keys.warm_index(partition, *owner)
            if await redis.zscore(index, block.encode()) is not None:
                result.differences.append(f"{name} is in its index, and not there")
            continue
        try:
            events = await asyncio.to_thread(read_block, data, block_place(name))
        except ErasedError:
            continue
        except CodecError as error:
            result.differences.append(f"{name} cannot be read: {error}")
            continue
        ends = (events[0].entry_id, events[-1].entry_id, len(events)) if events else ()
        if ends != (block.first, block.last, block.events):
            result.differences.append(f"{name} has {ends}, its index says {block.encode()}")
