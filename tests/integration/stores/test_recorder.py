"""The event log's writer: once each, by the owner alone, and one bad row is in no other's way."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from hookstream.app.errors import FencedError, UnavailableError
from hookstream.app.ids import new_event_id, random_bits
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.stores import recorder as recorder_module
from hookstream.app.stores.audit import UnstorableError, rows_of, write_rows
from hookstream.app.stores.recorder import Recorder
from hookstream.app.streams.partition import Partition
from hookstream.proto.pipeline_pb2 import AuditBatch, DeliveryAudit, EventAudit

AT = 1_764_000_000_000


class Log:
    """The event log of one tenant, and claims of partitions."""

    def __init__(self, redis_client: "Redis", postgres: Postgres, tenant: str) -> None:
        self.redis = redis_client
        self.postgres = postgres
        self.tenant = tenant

    async def claim(self, number: int, epoch: int = 1) -> Partition:
        partition = Partition(number, epoch, secrets.token_hex(4))
        lease = {"epoch": epoch, "nonce": partition.nonce}
        await self.redis.hset(keys.lease(number), mapping=lease)
        return partition

    def recorder(self) -> Recorder:
        return Recorder(self.redis, self.postgres)

    def event(self, **more: Any) -> EventAudit:
        values = {
            "event_id": new_event_id(AT, 0, random_bits()),
            "tenant": self.tenant,
            "tool_id": "tool",
            "provider": "none",
            "type": "t",
            "status": "accepted",
            "message_id": f"m{secrets.token_hex(4)}",
            "received_at_ms": AT,
            "entry_id": f"{AT}-0",
            "payload_bytes": 2,
        }
        return EventAudit(**{**values, **more})

    def delivery(self, seq: int, event_id: str = "", **more: Any) -> DeliveryAudit:
        return DeliveryAudit(
            tenant=self.tenant,
            context_id="c",
            seq=seq,
            event_id=event_id or new_event_id(AT, 0, random_bits()),
            delivered_at_ms=AT,
            **more,
        )

    async def rows(self, columns: str, table: str = "events") -> list[tuple[Any, ...]]:
        found = await self.postgres.fetch(
            f"SELECT {columns} FROM {table} WHERE tenant = $1 ORDER BY 1", self.tenant
        )
        return [tuple(row) for row in found]

    async def ids(self) -> set[str]:
        return {str(row[0]) for row in await self.rows("event_id")}


@pytest.fixture
async def log(redis_client: "Redis", postgres_url: str, name: str) -> AsyncIterator[Log]:
    async with Postgres(postgres_url) as postgres:
        yield Log(redis_client, postgres, name)


def batch(number: int, *rows: EventAudit | DeliveryAudit) -> AuditBatch:
    return AuditBatch(
        partition=number,
        events=[row for row in rows if isinstance(row, EventAudit)],
        deliveries=[row for row in rows if isinstance(row, DeliveryAudit)],
    )


async def test_what_partitions_have_at_about_the_same_time_is_one_transaction(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "LINGER_SECONDS", 2.0)
    recorder = log.recorder()
    partitions = [await log.claim(number) for number in range(8)]
    # what comes after a pause goes at once, the others together
    await recorder.record(partitions[0], [batch(0, log.event(type="first"))])
    waiting = []
    for at, partition in enumerate(partitions, 1):
        given = [batch(partition.number, log.event(), log.delivery(at))]
        waiting.append(asyncio.create_task(recorder.record(partition, given)))
        await asyncio.sleep(0.05)
    await asyncio.gather(*waiting)
    events = await log.rows("xmin::text, type")
    assert len(events) == 9
    assert len({transaction for transaction, _ in events}) == 2
    [transaction] = {row[0] for row in await log.rows("xmin::text", "deliveries")}
    assert {row[0] for row in events if row[1] == "t"} == {transaction}


async def test_enough_rows_do_not_wait(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "LINGER_SECONDS", 3600.0)
    monkeypatch.setattr(recorder_module, "ROWS", 2)
    recorder = log.recorder()
    recorder._begun = asyncio.get_running_loop().time()
    one, other = await log.claim(1), await log.claim(2)
    async with asyncio.timeout(20):
        await asyncio.gather(
            recorder.record(one, [batch(1, log.event())]),
            recorder.record(other, [batch(2, log.event())]),
        )
    assert len(await log.ids()) == 2


async def test_what_was_committed_and_not_acknowledged_is_written_once(log: Log) -> None:
    partition, event = await log.claim(1), log.event()
    given = [batch(1, event, log.delivery(1, event.event_id), log.delivery(2))]
    await log.recorder().record(partition, given)
    rows = await log.rows("*"), await log.rows("*", "deliveries")
    assert (len(rows[0]), len(rows[1])) == (1, 2)
    # the same process, and the next owner; with something new beside it
    recorder, fresh = log.recorder(), log.event()
    await recorder.record(partition, given)
    await recorder.record(await log.claim(1), [*given, batch(1, fresh)])
    found = await log.rows("*"), await log.rows("*", "deliveries")
    assert len(found[0]) == 2
    assert rows[0][0] in found[0]
    assert found[1] == rows[1]


async def test_an_owner_that_is_none_any_more_writes_nothing(log: Log) -> None:
    stale, beside = await log.claim(1), await log.claim(2)
    old, new = log.recorder(), log.recorder()
    await old.record(stale, [batch(1, log.event())])
    await old.record(beside, [batch(2, log.event())])
    # another epoch, or the same one after a failover
    owner = await log.claim(1)
    kept = log.event()
    await new.record(owner, [batch(1, kept)])
    before = await log.ids()
    late, fine = log.event(), log.event()
    results = await asyncio.gather(
        old.record(stale, [batch(1, late)]),
        old.record(beside, [batch(2, fine)]),
        return_exceptions=True,
    )
    assert isinstance(results[0], FencedError)
    # what else was in its transaction is written
    assert results[1] is None
    assert await log.ids() == before | {fine.event_id}
    # whoever has never written it does not begin either
    with pytest.raises(FencedError):
        await log.recorder().record(stale, [batch(1, late)])
    assert late.event_id not in await log.ids()
    await new.record(owner, [batch(1, log.event())])


async def test_the_next_owner_waits_for_what_the_one_before_is_writing(log: Log) -> None:
    stale, old, new = await log.claim(1), log.recorder(), log.recorder()
    await old.record(stale, [batch(1, log.event())])

    async def waits(for_what: str) -> None:
        query = (
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> "
            f"pg_backend_pid() AND query LIKE '%{for_what}%'"
        )
        async with asyncio.timeout(20):
            while not await log.postgres.fetch(query):
                await asyncio.sleep(0.02)

    async with log.postgres.transaction() as connection:
        await connection.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        late = asyncio.create_task(old.record(stale, [batch(1, log.event(), log.delivery(1))]))
        await waits("deliveries")
        kept = asyncio.create_task(new.record(await log.claim(1), [batch(1, log.event())]))
        await waits("event_log_claims")
        assert len(await log.ids()) == 1
    # all of it, and then the next one's
    await asyncio.gather(late, kept)
    assert len(await log.ids()) == 3
    assert len(await log.rows("seq", "deliveries")) == 1


async def test_a_transaction_ends_soon_where_its_client_has_stopped(
    log: Log, postgres_url: str
) -> None:
    async with log.postgres.transaction() as connection:
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            assert await connection.fetchval(f"SHOW {setting}") == "10s"
        # what somebody has set counts
    async with (
        Postgres(f"{postgres_url}&statement_timeout=3s") as postgres,
        postgres.transaction() as connection,
    ):
        assert await connection.fetchval("SHOW statement_timeout") == "3s"


@pytest.mark.parametrize(
    "bad", [{"type": "a\0b"}, {"event_id": "none"}, {"payload_bytes": 2**32 - 1}]
)
async def test_one_bad_row_is_in_no_other_ones_way(log: Log, bad: dict[str, Any]) -> None:
    recorder = log.recorder()
    one, other = await log.claim(1), await log.claim(2)
    await recorder.record(other, [batch(2, log.event())])
    fine, beside, later = log.event(), log.event(), log.event()
    damaged = batch(1, beside, log.event(**bad), log.delivery(1), later)
    results = await asyncio.gather(
        recorder.record(one, [damaged]),
        recorder.record(other, [batch(2, fine)]),
        return_exceptions=True,
    )
    assert isinstance(results[0], (asyncpg.PostgresError, UnstorableError))
    assert results[1] is None
    assert {fine.event_id, beside.event_id, later.event_id} < await log.ids()
    assert len(await log.rows("seq", "deliveries")) == 1
    # of several batches none: they come again, ever fewer at a time
    more = log.event()
    with pytest.raises((asyncpg.PostgresError, UnstorableError)):
        await recorder.record(one, [batch(1, more), damaged])
    assert more.event_id not in await log.ids()


@pytest.mark.parametrize("told", [True, False])
async def test_the_newest_outcome_of_an_event_counts(log: Log, told: bool) -> None:
    """``told``: that it came again; releases before did not."""
    partition, recorder = await log.claim(1), log.recorder()
    first = log.event(status="retrying", error="boom", stage="s")
    await recorder.record(partition, [batch(1, first)])
    event = log.event(event_id=first.event_id, status="dead", error="boom!", again=told)
    fresh = log.event()
    await recorder.record(partition, [batch(1, event), batch(1, fresh)])
    assert ("dead", "boom!") in await log.rows("status, error")
    # in one transaction, and before there is a row at all
    other = log.event(status="retrying")
    both = [batch(1, other), batch(1, log.event(event_id=other.event_id, again=told))]
    await recorder.record(partition, both)
    alone = log.event(status="dead", again=told)
    await recorder.record(partition, [batch(1, alone)])
    found = {str(row[0]): row[1] for row in await log.rows("event_id, status")}
    assert found == {
        first.event_id: "dead",
        fresh.event_id: "accepted",
        other.event_id: "accepted",
        alone.event_id: "dead",
    }


@pytest.mark.parametrize("known", [10, 0])
async def test_numbers_that_redis_lost_and_gives_anew_stand_for_the_new_events(
    log: Log, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """``known``: contexts of which it is remembered how far the log has come."""
    monkeypatch.setattr(recorder_module, "CONTEXTS", known)
    recorder, owner = log.recorder(), await log.claim(1)
    lost = [log.delivery(seq) for seq in range(1, 8)]
    await recorder.record(owner, [batch(1, *lost)])
    # 1 to 3 are left; the others are given again, a few at a time
    owner, anew = await log.claim(1, epoch=2), [log.delivery(seq) for seq in range(4, 10)]
    for delivery in anew[:3]:
        await recorder.record(owner, [batch(1, delivery)])
    await recorder.record(owner, [batch(1, *anew[3:])])
    assert len(recorder._claims.tops(owner)) == min(known, 1)
    found = [(seq, str(event)) for seq, event in await log.rows("seq, event_id", "deliveries")]
    assert found == [(one.seq, one.event_id) for one in (*lost[:3], *anew)]


async def test_a_release_without_claims_writes_beside_it(log: Log) -> None:
    """The release before had the statements alone, each by itself."""
    recorder, owner = log.recorder(), await log.claim(1)
    given = [batch(1, log.event(), log.delivery(seq)) for seq in range(1, 9)]
    await recorder.record(owner, given[:3])
    # it gets the partition, and what was not acknowledged with it
    async with log.postgres.transaction() as connection:
        await write_rows(connection, rows_of(given[2:6]), tops=None)
    before = await log.rows("*"), await log.rows("*", "deliveries")
    # and gives it back in the same way
    await recorder.record(await log.claim(1), given[5:])
    after = await log.rows("*"), await log.rows("*", "deliveries")
    assert [len(rows) for rows in after] == [8, 8]
    for earlier, later in zip(before, after, strict=True):
        assert all(row in later for row in earlier)


async def test_while_postgresql_is_away_everybody_hears_it_and_then_goes_on(log: Log) -> None:
    recorder = log.recorder()
    one, other = await log.claim(1), await log.claim(2)
    given = [(one, [batch(1, log.event())]), (other, [batch(2, log.event())])]
    away = Postgres("postgresql://postgres@127.0.0.1:1/none")
    recorder._postgres = away
    results = await asyncio.gather(
        *(recorder.record(*parts) for parts in given), return_exceptions=True
    )
    assert [type(result) for result in results] == [UnavailableError, UnavailableError]
    recorder._postgres = log.postgres
    await asyncio.gather(*(recorder.record(*parts) for parts in given))
    assert len(await log.ids()) == 2
    await away.stop()


async def test_nobody_waits_for_a_writer_that_has_ended(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = log.recorder()
    one, other = await log.claim(1), await log.claim(2)
    await recorder.record(one, [batch(1, log.event())])

    def end(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(recorder_module, "rows_of", end)
        results = await asyncio.gather(
            recorder.record(one, [batch(1, log.event())]),
            recorder.record(other, [batch(2, log.event())]),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [UnavailableError, UnavailableError]
    await recorder.record(one, [batch(1, log.event())])
    assert len(await log.ids()) == 2
