"""What is mirrored is in its topic, in the order of its keys, whatever brokers do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from hookstream.app import metrics
from hookstream.app.kafka import client as client_module
from hookstream.app.kafka import mirror as module
from hookstream.app.kafka.mirror import MirroredUpdates, Mirrors
from hookstream.app.kafka.outbox import EVENTS, UPDATES, UpdateLine
from hookstream.app.redis import keys
from hookstream.app.redis.client import connect
from hookstream.app.settings import Settings
from hookstream.app.streams.partition import Partition
from tests.support.kafka import records_of
from tests.support.mock_cluster import DENIED, TOO_LARGE, UNKNOWN, UNKNOWN_TOPIC, MockCluster
from tests.support.servers import Node
from tests.support.stack import eventually


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for is waited for a shorter time than in earnest."""
    monkeypatch.setattr(client_module, "TIMEOUT_MS", 1000)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    cluster = MockCluster(2)
    yield cluster
    cluster.close()


def update(context: str, seq: int, pad: int) -> bytes:
    return orjson.dumps({"context_id": context, "seq": seq, "pad": "x" * pad})


class Worker:
    """A worker, as far as mirrors ask it: two partitions, and updates that are in their feeds."""

    def __init__(self, redis: Any, cluster: MockCluster, topic: str) -> None:
        self.redis, self.cluster, self.topic = redis, cluster, topic
        self.owned = {
            number: Partition(number, 1, "n", opened_at=time.monotonic()) for number in (0, 1)
        }
        self.gone: set[int] = set()

    async def read(self, wanted: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
        return [
            # one of each context is larger than a batch
            None if seq in self.gone else update(context, seq, 300_000 if seq == 7 else 0)
            for _, context, seq in wanted
        ]

    @asynccontextmanager
    async def mirrors(self, **settings: str) -> AsyncIterator[Mirrors]:
        async def schema_id(subject: str) -> int:
            return 7

        given = settings or {"kafka_updates_topic": self.topic}
        mirrors = Mirrors(
            self.redis,
            Settings(kafka_url=self.cluster.url, **given),  # type: ignore[arg-type]
            sources={UPDATES: MirroredUpdates(self.read)},
            owned=lambda: self.owned,
            schema_id=schema_id,
        )
        async with mirrors:
            yield mirrors

    async def place(self, context: str, seq: int) -> None:
        """What the commit that puts an update into its feed writes."""
        line = UpdateLine("acme", context, seq).encode()
        await self.redis.xadd(keys.mirror(ord(context) % 2, UPDATES), {"d": line})

    async def waiting(self) -> int:
        return sum([await self.redis.xlen(keys.mirror(number, UPDATES)) for number in (0, 1)])

    async def mirrored(self) -> dict[str, list[int]]:
        """Numbers by context, in the order of the topic."""
        found: dict[str, list[int]] = {}
        for record in await records_of(self.cluster.server, self.topic):
            value = orjson.loads(record.value[5:])
            assert record.value[:5] == b"\0\0\0\0\x07"
            assert record.key == f"acme/{value['context_id']}".encode()
            found.setdefault(value["context_id"], []).append(value["seq"])
        return found


@pytest.fixture
async def worker(cluster: MockCluster, name: str, tmp_path: Path) -> AsyncIterator[Worker]:
    cluster.make_topic(name, 3)
    node = Node(tmp_path)
    node.start()
    client = connect(node.url, timeout_seconds=3)
    try:
        yield Worker(client, cluster, name)
    finally:
        await client.aclose()
        node.kill()


def nothing_waits(worker: Worker) -> Callable[[], Any]:
    async def check() -> bool:
        return await worker.waiting() == 0

    return check


def told(mirrors: Mirrors, kind: str) -> Callable[[], Any]:
    async def check() -> bool:
        return [state.trouble for state in mirrors.states()] == [kind]

    return check


async def test_brokers_that_fail_and_go_away_cost_nothing_and_change_no_order(
    worker: Worker, cluster: MockCluster
) -> None:
    sent = dict.fromkeys("abcdef", 0)
    stopped = asyncio.Event()

    async def flow() -> None:
        while not stopped.is_set():
            for context in sent:
                sent[context] += 1
                await worker.place(context, sent[context])
            await asyncio.sleep(0.01)

    cluster.down()
    flowing = asyncio.create_task(flow())
    async with worker.mirrors() as mirrors:
        await eventually(told(mirrors, "unreachable"), "nobody answers at the start")
        assert metrics.KAFKA_MIRROR_WAITING.labels(stream=UPDATES)._value.get() > 0
        cluster.up()
        await eventually(told(mirrors, ""), "then it is sent")
        for _ in range(3):
            cluster.fail_sends(UNKNOWN, 0, UNKNOWN)
            await asyncio.sleep(0.3)
        cluster.down()
        await eventually(told(mirrors, "unreachable"), "they go away")
        cluster.up()
        await eventually(told(mirrors, ""), "and come back")
        stopped.set()
        await flowing
        await eventually(nothing_waits(worker), "nothing waits any more")
        found = await worker.mirrored()
    for context, count in sent.items():
        # the first of each are in order, and none is missing
        assert list(dict.fromkeys(found[context])) == list(range(1, count + 1)), context


async def test_what_brokers_never_take_is_passed_over_and_all_else_comes(
    worker: Worker, cluster: MockCluster
) -> None:
    for seq in range(1, 6):
        await worker.place("a", seq)
    worker.gone.add(2)
    before = _not_mirrored("too-large"), _not_mirrored("gone")
    # all of them together, then the second of the four that are left
    cluster.fail_sends(TOO_LARGE, 0, TOO_LARGE, 0, 0)
    async with worker.mirrors():
        await eventually(nothing_waits(worker), "nothing waits any more")
        assert await worker.mirrored() == {"a": [1, 4, 5]}
    assert (_not_mirrored("too-large"), _not_mirrored("gone")) == (before[0] + 1, before[1] + 1)


def _not_mirrored(reason: str) -> float:
    found = metrics.KAFKA_NOT_MIRRORED.labels(stream=UPDATES, reason=reason)._value.get()
    return float(found)


async def test_a_topic_that_is_not_there_and_one_that_may_not_be_written_are_named(
    worker: Worker, cluster: MockCluster
) -> None:
    await worker.place("a", 1)
    cluster.fail_topic(worker.topic, UNKNOWN_TOPIC)
    async with worker.mirrors() as mirrors:
        await eventually(told(mirrors, "missing"), "there is no such topic")
        cluster.fail_topic(worker.topic, 0)
        await eventually(nothing_waits(worker), "it comes as soon as there is one")
        cluster.fail_sends(*[DENIED] * 3)
        await worker.place("a", 2)
        await eventually(told(mirrors, "denied"), "it is not let")
        assert await worker.waiting() == 1
        await eventually(nothing_waits(worker), "it comes once it is let")
    assert await worker.mirrored() == {"a": [1, 2]}


async def test_what_waits_for_a_mirror_that_is_not_set_any_more_goes(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.place("a", 1)
    await worker.redis.xadd(keys.mirror(1, EVENTS), {"d": b"[]"})
    monkeypatch.setattr(module, "FORGET_SECONDS", 0.2)
    async with worker.mirrors(kafka_group="g"):
        await eventually(nothing_waits(worker), "a moment later it is gone")

        async def gone() -> bool:
            return not await worker.redis.xlen(keys.mirror(1, EVENTS))

        await eventually(gone, "and so are events")
