"""Data keys in a real database: made once, wrapped anew, destroyed, and missed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from hookstream.app.errors import BadRequestError, ConflictError, SealingKeyError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.wrapping import KeyFile
from hookstream.app.postgres.migrations import MIGRATIONS
from hookstream.app.postgres.migrations.run import finish, upgrade
from hookstream.app.postgres.pool import Postgres
from hookstream.codecs import sealed as codec
from hookstream.codecs.sealed import KeyBook, month_of
from tests.integration.postgres.test_upgrades import database

NOW = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
async def dsn(postgres_url: str) -> AsyncIterator[str]:
    async with database(postgres_url) as url:
        yield url


@pytest.fixture(autouse=True)
def processes() -> Iterator[None]:
    """What a test puts into this process's book is nothing to the others."""
    known = codec.KEYS.__dict__.copy()
    codec.KEYS.__dict__.update(KeyBook().__dict__)
    yield
    codec.KEYS.__dict__.update(known)


def forget() -> None:
    """Be another process, which has no keys yet."""
    codec.KEYS.__dict__.update(KeyBook().__dict__)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    found = KeyFile(tmp_path / "sealing.key")
    found.make()
    return found


def keys_of(file: KeyFile, postgres: Postgres, now_ms: int = NOW, *tenants: str) -> DataKeys:
    return DataKeys(
        KeyRing([file]), postgres, wanted=True, tenants=lambda: tenants, now_ms=lambda: now_ms
    )


async def test_a_month_has_one_key_whoever_asks_first_and_the_next_is_there_before_it(
    dsn: str, file: KeyFile
) -> None:
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        first, second = keys_of(file, postgres, NOW, "t"), keys_of(file, postgres, NOW, "t")
        await asyncio.gather(first.look(), second.look())
        rows = await first.list("t")
        # two days before its end the next month has its own already
        assert [row["month"] for row in rows] == ["2026-12", "2026-11"]
        key = first.key("t", "2026-11")
        assert key is not None
        value = first.seal("t", b"content", b"place", "01a2" * 2 + "-0000-7000-8000-000000000000")
        assert value != b"content"
        forget()
        # a process that has just started asks for what it meets
        assert await second.open_payload(value, b"place") == b"content"
        assert await second.open_payload(b"in the clear", b"place") == b"in the clear"
        text = second.seal_text("t", "a summary", b"day")
        assert text.startswith("sealed:2:")
        assert "summary" not in text
        assert await first.open_text(text, b"day") == "a summary"
        stored = await postgres.fetchrow("SELECT wrapped FROM data_keys WHERE key_id = $1", 1)
        assert stored is None
        # the key itself is nowhere
        wrapped = await postgres.fetch("SELECT wrapped FROM data_keys")
        assert all(key._key not in row["wrapped"] for row in wrapped)


async def test_keys_are_wrapped_anew_while_all_goes_on(dsn: str, file: KeyFile) -> None:
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        keys = keys_of(file, postgres, NOW, "t")
        await keys.look()
        value = keys.seal("t", b"content", b"")
        before = {row["wrapped_by"] for row in await keys.list("t")}
        file.rotate()
        await keys.look()
        after = {row["wrapped_by"] for row in await keys.list("t")}
        assert after == {file.wrapping_keys()[0].name} != before
        # the old line may go
        file.path.write_text(file.path.read_text().splitlines()[0])
        forget()
        fresh = keys_of(KeyFile(file.path), postgres)
        assert await fresh.open_payload(value, b"") == b"content"
        assert await fresh.rewrap() == 0


async def test_a_key_that_cannot_be_had_is_named_and_comes_back(dsn: str, file: KeyFile) -> None:
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        keys = keys_of(file, postgres, NOW, "t")
        await keys.look()
        value = keys.seal("t", b"content", b"")
        [number] = codec.key_ids((value,))
        # the wrapping key is lost: a process that has the data key goes on
        file.path.rename(file.path.with_suffix(".away"))
        assert keys.seal("t", b"more", b"") != b"more"
        forget()
        fresh = keys_of(KeyFile(file.path), postgres, NOW, "t")
        with pytest.raises(SealingKeyError, match=f"{number}.*cannot be unwrapped"):
            await fresh.open_payload(value, b"")
        assert str(number) in fresh.missing
        with pytest.raises(SealingKeyError):
            fresh.seal("t", b"never in the clear", b"")
        file.path.with_suffix(".away").rename(file.path)
        await fresh.look()
        assert fresh.missing == {}
        assert await fresh.open_payload(value, b"") == b"content"
        # one that the database does not have
        strange = codec.MonthKey(1, "t", "2026-11", bytes(range(32))).seal(b"", b"")
        with pytest.raises(SealingKeyError, match="data key 1 cannot be had: PostgreSQL's table"):
            await fresh.open_payload(strange, b"")


async def test_a_destroyed_key_takes_its_month_with_it_and_leaves_a_row(
    dsn: str, file: KeyFile
) -> None:
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        keys = keys_of(file, postgres, NOW, "t", "other")
        await keys.look()
        value = keys.seal("t", b"content", b"")
        others = keys.seal("other", b"content", b"")
        for month, error in (("2026-11", ConflictError), ("november", BadRequestError)):
            with pytest.raises(error):
                await keys.shred("t", month)
        later = keys_of(file, postgres, NOW + 3 * 24 * 3600 * 1000, "t", "other")
        told: list[bool] = []
        later.when_destroyed(lambda: told.append(True))
        assert await later.shred("t", "2026-11") == 1
        assert await later.shred("t", "2026-11") == 0
        assert told == [True]
        assert await later.open_payload(value, b"") is None
        assert await later.open_payload(others, b"") == b"content"
        assert (month_of(NOW), later.shredded) == ("2026-11", {("t", "2026-11")})
        assert later.is_erased("t", f"{NOW:012x}"[:8] + "-" + f"{NOW:012x}"[8:] + "-7000")
        [row] = await postgres.fetch(
            "SELECT action, record FROM audit_trail WHERE tenant = 't' AND action LIKE 'data_key.%'"
        )
        assert row["action"] == "data_key.shredded"
        assert 'wrapped"' not in row["record"]
        # another process hears of it by itself, and one that starts later when it meets the id
        forget()
        await (fresh := keys_of(file, postgres, NOW, "t", "other")).look()
        assert await fresh.open_payload(value, b"") is None
        [dead] = [row for row in await fresh.list("t") if row["shredded_at"]]
        assert dead["month"] == "2026-11"
        # what is of that month and still comes gets another key
        assert fresh.seal("t", b"late", b"") != b"late"
        await postgres.execute("DELETE FROM data_keys WHERE key_id = $1", dead["key_id"])
        deleted = await postgres.fetch(
            "SELECT 1 FROM audit_trail WHERE action = 'data_key.deleted'"
        )
        assert len(deleted) == 1


async def test_a_retired_key_is_followed_by_another_of_its_month_and_destroyed(
    dsn: str, file: KeyFile
) -> None:
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        keys = keys_of(file, postgres, NOW, "t", "other")
        await keys.look()
        value, others = keys.seal("t", b"content", b""), keys.seal("other", b"content", b"")
        async with postgres.transaction() as connection:
            retired = await keys.retire(connection, "t")
        assert set(codec.key_ids((value,))) < set(retired)
        assert len(retired) == 2  # that of December is there already
        # until it has heard of it this process goes on
        assert codec.key_ids((keys.seal("t", b"", b""),)) == codec.key_ids((value,))
        await keys.look()
        fresh = keys.seal("t", b"since", b"")
        assert codec.key_ids((fresh,)).isdisjoint(retired)
        assert await keys.open_payload(value, b"") == b"content"
        # so does one that starts now, and meets the old one first
        forget()
        later = keys_of(file, postgres, NOW, "t", "other")
        assert await later.open_payload(value, b"") == b"content"
        await later.look()
        assert codec.key_ids((later.seal("t", b"", b""),)) == codec.key_ids((fresh,))
        anew = await later.reseal("t", value, b"")
        assert codec.key_ids((anew,)) == codec.key_ids((fresh,))
        assert await later.destroy("t", retired) == 2
        assert await later.destroy("t", retired) == 0
        assert await later.destroy("other", list(codec.key_ids((others,)))[:0]) == 0
        assert await later.open_payload(value, b"") is None
        for kept in (anew, fresh):
            assert await later.open_payload(kept, b"") in (b"content", b"since")
        assert await later.open_payload(others, b"") == b"content"
        # its month goes on: what is not found there was not destroyed by this
        assert later.shredded == set()
        forget()
        await (last := keys_of(file, postgres, NOW, "t", "other")).look()
        assert (await last.open_payload(value, b""), last.shredded) == (None, set())
        rows = await postgres.fetch(
            "SELECT 1 FROM audit_trail WHERE tenant = 't' AND action = 'data_key.shredded'"
        )
        assert len(rows) == 2


async def test_no_key_is_retired_before_the_upgrade_is_finished(dsn: str, file: KeyFile) -> None:
    await upgrade(dsn, [one for one in MIGRATIONS if one.number <= 33])
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        keys = keys_of(file, postgres, NOW, "t")
        await keys.look()
        before = codec.key_ids((keys.seal("t", b"", b""),))
        async with postgres.transaction() as connection:
            assert await keys.retire(connection, "t") == []
        await finish(dsn)
        await keys.look()
        async with postgres.transaction() as connection:
            assert before <= set(await keys.retire(connection, "t"))


async def test_nothing_is_sealed_before_the_upgrade_is_finished(dsn: str, file: KeyFile) -> None:
    await upgrade(dsn, [one for one in MIGRATIONS if one.number <= 27])
    async with Postgres(dsn) as postgres:
        await postgres.meet()
        keys = keys_of(file, postgres, NOW, "t")
        await keys.look()
        assert (keys.seals, keys.seal("t", b"clear", b"")) == (False, b"clear")
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT to_regclass('data_keys')") is None
        await connection.close()
        await finish(dsn)
        await keys.look()
        assert keys.seals
        assert keys.seal("t", b"sealed", b"") != b"sealed"
