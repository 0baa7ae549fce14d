"""Redis Streams as a Faust channel, on a real server."""

import asyncio
import gc
import itertools
import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from hookstream.app import metrics
from hookstream.app.application import Hookstream
from hookstream.app.errors import FencedError, OutdatedError, SettingsError, UnavailableError
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams import assignment as assignment
from hookstream.app.streams import consumer, turns
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event, encode_event
from hookstream.tables.errors import TableError
from tests.support.servers import Node
from tests.support.stack import eventually

COUNT = 60


def worker(folder: Path, redis_url: str, postgres_url: str, **changes: Any) -> Hookstream:
    """A worker without a web server and without the project's own stages."""
    values = {
        "state_dir": folder,
        "redis_url": redis_url,
        "postgres_url": postgres_url,
        "partitions": 2,
        "batch_max_events": 16,
        "lease_ttl_seconds": 3.0,
        "redis_timeout_seconds": 1.0,
        **changes,
    }
    app = Hookstream(Settings.model_validate(values))
    app.conf.web_enabled = False
    app.pipeline_channel("numbers", codec="hookstream_envelope")
    return app


@pytest.fixture
async def app(
    tmp_path: Path, redis_client: "redis.asyncio.Redis", redis_url: str, postgres_url: str
) -> AsyncIterator[Hookstream]:
    made = worker(tmp_path / "w1", redis_url, postgres_url)
    yield made
    if made.started:
        await made.stop()


async def fill(app: Hookstream) -> None:
    """Numbered events, all in one partition."""
    for number in range(COUNT):
        await app.stream_channels["numbers"].send(key="k", value=make_event({"n": number}))


def collecting(app: Hookstream) -> list[int]:
    """The numbers that a stage of ``app`` has committed, as they come."""
    seen: list[int] = []

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        seen.extend(numbers(batch))
        batch.done()

    return seen


def numbers(batch: Batch) -> list[int]:
    return [entry.value.data()["n"] for entry in batch.entries]


async def test_what_is_sent_while_redis_is_in_trouble_is_no_fault_of_its_sender(
    tmp_path: Path, postgres_url: str
) -> None:
    """A stage that raises UnavailableError is run again; for anything else its event has failed."""
    node = Node(tmp_path / "redis").start()
    app = worker(tmp_path / "w1", node.url, postgres_url)
    sending = partial(app.stream_channels["numbers"].send, key="k", value=make_event({"n": 1}))
    await app.start()
    try:
        await sending()
        node.ask().config_set("maxmemory", 1)
        with pytest.raises(UnavailableError, match="OOM"):
            await sending()
        node.ask().config_set("maxmemory", 0)
        await sending()
        name = keys.stream("numbers", app.partition_for("k"))
        node.ask().delete(name)
        node.ask().set(name, "planted")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await sending()
        node.kill()
        with pytest.raises(UnavailableError, match="ConnectionError"):
            await sending()
    finally:
        await app.stop()
        node.kill()


async def test_batches_come_in_order_and_failed_ones_come_again(app: Hookstream) -> None:
    seen: list[int] = []
    failures = 0

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise UnavailableError("not now")
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        seen.extend(numbers(batch))
        batch.done()

    await app.start()
    await fill(app)

    async def all_seen() -> bool:
        return len(seen) >= COUNT

    await eventually(all_seen, "all numbers")
    assert seen == list(range(COUNT))
    assert failures == 3


async def test_channel_in_no_hurry_rests_after_a_batch_and_misses_nothing(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    app = worker(tmp_path / "w1", redis_url, postgres_url, batch_max_events=COUNT)
    app.stream_channels["numbers"].linger_seconds = 0.3
    seen: list[int] = []
    times: list[float] = []

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        times.append(asyncio.get_running_loop().time())
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        seen.extend(numbers(batch))
        batch.done()

    await app.start()
    try:
        for number in range(COUNT):
            await app.stream_channels["numbers"].send(key="k", value=make_event({"n": number}))
            await asyncio.sleep(0.01)

        async def all_seen() -> bool:
            return len(seen) >= COUNT

        await eventually(all_seen, "all numbers")
    finally:
        await app.stop()
    assert seen == list(range(COUNT))
    # one that comes while it rests waits for the next batch, with the others that come meanwhile
    assert all(later - earlier >= 0.29 for earlier, later in itertools.pairwise(times))
    assert len(times) < COUNT / 2


async def test_wakeup_that_is_given_up_and_goes_on_holds_nothing_up(
    tmp_path: Path, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so long that a wake-up which is missed cannot be taken for one that came
    monkeypatch.setattr(turns, "BLOCK_MS", 20_000)
    patience = {"redis_timeout_seconds": 30.0, "lease_ttl_seconds": 90.0}
    app = worker(tmp_path / "w1", redis_url, postgres_url, **patience)
    app.stream_channels["numbers"].linger_seconds = 0.005
    xread = redis.asyncio.Redis.xread

    async def stubborn(*args: Any, **kwargs: Any) -> Any:
        # as asyncio.wait_for does in Python 3.11, when what it waits for ends in that moment
        try:
            return await xread(*args, **kwargs)
        except asyncio.CancelledError:
            await asyncio.sleep(15)
            raise

    monkeypatch.setattr(redis.asyncio.Redis, "xread", stubborn)
    seen: set[int] = set()
    came = asyncio.Event()

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        batch.done()
        seen.update(numbers(batch))
        came.set()

    await app.start()
    try:
        for number in range(100):
            await app.stream_channels["numbers"].send(
                partition=number % 2, value=make_event({"n": number})
            )
            while number % 5 == 0 and len(seen) <= number:
                came.clear()
                async with asyncio.timeout(10):
                    await came.wait()

        async def all_seen() -> bool:
            return len(seen) == 100

        await eventually(all_seen, "all numbers", 10)
    finally:
        await app.stop()


async def test_payloads_that_take_long_to_fetch_hold_up_their_own_partition_only(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, seen = asyncio.Event(), collecting(app)
    readable = consumer.make_readable

    async def slowly(payloads: Any, entries: Sequence[Entry], **how: Any) -> None:
        if any(entry.value.data()["n"] == 0 for entry in entries):
            await fetched.wait()
        await readable(payloads, entries, **how)

    monkeypatch.setattr(consumer, "make_readable", slowly)
    await app.start()
    channel = app.stream_channels["numbers"]
    await channel.send(partition=0, value=make_event({"n": 0}))

    async def has_seen(*wanted: int) -> bool:
        return set(wanted) <= set(seen)

    for number in (1, 2, 3):
        await channel.send(partition=1, value=make_event({"n": number}))
        await eventually(partial(has_seen, number), "the other partition goes on")
    assert 0 not in seen
    fetched.set()
    await eventually(partial(has_seen, 0), "the slow one")


async def test_lost_partition_is_not_read_on_before_it_is_claimed_anew(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # its outputs would say that all before them had gone, and what was thrown away had not
    lost: list[int] = []
    monkeypatch.setattr(
        assignment.PartitionAssignment,
        "on_lost",
        lambda _, lost_one, error: lost.append(lost_one.number),
    )
    seen: list[tuple[int, int]] = []

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        number = batch.partition.number
        seen.extend((number, n) for n in numbers(batch))
        if number == 0:
            raise OutdatedError("a reply was lost")
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        batch.done()

    await app.start()
    channel = app.stream_channels["numbers"]

    async def is_lost() -> bool:
        return bool(lost)

    await channel.send(partition=0, value=make_event({"n": 1}))
    await eventually(is_lost, "the partition is lost")
    for number in (2, 3, 4):
        await channel.send(partition=0, value=make_event({"n": number}))
        await channel.send(partition=1, value=make_event({"n": number}))

        async def the_other_is_read(wanted: int = number) -> bool:
            return (1, wanted) in seen

        await eventually(the_other_is_read, "the other partition is read")
    assert [n for partition, n in seen if partition == 0] == [1]
    assert lost == [0]


async def test_a_stream_that_was_replaced_is_read(
    app: Hookstream, redis_client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wake-up comes of it: its ids are lower than what has been read, and it has no group."""
    monkeypatch.setattr(turns, "LOOK_SECONDS", 0.3)
    seen = collecting(app)
    await app.start()
    channel, stream = app.stream_channels["numbers"], keys.stream("numbers", 0)
    await channel.send(partition=0, value=make_event({"n": 1}))

    async def is_read(wanted: int) -> bool:
        return wanted in seen

    await eventually(partial(is_read, 1), "the first")
    await redis_client.rename(stream, f"{stream}:away")
    for number in (2, 3):
        await redis_client.xadd(
            stream, {"d": encode_event(make_event({"n": number}))}, id=f"{number}-0"
        )
    await eventually(partial(is_read, 3), "what is in the new one")
    assert seen == [1, 2, 3]


async def test_plain_agents_take_and_sinks_work(app: Hookstream) -> None:
    channel = app.stream_channels["numbers"]
    taken: list[int] = []
    sunk: list[int] = []

    @app.batches(channel)
    async def collect(batch: Batch) -> None:
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        batch.done()

    @app.agent(channel, sink=[sunk.append])
    async def look(batches: Any) -> AsyncIterator[int]:
        async for batch in batches:
            yield len(batch)

    @app.agent(channel)
    async def gather(batches: Any) -> None:
        async for group in batches.take(2, within=0.2):
            taken.extend(number for batch in group for number in numbers(batch))

    await app.start()
    await fill(app)

    async def all_seen() -> bool:
        return sum(sunk) >= COUNT and len(taken) >= COUNT

    await eventually(all_seen, "both agents saw all numbers")
    assert taken == list(range(COUNT))
    assert {agent.channel.get_topic_name() for agent in app.agents.values()} == {"numbers"}


async def test_poison_entry_ends_alone(
    app: Hookstream, redis_client: "redis.asyncio.Redis"
) -> None:
    seen: list[int] = []

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        if any(
            n == 33
            for entry, n in zip(batch.entries, numbers(batch), strict=True)
            if not entry.failure
        ):
            raise ValueError("poison")
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        seen.extend(
            n for entry, n in zip(batch.entries, numbers(batch), strict=True) if not entry.failure
        )
        batch.done()

    await app.start()
    await fill(app)

    async def all_seen() -> bool:
        return len(seen) >= COUNT - 1

    await eventually(all_seen, "all but the poison")
    assert seen == [n for n in range(COUNT) if n != 33]


async def test_second_worker_takes_over_what_a_dead_one_left(
    app: Hookstream,
    tmp_path: Path,
    redis_url: str,
    postgres_url: str,
    redis_client: "redis.asyncio.Redis",
) -> None:
    # what a dead worker leaves: entries that it read, in a lease that lapses
    await redis_client.hset(keys.META, "partitions", "2")
    for number in range(2):
        stream = keys.stream("numbers", number)
        await redis_client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
        await redis_client.hset(
            keys.lease(number),
            mapping={"owner": "dead", "epoch": 7, "nonce": "x", "expires_ms": 0},
        )
    for n in range(COUNT):
        await redis_client.xadd(
            keys.stream("numbers", 1), {"d": encode_event(make_event({"n": n}))}
        )
    await redis_client.xreadgroup(keys.GROUP, "dead", {keys.stream("numbers", 1): ">"})
    seen = collecting(app)
    await app.start()

    async def all_seen() -> bool:
        return len(seen) >= COUNT

    await eventually(all_seen, "what was pending")
    assert seen == list(range(COUNT))
    assert app.worker.assignment.owned[1].epoch == 8
    # while the first lives, another worker gets nothing, and none may share its folder
    other = worker(tmp_path / "w2", redis_url, postgres_url)
    await other.start()
    assert other.worker.assignment.owned == {}
    await other.stop()
    same = worker(tmp_path / "w1", redis_url, postgres_url)
    with pytest.raises(SettingsError, match="another worker runs"):
        assignment.worker_id(same.settings.ensure_state_dir())


async def test_read_that_redis_carries_out_late_takes_nothing_away(
    tmp_path: Path, postgres_url: str
) -> None:
    """A reader gives up a read of a server that hangs; the server wakes up and carries it out."""
    node = Node(tmp_path / "redis").start()
    app = worker(tmp_path / "w1", node.url, postgres_url, lease_ttl_seconds=30.0)
    channel = app.stream_channels["numbers"]
    seen: list[int] = []
    reads: list[tuple[Any, Any]] = []

    @app.batches(channel)
    async def collect(batch: Batch) -> None:
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        seen.extend(numbers(batch))
        batch.done()

    await app.start()
    call = app.services.scripts.call

    async def watched(name: str, at: Any, values: Any) -> Any:
        if name == "look":
            reads.append((at, values))
        return await call(name, at, values)

    app.services.scripts.call = watched  # type: ignore[method-assign]
    client = redis.asyncio.Redis.from_url(node.url, protocol=2)

    async def has_seen(count: int) -> bool:
        return len(seen) == count

    async def failures() -> float:
        return metrics.READ_ERRORS.labels(channel="numbers")._value.get()

    try:
        await channel.send(key="k", value=make_event({"n": 0}))
        await eventually(partial(has_seen, 1), "the first")
        before = await failures()
        node.signal(signal.SIGSTOP)
        try:

            async def given_up() -> bool:
                return await failures() > before

            await eventually(given_up, "the reader gives a read up")
        finally:
            node.signal(signal.SIGCONT)
        given = list(reads)
        await channel.send(key="k", value=make_event({"n": 1}))
        await eventually(partial(has_seen, 2), "the reader reads again")
        stream = keys.stream("numbers", app.partition_for("k"))
        given = [(at, values) for at, values in given if stream in at]
        assert given
        sha = await app.services.scripts.sha("look")
        async with client.pipeline(transaction=True) as pipe:
            pipe.xadd(stream, {"d": encode_event(make_event({"n": 2}))})
            for at, values in given:
                pipe.evalsha(sha, len(at), *at, *values)
            replies = await pipe.execute(raise_on_error=False)
        for (at, _), reply in zip(given, replies[1:], strict=True):
            told = dict(zip(reply[::2], reply[1::2], strict=True))
            assert told[at.index(stream) + 1].startswith(b"OUTDATED")
        await eventually(partial(has_seen, 3), "what the late read would have taken")
        assert seen == [0, 1, 2]
    finally:
        await client.aclose()
        await app.stop()
        node.kill()


def open_slowly(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """From now on partitions are opened once the second is set; the first says that one is."""
    opening, go_on = asyncio.Event(), asyncio.Event()
    opened = assignment.open_partition

    async def slowly(*arguments: Any) -> Partition:
        opening.set()
        await go_on.wait()
        return await opened(*arguments)

    monkeypatch.setattr(assignment, "open_partition", slowly)
    return opening, go_on


async def test_partition_claimed_while_the_worker_stops_is_given_back(
    app: Hookstream, redis_client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.start()
    opening, go_on = open_slowly(monkeypatch)
    for number in (0, 1):
        app.worker.assignment.owned[number].claimed_sequence = -1
        app.worker.assignment.owned[number].lose(TableError("as if it could not be read"))
    await opening.wait()
    stopping = asyncio.create_task(app.stop())

    async def told() -> bool:
        return bool(app.worker.assignment.should_stop)

    await eventually(told, "the stop has reached who holds the leases")
    go_on.set()
    await stopping
    seconds, micros = await redis_client.time()
    for number in (0, 1):
        lease = await redis_client.hgetall(keys.lease(number))
        assert int(lease[b"epoch"]) == 2
        assert int(lease[b"expires_ms"]) <= seconds * 1000 + micros // 1000


async def test_leases_are_renewed_while_partitions_are_opened(
    app: Hookstream, redis_client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening one may take longer than a lease lasts: what has it and the others stay ours."""
    await app.start()
    opening, go_on = open_slowly(monkeypatch)
    app.worker.assignment.owned[0].lose(FencedError("as if its picture were wrong"))
    await opening.wait()
    before = [int(await redis_client.hget(keys.lease(n), "expires_ms")) for n in (0, 1)]

    async def renewed() -> bool:
        now = [int(await redis_client.hget(keys.lease(n), "expires_ms")) for n in (0, 1)]
        return all(after > then for after, then in zip(now, before, strict=True))

    await eventually(renewed, "both leases are renewed")
    assert 0 not in app.worker.assignment.owned
    go_on.set()

    async def has_both() -> bool:
        return sorted(app.worker.assignment.owned) == [0, 1]

    await eventually(has_both, "it is opened")


async def test_a_table_that_fails_when_it_is_used_is_left_to_others(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens well each time: that alone is no reason to try for ever."""
    await app.start()
    app.worker.assignment.workers = ["w1", "w2"]
    wiped: list[int] = []
    monkeypatch.setattr(Partition, "wipe", lambda partition: wiped.append(partition.number))

    async def fails() -> bool:
        if (partition := app.worker.assignment.owned.get(0)) is not None:
            # a commit of another stage came through meanwhile
            partition.sequence += 1
            partition.lose(TableError("IO error: bad sector"))
        return 0 in app.worker.assignment.note().cannot

    await eventually(fails, "it says that it cannot")
    assert "bad sector" in app.worker.assignment.note().cannot[0]
    trouble = app.worker.assignment.troubles[0]
    assert trouble.attempts >= assignment.OTHERS_AFTER
    trouble.until = 0.0
    app.worker.assignment.workers = ["w1"]

    async def again() -> bool:
        await fails()
        return bool(wiped)

    await eventually(again, "its table is built anew")
    assert set(wiped) == {0}


async def test_a_batch_that_is_over_holds_nothing_in_the_tasks_of_its_stages(
    app: Hookstream,
) -> None:
    batches: list[Batch] = []
    seen: list[int] = []

    @app.batches(app.stream_channels["numbers"])
    async def collect(batch: Batch) -> None:
        batches.append(batch)
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        seen.extend(numbers(batch))
        batch.done()

    await app.start()
    await fill(app)

    async def all_seen() -> bool:
        return len(seen) >= COUNT

    await eventually(all_seen, "all numbers")

    def alive() -> int:
        gc.collect()
        return sum(
            type(each) is Event and each.tool_id == make_event({}).tool_id
            for each in gc.get_objects()
        )

    async def released() -> bool:
        return not any(batch.entries for batch in batches) and not alive()

    await eventually(released, "no event is held though every task waits for its next batch")


@pytest.mark.parametrize("died", [False, True])
async def test_deaths_are_counted_and_planned_stops_are_not(
    tmp_path: Path,
    redis_client: "redis.asyncio.Redis",
    redis_url: str,
    postgres_url: str,
    died: bool,
) -> None:
    """What a stop left unfinished is pending as well: nobody died of it."""

    def stuck(app: Hookstream) -> asyncio.Event:
        begun = asyncio.Event()

        @app.batches(app.stream_channels["numbers"])
        async def hang(batch: Batch) -> None:
            begun.set()
            await asyncio.Event().wait()

        return begun

    first = worker(tmp_path / "w1", redis_url, postgres_url, shutdown_timeout_seconds=0.1)
    begun = stuck(first)
    await first.start()
    await fill(first)
    number = first.partition_for("k")
    await asyncio.wait_for(begun.wait(), 20)
    if died:
        # a process that is killed gives nothing back
        ended = await redis_client.hgetall(keys.lease(number))
        await first.stop()
        await redis_client.hset(keys.lease(number), mapping=ended)
    else:
        await first.stop()
    second = worker(tmp_path / "w1", redis_url, postgres_url, shutdown_timeout_seconds=0.1)
    begun = stuck(second)
    await second.start()
    try:
        await asyncio.wait_for(begun.wait(), 20)
        counted = await redis_client.hgetall(keys.deaths(number, "numbers"))
        assert set(counted.values()) == ({b"1"} if died else set())
        assert len(counted) >= 16 * died
        # claimed anew by the same process: it did not die
        for owned in list(second.worker.assignment.owned.values()) if died else ():
            owned.lose(OutdatedError("for a test"))
        if died:

            async def anew() -> bool:
                owner = await redis_client.hget(keys.lease(number), "epoch")
                return bool(owner != ended[b"epoch"] and int(owner) > int(ended[b"epoch"]) + 1)

            await eventually(anew, "it is claimed anew")
            await eventually(partial(_owned, second, number), "it is opened")
            again = await redis_client.hgetall(keys.deaths(number, "numbers"))
            assert again == counted
    finally:
        await second.stop()


async def _owned(app: Hookstream, number: int) -> bool:
    return number in app.worker.assignment.owned
