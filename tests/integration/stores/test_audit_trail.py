"""The audit trail in PostgreSQL: written with what it is about, and nobody changes it unseen."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from hookstream.app.errors import NotFoundError, UnavailableError
from hookstream.app.postgres.acting import Acting, acting
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.stores import audit_trail as audit_trail_module
from hookstream.app.stores.audit_chain import Link, check_rows, export_line, exported_row
from hookstream.app.stores.audit_trail import ACTIONS, AuditFilter, AuditTrail, Verified
from hookstream.app.stores.audit_watch import AuditWatch

ADMIN = Acting("admin", "admin", "", "admin", "192.0.2.7", "request-1", "call-1")


class Trail:
    """The trail of one tenant on an empty database."""

    def __init__(self, postgres: Postgres, trail: AuditTrail, url: str) -> None:
        self.postgres = postgres
        self.trail = trail
        self.url = url

    async def context(self, name: str, *, title: str = "x") -> None:
        await self.postgres.execute(
            "INSERT INTO contexts (tenant, context_id, name, priority) VALUES ('t', $1, $2, 'low') "
            "ON CONFLICT (tenant, context_id) DO UPDATE SET name = $2",
            name,
            title,
        )

    async def records(self, **wanted: Any) -> list[dict[str, Any]]:
        rows = await self.trail.find("t", AuditFilter(limit=1000, **wanted))
        return [json.loads(row.record) for row in reversed(rows)]

    async def problems(self, expected: Link | None = None) -> list[tuple[int, str]]:
        return [(one.seq, one.kind) for one in (await self.verified(expected)).problems]

    async def verified(self, expected: Link | None = None) -> Verified:
        found = await self.trail.verify("t", None, expected)
        assert found.next is None
        return found

    async def tamper(self, *statements: str) -> None:
        """What somebody does who may do everything in the database."""
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                await connection.execute("ALTER TABLE audit_trail DISABLE TRIGGER ALL")
                for text in statements:
                    await connection.execute(text)
                await connection.execute("ALTER TABLE audit_trail ENABLE TRIGGER ALL")
        finally:
            await connection.close()


@pytest.fixture
async def trail(postgres_url: str, redis_client: redis.asyncio.Redis) -> AsyncIterator[Trail]:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    postgres = Postgres(postgres_url)
    await postgres.fetch("SELECT 1")
    yield Trail(postgres, AuditTrail(redis_client, postgres), postgres_url)
    await postgres.on_stop()


async def ten(trail: Trail) -> None:
    for n in range(10):
        await trail.context(f"c{n}")


async def test_a_change_is_recorded_with_who_before_and_after(trail: Trail) -> None:
    with acting(ADMIN):
        await trail.context("c", title="old")
        await trail.context("c", title="new")
        await trail.postgres.execute("DELETE FROM contexts WHERE context_id = 'c'")
    made, changed, deleted = await trail.records()
    assert [one["action"] for one in (made, changed, deleted)] == [
        "context.made",
        "context.changed",
        "context.deleted",
    ]
    assert changed["object"] == {"kind": "context", "id": "c"}
    assert (changed["before"]["name"], changed["after"]["name"]) == ("old", "new")
    assert (made["before"], deleted["after"]) == (None, None)
    assert changed["actor"] == {"kind": "admin", "id": "admin", "name": ""}
    assert (changed["address"], changed["request_id"]) == ("192.0.2.7", "request-1")
    assert await trail.problems() == []


async def test_who_comes_by_sql_is_named_as_such(trail: Trail) -> None:
    connection = await asyncpg.connect(trail.url, server_settings={"application_name": "psql"})
    await connection.execute(
        "INSERT INTO contexts (tenant, context_id, name, priority) VALUES ('t', 'c', 'x', 'low')"
    )
    user = await connection.fetchval("SELECT session_user::text")
    await connection.close()
    [made] = await trail.records()
    assert made["actor"] == {"kind": "database", "id": user, "name": "psql"}


async def test_a_change_that_is_rolled_back_has_no_row_and_none_is_made_without(
    trail: Trail,
) -> None:
    async def made_and_given_up() -> None:
        async with trail.postgres.transaction() as connection:
            await connection.execute(
                "INSERT INTO contexts (tenant, context_id, name, priority) "
                "VALUES ('t', 'c', 'x', 'low')"
            )
            raise NotFoundError("given up")

    with pytest.raises(NotFoundError):
        await made_and_given_up()
    assert await trail.records() == []
    # where the row cannot be written, neither is the change
    await trail.tamper("ALTER TABLE audit_trail ADD CONSTRAINT no_more CHECK (seq < 1) NOT VALID")
    with pytest.raises(asyncpg.CheckViolationError):
        await trail.context("c")
    assert await trail.postgres.fetch("SELECT FROM contexts") == []


async def test_secrets_are_counted_and_never_told(trail: Trail) -> None:
    for found in (["s3cret-one"], ["s3cret-two"]):
        await trail.postgres.execute(
            "INSERT INTO tools (tool_id, tenant, provider, secrets, dedup, ordering, ttl) "
            "VALUES ('x', 't', 'github', $1, '{}', '{}', '{}') "
            "ON CONFLICT (tool_id) DO UPDATE SET secrets = $1",
            found,
        )
    await trail.postgres.execute("UPDATE tools SET learnt_secret = 's3cret-three'")
    await trail.postgres.execute(
        "INSERT INTO api_keys VALUES ('key-1', 't', 'agent', 's3cret-hash'::bytea, '{c}')"
    )
    rows = await trail.postgres.fetch("SELECT record FROM audit_trail WHERE tenant = 't'")
    assert len(rows) == 4
    assert "s3cret" not in "".join(row["record"] for row in rows)
    assert b"s3cret".hex() not in "".join(row["record"] for row in rows)
    [changed, _] = await trail.records(action="tool.changed")
    assert changed["after"]["secrets"] == {"count": 1, "changed": True}


async def test_every_column_is_shown_or_known_to_be_secret_or_of_no_interest(trail: Trail) -> None:
    """A column that a migration adds does not get into the trail by itself: somebody says."""
    of_no_interest = {
        "tenant", "created_at", "updated_at", "tool_id", "context_id", "name", "key_id", "subject",
        "version", "number", "applied_at", "mode", "forwarded_since",
    }  # fmt: skip
    rows = await trail.postgres.fetch(
        """
        SELECT c.relname AS name, encode(t.tgargs, 'escape') AS args,
            array(SELECT attname::text FROM pg_attribute
                  WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE t.tgname LIKE '%\\_audited'
        """
    )
    assert len(rows) == 11
    for row in rows:
        _, key, shown, secret, *_ = row["args"].split("\\000")
        told = set(f"{key},{shown},{secret}".split(","))
        assert set(row["columns"]) - told - of_no_interest == set(), row["name"]
        assert set(shown.split(",")) <= set(row["columns"]), row["name"]


async def test_what_the_system_does_by_itself_is_recorded_when_it_is_seen(trail: Trail) -> None:
    await trail.context("c")
    # nothing that is shown: no row
    await trail.postgres.execute("UPDATE contexts SET updated_at = now()")
    await trail.postgres.execute("UPDATE contexts SET name = 'y'")
    made, changed = await trail.records()
    assert made["actor"]["kind"] == changed["actor"]["kind"] == "system"


async def test_actions_are_those_of_the_list(trail: Trail) -> None:
    rows = await trail.postgres.fetch(
        "SELECT encode(tgargs, 'escape') AS args, tgtype FROM pg_trigger "
        "WHERE tgfoid = 'audit_change'::regproc"
    )
    for row in rows:
        kind, _, _, _, *verb = row["args"].split("\\000")
        verbs = verb[:-1] or [
            name
            for bit, name in ((4, "made"), (8, "deleted"), (16, "changed"))
            if row["tgtype"] & bit
        ]
        assert {f"{kind}.{one}" for one in verbs} <= ACTIONS


async def test_many_writers_make_one_chain(trail: Trail) -> None:
    many = Postgres(trail.url, size=16)
    texts = [json.dumps({"action": "api.called", "entry": f"e{n}"}) for n in range(200)]
    await asyncio.gather(
        *(many.execute(statement("append_audit"), ["t"], [text]) for text in texts),
        *(trail.context(f"c{n}") for n in range(50)),
    )
    await many.on_stop()
    found = await trail.verified()
    assert (found.looked_at, found.problems, found.head.seq) == (250, [], 250)


@pytest.mark.parametrize(
    ("done", "found"),
    [
        (
            "UPDATE audit_trail SET record = replace(record, 'c4', 'c9') WHERE seq = 5",
            [(5, "changed")],
        ),
        (
            "UPDATE audit_trail SET hash = sha256('x') WHERE seq = 5",
            [(5, "changed"), (6, "unlinked")],
        ),
        ("DELETE FROM audit_trail WHERE seq BETWEEN 4 AND 6", [(4, "missing")]),
        ("DELETE FROM audit_trail WHERE seq = 1", [(1, "missing")]),
        ("DELETE FROM audit_trail WHERE seq > 8", [(9, "missing")]),
        # the newest, and where the chain ends says nothing of them
        (
            "DELETE FROM audit_trail WHERE seq > 8; UPDATE audit_heads SET seq = 8",
            [(8, "changed")],
        ),
        (
            "UPDATE audit_trail SET seq = 100 WHERE seq = 3; UPDATE audit_trail SET seq = 3 "
            "WHERE seq = 7; UPDATE audit_trail SET seq = 7 WHERE seq = 100",
            [(3, "moved"), (3, "unlinked"), (4, "unlinked"), (7, "moved"), (7, "unlinked"),
             (8, "unlinked")],
        ),
        # one more at the end, well made, and one in place of another, hashed anew
        (
            "INSERT INTO audit_trail (tenant, seq, record, previous, hash) "
            "SELECT 't', 11, r, hash, sha256(hash || convert_to(r, 'UTF8')) FROM audit_trail, "
            "LATERAL (SELECT replace(record, '\"seq\": 10', '\"seq\": 11') AS r) AS r "
            "WHERE seq = 10",
            [(11, "inserted")],
        ),
        (
            "UPDATE audit_trail SET record = replace(record, 'c4', 'c9'), hash = "
            "sha256(previous || convert_to(replace(record, 'c4', 'c9'), 'UTF8')) WHERE seq = 5",
            [(6, "unlinked")],
        ),
        # the beginning, and where it begins is moved along
        (
            "UPDATE audit_heads SET start_seq = 3, start_hash = "
            "(SELECT hash FROM audit_trail WHERE seq = 3); DELETE FROM audit_trail WHERE seq <= 3",
            [(1, "missing")],
        ),
        # a column alone, which searches go by
        (
            "ALTER TABLE audit_trail ALTER COLUMN actor DROP EXPRESSION; "
            "UPDATE audit_trail SET actor = 'somebody else' WHERE seq = 5",
            [(5, "changed")],
        ),
        ("DELETE FROM audit_heads", [(n, "inserted") for n in range(1, 11)]),
    ],
)  # fmt: skip
async def test_tampering_is_found_and_where(
    trail: Trail, done: str, found: list[tuple[int, str]]
) -> None:
    await ten(trail)
    assert await trail.problems() == []
    # in each: of the tenant, since there are rows of the default one
    await trail.tamper("DELETE FROM audit_trail WHERE tenant <> 't'", *done.split("; "))
    assert await trail.problems() == found


async def test_a_chain_that_was_written_anew_is_found_by_what_was_noted(trail: Trail) -> None:
    await ten(trail)
    noted = (await trail.verified()).head
    await trail.tamper(
        """
        DO $$
        DECLARE one audit_trail; last bytea := decode(repeat('00', 32), 'hex');
        BEGIN
            FOR one IN SELECT * FROM audit_trail WHERE tenant = 't' ORDER BY seq LOOP
                one.record := replace(one.record, '"c4"', '"c9"');
                one.hash := sha256(last || convert_to(one.record, 'UTF8'));
                UPDATE audit_trail SET record = one.record, previous = last, hash = one.hash
                WHERE tenant = 't' AND seq = one.seq;
                last := one.hash;
            END LOOP;
            UPDATE audit_heads SET hash = last WHERE tenant = 't';
        END $$
        """
    )
    assert await trail.problems() == []
    assert await trail.problems(noted) == [(10, "changed")]
    await trail.tamper("DELETE FROM audit_trail", "DELETE FROM audit_heads")
    assert await trail.problems() == []
    assert await trail.problems(noted) == [(10, "missing")]


@pytest.mark.parametrize(
    "done",
    [
        "UPDATE audit_trail SET record = record",
        "DELETE FROM audit_trail",
        "TRUNCATE audit_trail",
        "SET session_replication_role = replica; DELETE FROM audit_trail",
    ],
)
async def test_rows_are_appended_only(trail: Trail, done: str) -> None:
    await ten(trail)
    connection = await asyncpg.connect(trail.url)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await connection.execute(done)
    await connection.close()
    assert len(await trail.records()) == 10


async def test_pages_of_a_long_chain_are_verified_one_by_one(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_trail_module, "PAGE", 4)
    await ten(trail)
    await trail.tamper("UPDATE audit_trail SET record = replace(record, 'c4', 'c9') WHERE seq = 5")
    after, problems, looked = None, [], 0
    while True:
        found = await trail.trail.verify("t", after, None)
        problems += [(one.seq, one.kind) for one in found.problems]
        looked += found.looked_at
        if found.next is None:
            break
        after = Link.parse(str(found.next))
    assert (problems, looked) == ([(5, "changed")], 10)
    assert [len(page) async for page in trail.trail.pages("t")] == [4, 4, 2]


async def test_an_export_can_be_verified_by_itself(trail: Trail) -> None:
    await trail.context("c", title='","record":{"x": "☃"}')
    await ten(trail)
    [rows] = [page async for page in trail.trail.pages("t")]
    lines = b"".join(map(export_line, rows)).splitlines(keepends=True)
    problems, last = check_rows(map(exported_row, lines), Link(0, bytes(32)))
    assert (problems, last) == ([], (await trail.verified()).head)
    line = json.loads(lines[0])
    assert line["record"]["after"]["name"] == '","record":{"x": "☃"}'
    lines[3] = lines[3].replace(b'"c2"', b'"c9"')
    problems, _ = check_rows(map(exported_row, lines), Link(0, bytes(32)))
    assert [(one.seq, one.kind) for one in problems] == [(4, "changed")]


async def test_what_has_expired_leaves_a_chain_that_can_be_verified(trail: Trail) -> None:
    await ten(trail)
    [*_, cut, _] = [one["recorded_at"] for one in await trail.records()]
    arguments = (cut, "2000-01-01T00:00:00.000000Z", 5, [])
    assert not await trail.postgres.fetch(statement("expire_audit"), *arguments)
    later = (cut, "2100-01-01T00:00:00.000000Z", 5, [])
    # nothing of a tenant of which something is held
    held = (*later[:3], ["t"])
    found = await trail.postgres.fetch(statement("expire_audit"), *held)
    assert [row for row in found if row["tenant"] == "t"] == []
    for rows in (5, 3):
        found = await trail.postgres.fetch(statement("expire_audit"), *later)
        assert [row["rows"] for row in found if row["tenant"] == "t"] == [rows]
    kept = await trail.records()
    assert [one["seq"] for one in kept] == [9, 10, 11, 12]
    assert kept[-1]["action"] == "audit.expired"
    assert (kept[-1]["after"]["through"], kept[-1]["after"]["rows"]) == (8, 3)
    assert await trail.problems() == []
    await trail.context("more")
    assert await trail.problems() == []
    # by that way, and further
    await trail.tamper("DELETE FROM audit_trail WHERE tenant = 't' AND seq = 9")
    assert await trail.problems() == [(9, "missing")]


async def test_what_waits_is_written_once_and_in_order(trail: Trail) -> None:
    for n in range(5):
        await trail.trail.note("t", {"action": "event.read", "events": [f"e{n}"]})
    waiting = await trail.trail._redis.xrange(keys.AUDIT_TRAIL)
    assert await trail.trail.drain() == 5
    # who writes crashed before it took them out
    for _, fields in waiting:
        await trail.trail._redis.xadd(keys.AUDIT_TRAIL, fields)
    assert await trail.trail.drain() == 5
    assert [one["events"] for one in await trail.records()] == [[f"e{n}"] for n in range(5)]
    assert len(await trail.records(event="e3")) == 1
    assert await trail.trail.drain() == 0


async def test_what_cannot_be_written_keeps_nothing_else_waiting(trail: Trail) -> None:
    await trail.trail.note("t", {"action": "event.read", "address": "nul \0, surrogate \ud800"})
    await trail.trail._redis.xadd(keys.AUDIT_TRAIL, {"t": "t", "r": "no JSON"})
    await trail.trail.note("t", {"action": "event.read"})
    assert await trail.trail.drain() == 3
    assert len(await trail.records()) == 2


async def test_what_waits_is_not_thrown_away_where_the_trail_takes_no_rows(trail: Trail) -> None:
    """Such as after somebody has deleted where the chain ends."""
    await ten(trail)
    heads = await trail.postgres.fetch("SELECT * FROM audit_heads WHERE tenant = 't'")
    await trail.tamper("DELETE FROM audit_heads WHERE tenant = 't'")
    await trail.trail.note("t", {"action": "event.read"})
    with pytest.raises(asyncpg.UniqueViolationError):
        await trail.trail.drain()
    with pytest.raises(asyncpg.UniqueViolationError):
        await trail.context("c")
    await trail.postgres.execute("INSERT INTO audit_heads VALUES ($1, $2, $3, $4, $5)", *heads[0])
    assert await trail.trail.drain() == 1
    assert await trail.problems() == []


async def test_reads_wait_for_postgresql_and_are_refused_when_nothing_takes_them(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = AuditTrail(trail.trail._redis, Postgres("postgresql://127.0.0.1:1/x"))
    await away.note("t", {"action": "event.read"})
    assert await away._redis.xlen(keys.AUDIT_TRAIL) == 1
    monkeypatch.setattr(audit_trail_module, "MOST_WAITING", 1)
    with pytest.raises(UnavailableError, match="wait for PostgreSQL"):
        await away.note("t", {"action": "event.read"})
    nobody = redis.asyncio.Redis(port=1)
    # Redis away: at once in PostgreSQL
    await AuditTrail(nobody, trail.postgres).note("t", {"action": "event.read"})
    assert len(await trail.records()) == 1
    with pytest.raises(UnavailableError, match="audit trail"):
        await AuditTrail(nobody, away._postgres).note("t", {"action": "event.read"})


async def test_a_chain_that_was_written_anew_is_told_within_the_hour(
    trail: Trail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "audit-heads.json"

    async def look(hours: float) -> list[str]:
        """What another process says, with what the one before has noted."""
        caplog.clear()
        watch = AuditWatch(trail.trail, path)
        await watch.look(int(hours * 3_600_000) + 3_600_000)
        said = [(one.levelname, one.getMessage()) for one in caplog.records]
        return [text.partition(" of tenant t ")[2] for _, text in said if " of tenant t " in text]

    await ten(trail)
    assert await look(0) == [f"ends {(await trail.verified()).head}"]
    assert await look(1) == []
    await trail.context("more")
    assert await look(2) == [f"ends {(await trail.verified()).head}"]
    # all of it goes, and it begins anew
    await trail.tamper("DELETE FROM audit_trail", "DELETE FROM audit_heads")
    await trail.context("again")
    problem, ends = await look(3)
    assert problem.startswith("was written anew")
    assert problem.endswith("row 11 was there once")
    assert ends.startswith("ends 1:")
    # told once
    assert await look(4) == []
    await trail.tamper("DELETE FROM audit_trail", "DELETE FROM audit_heads")
    [problem] = await look(5)
    assert problem.endswith("row 1 was there once")
    path.write_text("[]")
    await trail.context("and again")
    assert await look(6) == [f"ends {(await trail.verified()).head}"]


async def test_the_chain_is_looked_at_once_an_hour(trail: Trail, tmp_path: Path) -> None:
    path = tmp_path / "audit-heads.json"
    watch = AuditWatch(trail.trail, path)
    await trail.context("c")
    await watch.look(10**9)
    noted = path.read_text()
    await trail.context("d")
    await watch.look(10**9 + 3_599_999)
    assert path.read_text() == noted
    await watch.look(10**9 + 3_600_000)
    assert path.read_text() != noted


async def test_a_call_leaves_a_row_of_its_own_where_its_statements_left_none(trail: Trail) -> None:
    with acting(ADMIN):
        await trail.context("c")
    await trail.trail.called("t", ADMIN, {"action": "api.called"})
    assert [one["action"] for one in await trail.records()] == ["context.made"]
    other = Acting("admin", "admin", "", "admin", "", "request-1", "call-2")
    await trail.trail.called("t", other, {"action": "lifecycle.run"})
    assert [one["action"] for one in await trail.records()] == ["context.made", "lifecycle.run"]


def test_hashes_are_what_the_documentation_says() -> None:
    record = b'{"seq": 1}'
    line = export_line(
        exported_row(
            b'{"seq":1,"previous":"%s","hash":"%s","record":%s}\n'
            % (b"00" * 32, hashlib.sha256(bytes(32) + record).hexdigest().encode(), record)
        )
    )
    assert check_rows([exported_row(line)], Link(0, bytes(32)))[0] == []
