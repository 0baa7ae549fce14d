"""What a tenant has in PostgreSQL and Redis, to see whether somebody has changed it."""

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

import redis.asyncio

from hookstream.app import embedded
from tests.isolation.tenants import database
from tests.isolation.things import Things
from tests.support.stack import Stack

__all__ = ["at_rest", "difference", "snapshot"]

#: Tables whose rows move by themselves: when a key was used last.
MOVING = ("api_key_uses",)
#: Keys that anybody may add to: the door notes what it refuses.
OPEN = (b"hs:refusals:",)

State = dict[str, str]


async def snapshot(stack: Stack, things: Things, other: str = "") -> State:
    """A digest of each table's rows and each key of Redis that are the tenant's.

    ``other``: a tenant whose things may have the same names.
    """
    return {**await _rows(stack, things), **await _keys(stack, things, other.encode())}


async def at_rest(stack: Stack, things: Things, other: str = "") -> State:
    """The state, once it does not change by itself any more."""
    before = await snapshot(stack, things, other)
    for _ in range(60):
        await asyncio.sleep(0.5)
        now = await snapshot(stack, things, other)
        if now == before:
            return now
        before = now
    raise AssertionError("what the tenant has does not come to rest")


def difference(before: State, after: State) -> list[str]:
    """Names of what is another, new or gone."""
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )


async def _rows(stack: Stack, things: Things) -> State:
    found: State = {}
    async with database(stack) as connection:
        tables = await connection.fetch(
            "SELECT c.table_name FROM information_schema.columns c "
            "JOIN information_schema.tables t USING (table_schema, table_name) "
            "WHERE c.table_schema = 'public' AND c.column_name = 'tenant' "
            "AND t.table_type = 'BASE TABLE'"
        )
        for (table,) in tables:
            if table not in MOVING:
                rows = await connection.fetch(
                    f'SELECT to_jsonb(t)::text FROM "{table}" t WHERE tenant = $1 ORDER BY 1',
                    things.tenant,
                )
                found[f"table {table}"] = _digest(row[0].encode() for row in rows)
    return found


async def _keys(stack: Stack, things: Things, other: bytes) -> State:
    """Keys that are called after something of the tenant, and what others hold of it."""
    needles = [word.encode() for word in {things.tenant, things.marker, *things.also}]
    found: State = {}
    client = redis.asyncio.Redis.from_url(
        str(embedded.find_valkey(stack.state_dir / "state")), protocol=2
    )
    try:
        async for key in client.scan_iter(count=1000):
            name = key.decode("utf-8", "replace")
            if key.startswith(OPEN) or (other and other in key):
                continue
            if any(needle in key for needle in needles):
                value = await client.dump(key)
                if value is not None:
                    found[f"key {name}"] = _digest([value])
                continue
            members = [
                member
                for member in await _members(client, key, needles)
                if not (other and other in member)
            ]
            if members:
                found[f"in key {name}"] = _digest(sorted(members))
    finally:
        await client.aclose()
    return found


async def _members(client: Any, key: bytes, needles: list[bytes]) -> list[bytes]:
    kind = await client.type(key)
    pairs: list[tuple[bytes, bytes]] = []
    if kind == b"hash":
        pairs = list((await client.hgetall(key)).items())
    elif kind == b"zset":
        scored = await client.zrange(key, 0, -1, withscores=True)
        pairs = [(member, repr(score).encode()) for member, score in scored]
    elif kind == b"set":
        pairs = [(member, b"") for member in await client.smembers(key)]
    return [
        name + b"\0" + value for name, value in pairs if any(needle in name for needle in needles)
    ]


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()
