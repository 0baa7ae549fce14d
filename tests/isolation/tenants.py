"""How a tenant is made and unmade here. The one place to edit once there is an API for it."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import asyncpg

from hookstream.app import embedded
from tests.support.stack import Stack, eventually

__all__ = ["Tenant", "database", "make_tenant", "unmake_tenant"]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, and the key of its owner."""

    name: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@asynccontextmanager
async def database(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the PostgreSQL of a stack."""
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    try:
        yield connection
    finally:
        await connection.close()


async def make_tenant(stack: Stack, name: str) -> Tenant:
    """A tenant with a key of its owner."""
    key = f"hsk_{secrets.token_urlsafe(32)}"
    async with database(stack) as connection:
        await connection.execute(
            "INSERT INTO api_keys (key_id, tenant, name, hash, contexts, role) "
            "VALUES ($1, $2, 'owner', $3, '{}', 'owner')",
            f"key-{secrets.token_hex(6)}",
            name,
            hashlib.sha256(key.encode()).digest(),
        )
    made = Tenant(name, key)

    async def known() -> bool:
        async with (
            aiohttp.ClientSession(stack.url, headers=made.headers) as session,
            session.get("/api/v1/quotas") as response,
        ):
            return response.status == 200

    await eventually(known, "the tenant's key counts")
    return made


async def unmake_tenant(stack: Stack, tenant: Tenant) -> None:
    """Take its tools, contexts and keys away: others share the stack, and have one tenant."""
    async with database(stack) as connection:
        for table in ("subscriptions", "contexts", "tools", "templates", "api_keys"):
            await connection.execute(f"DELETE FROM {table} WHERE tenant = $1", tenant.name)

    async def gone() -> bool:
        async with (
            aiohttp.ClientSession(stack.url, headers=tenant.headers) as session,
            session.get("/api/v1/quotas") as response,
        ):
            return response.status == 401

    await eventually(gone, "the tenant's keys are gone")
