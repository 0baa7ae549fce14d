"""How a tenant is made and unmade here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import asyncpg

from hookstream.app import embedded
from hookstream.app.web.access import TENANT_HEADER
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
    """A tenant with a key of its owner, as an operator makes one."""
    async with stack.session() as session:
        async with session.post("/api/v1/tenants", json={"tenant_id": name}) as response:
            assert response.status == 201, await response.text()
        key = {"name": "owner", "role": "owner"}
        of_it = {TENANT_HEADER: name}
        async with session.post("/api/v1/api-keys", json=key, headers=of_it) as response:
            assert response.status == 201, await response.text()
            made = Tenant(name, (await response.json())["key"])

    async def known() -> bool:
        return await status_of(stack, made) == 200

    await eventually(known, "the tenant's key counts")
    return made


async def unmake_tenant(stack: Stack, tenant: Tenant) -> None:
    """Delete it: others share the stack, and have one tenant."""
    of_it = {TENANT_HEADER: tenant.name}
    async with stack.session() as session:
        async with session.get("/api/v1/holds", headers=of_it) as response:
            holds = (await response.json())["holds"]
        for hold in holds:
            if hold["released_at"] is None:
                path = f"/api/v1/holds/{hold['hold_id']}/release"
                async with session.post(path, json={"reason": "x"}, headers=of_it) as response:
                    assert response.status == 200, await response.text()
        path = f"/api/v1/tenants/{tenant.name}?confirm={tenant.name}"
        async with session.delete(path) as response:
            assert response.status in (200, 202), await response.text()

    async def gone() -> bool:
        return await status_of(stack, tenant) == 401

    await eventually(gone, "the tenant's keys are gone")


async def status_of(stack: Stack, tenant: Tenant) -> int:
    """What a plain call with the tenant's key is answered."""
    async with (
        aiohttp.ClientSession(stack.api_url, headers=tenant.headers) as session,
        session.get("/api/v1/quotas") as response,
    ):
        return response.status
