"""Row-level security: a statement of one tenant's call sees nothing of another one's."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest

from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.postgres.tenancy import ROLE, of_tenant, whole
from hookstream.app.web.health_parts import tenants_out
from tests.integration.postgres.test_upgrades import database

#: Every table whose rows are a tenant's, but for those that docs/tenants.md names.
UNHELD = {"dictionaries", "archive_objects", "archive_covered"}
MINE = "SELECT DISTINCT tenant FROM contexts ORDER BY tenant"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Postgres]:
    postgres = Postgres(url)
    try:
        await postgres.fetchrow("SELECT 1")
        yield postgres
    finally:
        await postgres.stop()
        await postgres.on_stop()


async def fill(postgres: Postgres) -> None:
    for tenant in ("acme", "other"):
        await postgres.execute(
            "INSERT INTO contexts (tenant, context_id, name, priority) VALUES ($1, 'c', '', 'low')",
            tenant,
        )
        await postgres.execute("INSERT INTO tenants (tenant_id) VALUES ($1)", tenant)
        await postgres.execute(
            "INSERT INTO replays (replay_id, tenant, status) VALUES ($1, $2, 'running')",
            UUID(int=len(tenant)),
            tenant,
        )
        await postgres.execute(
            "INSERT INTO replay_events (replay_id, event_id, status) VALUES ($1, $1, 'dead')",
            UUID(int=len(tenant)),
        )


@pytest.fixture
async def held(postgres_url: str) -> AsyncIterator[Postgres]:
    async with database(postgres_url) as url, opened(url) as postgres:
        await fill(postgres)
        yield postgres


async def test_a_call_sees_its_tenants_rows_whatever_its_statements_say(held: Postgres) -> None:
    assert held.unheld == ""
    with of_tenant("acme"):
        assert [row["tenant"] for row in await held.fetch(MINE)] == ["acme"]
        assert (await held.fetchrow("SELECT count(*) FROM contexts WHERE tenant = 'other'"))[0] == 0
        assert [row[0] for row in await held.fetch("SELECT tenant_id FROM tenants")] == ["acme"]
        assert (await held.fetchrow("SELECT count(*) FROM replay_events"))[0] == 1
        async with held.snapshot() as connection:
            assert [row["tenant"] for row in await connection.fetch(MINE)] == ["acme"]
        async with held.transaction() as connection:
            assert [row["tenant"] for row in await connection.fetch(MINE)] == ["acme"]
        with whole():
            assert len(await held.fetch(MINE)) == 2
    # and afterwards the connection is whose it was
    assert len(await held.fetch(MINE)) == 2


async def test_without_a_tenant_the_role_sees_nothing(held: Postgres) -> None:
    async with held.transaction() as connection:
        await connection.execute(f"SET LOCAL ROLE {ROLE}")
        assert await connection.fetch(MINE) == []
        assert await connection.fetch("SELECT * FROM audit_trail") == []


async def test_every_table_of_tenants_is_held(held: Postgres) -> None:
    """Also those that a migration brings which is not written yet."""
    await held.execute("CREATE TABLE later (tenant text NOT NULL, n integer)")
    await held.execute("INSERT INTO later VALUES ('other', 1)")
    await held.execute("CREATE TABLE parts (replay uuid REFERENCES replays, n integer)")
    for tenant in ("acme", "other"):
        await held.execute("INSERT INTO parts VALUES ($1, 1)", UUID(int=len(tenant)))
    assert await held.fetchrow("SELECT tenant_row_security() AS said") == ("",)
    rows = await held.fetch(
        "SELECT relname, relrowsecurity FROM pg_class AS c WHERE relkind = 'r' AND EXISTS ("
        "SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant' "
        "AND NOT attisdropped)"
    )
    assert {row["relname"] for row in rows if not row["relrowsecurity"]} == UNHELD
    with of_tenant("acme"):
        assert await held.fetch("SELECT * FROM later") == []
        [part] = await held.fetch("SELECT replay FROM parts")
        assert part["replay"] == UUID(int=len("acme"))


async def test_what_is_written_is_the_tenants_own(held: Postgres) -> None:
    """And the audit trail and the registry's log, which are of all, are written all the same."""
    put = statement("put_context")
    given = ("mine", "", "low", None, None, None, None, 0)
    with of_tenant("acme"):
        assert await held.fetchrow_in_turn("t", put, "acme", *given)
        with pytest.raises(UnavailableError):
            await held.fetchrow_in_turn("t", put, "other", *given)
        assert await held.execute("DELETE FROM contexts WHERE tenant = 'other'") == "DELETE 0"
        assert await held.execute("UPDATE contexts SET name = 'x'") == "UPDATE 2"
    names = await held.fetch("SELECT tenant, name FROM contexts ORDER BY tenant")
    assert [(row["tenant"], row["name"]) for row in names] == [
        ("acme", "x"),
        ("acme", "x"),
        ("other", ""),
    ]
    trail = await held.fetch(
        "SELECT DISTINCT tenant FROM audit_trail WHERE action LIKE 'context.%'"
    )
    assert {row["tenant"] for row in trail} == {"acme", "other"}
    logged = await held.fetch("SELECT row_key FROM registry_changes WHERE kind = 'contexts'")
    assert ["acme", "mine"] in [row["row_key"] for row in logged]


@asynccontextmanager
async def user(server_url: str) -> AsyncIterator[str]:
    """Somebody who may log in and make no roles."""
    name = f"owner_{secrets.token_hex(4)}"
    server = await asyncpg.connect(server_url)
    await server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' NOSUPERUSER NOCREATEROLE")
    try:
        yield name
    finally:
        await server.execute(f"DROP ROLE {name}")
        await server.close()


async def test_where_the_role_may_not_be_used_all_goes_on_and_health_says_so(
    postgres_url: str,
) -> None:
    async with user(postgres_url) as name, database(postgres_url) as url:
        admin = await asyncpg.connect(url)
        # a server that has had an installation has the role
        async with database(postgres_url) as another, opened(another):
            pass
        database_name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"ALTER DATABASE {database_name} OWNER TO {name}")
        await admin.execute(f"GRANT ALL ON SCHEMA public TO {name}")
        async with opened(with_user(url, name)) as postgres:
            assert f"GRANT {ROLE} TO {name}" in (postgres.unheld or "")
            await fill(postgres)
            with of_tenant("acme"):
                assert len(await postgres.fetch(MINE)) == 2, "statements alone tell them apart"
            part = tenants_out(postgres.unheld, others=True)
            assert (part["row_security"], part["status"]) == ("off", "degraded")
            assert "status" not in tenants_out(postgres.unheld, others=False)
            await admin.execute(f"GRANT {ROLE} TO {name}")
            assert await postgres.hold_tenants() == ""
            assert tenants_out(postgres.unheld, others=True) == {"row_security": "on"}
            with of_tenant("acme"):
                assert len(await postgres.fetch(MINE)) == 1
        await admin.execute(f"REVOKE {ROLE} FROM {name}")
        await admin.close()


def with_user(url: str, name: str) -> str:
    """A server's URL for another user."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    query = [
        (key, value) for key, value in parse_qsl(parts.query) if key not in ("user", "password")
    ]
    own = {"user": name, "password": "x"}
    return urlunsplit(parts._replace(netloc=place, query=urlencode([*query, *own.items()])))
