"""Agents over topics are Faust's, and begun anew when their application crashes."""

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.kafka import standstill
from hookstream.app.kafka import topics as module
from hookstream.app.kafka.topics import KafkaTopics
from hookstream.app.settings import Settings
from tests.support.kafka import Broker
from tests.support.stack import eventually


async def test_agents_that_crash_are_begun_anew(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(module, "SESSION_SECONDS", 4.0)
    broker = Broker(tmp_path)
    await broker.start()
    await broker.make_topic(name)
    given = {"kafka_url": broker.url, "kafka_group": name, "state_dir": tmp_path}
    topics = KafkaTopics(Settings(**given))  # type: ignore[arg-type]
    got: list[int] = []

    @topics.app.agent(topics.app.topic(name, value_serializer="json"))
    async def work(stream: Any) -> Any:
        async for value in stream:
            got.append(value["n"])
            yield value["n"]

    async def send(number: int) -> None:
        await broker.send(name, [json.dumps({"n": number}).encode()])

    async def has(number: int) -> bool:
        return number in got

    async def how(trouble: str) -> bool:
        return [state.trouble for state in topics.states()] == [trouble]

    try:
        async with topics:
            await send(1)
            await eventually(lambda: has(1), "an agent takes what is there")
            await topics.app.consumer.crash(RuntimeError("what Faust cannot mend"))
            await eventually(lambda: how("crashed"), "that is said")
            await send(2)
            await eventually(lambda: has(2), "it is begun anew")
            await eventually(lambda: how(""), "all is well")
            await asyncio.wait_for(topics.stop(), 20)
    finally:
        broker.stop()


async def test_topics_that_are_only_sent_to_want_no_agents(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.1)
    broker = Broker(tmp_path)
    await broker.start()
    await broker.make_topic(name)
    given = {"kafka_url": broker.url, "kafka_group": name, "state_dir": tmp_path}
    topics = KafkaTopics(Settings(**given))  # type: ignore[arg-type]
    sent = topics.app.topic(name, value_serializer="json")
    begun = 0
    renew = topics.app.renew

    def counted() -> None:
        nonlocal begun
        begun += 1
        renew()

    monkeypatch.setattr(topics.app, "renew", counted)
    looks: list[str] = []
    look = standstill.Standstill.look

    async def noted(self: standstill.Standstill) -> str:
        looks.append(await look(self))
        return looks[-1]

    monkeypatch.setattr(standstill.Standstill, "look", noted)

    async def looked() -> bool:
        return len(looks) >= 5

    try:
        async with topics:
            await eventually(looked, "it is looked at")
            # the first `await` is for the buffer, the second for the broker
            await (await sent.send(value={"n": 1}))
            assert [json.loads(record.value) for record in await broker.records(name)] == [{"n": 1}]
            [state] = topics.states()
            assert (state.queue, state.trouble) == ("(of stages)", "")
            assert (begun, set(looks)) == (1, {""})
    finally:
        broker.stop()


def stop_fetching(consumer: Any) -> None:
    """As after an error that aiokafka does not tell of: its task is over, its member alive."""
    thread = consumer._thread
    thread.thread_loop.call_soon_threadsafe(thread._consumer._fetcher._fetch_task.cancel)


def stop_answering(consumer: Any) -> None:
    """Its thread waits for what does not come."""

    async def for_ever(*_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    consumer._thread._consumer.position = for_ever


def never_balanced(consumer: Any) -> None:
    """A rebalance that does not end."""
    consumer.app.rebalancing = True


# what waits for ever in a thread is cancelled there
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fault", [stop_fetching, stop_answering, never_balanced])
async def test_agents_that_stand_still_are_begun_anew(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any], None]
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(module, "SESSION_SECONDS", 4.0)
    monkeypatch.setattr(module, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(standstill, "STILL_SECONDS", 2.0)
    monkeypatch.setattr(standstill, "ANSWER_SECONDS", 0.5)
    broker = Broker(tmp_path)
    await broker.start()
    await broker.make_topic(name)
    given = {"kafka_url": broker.url, "kafka_group": name, "state_dir": tmp_path}
    topics = KafkaTopics(Settings(**given))  # type: ignore[arg-type]
    got: list[int] = []
    release = asyncio.Event()

    @topics.app.agent(topics.app.topic(name, value_serializer="json"))
    async def work(stream: Any) -> Any:
        async for value in stream:
            got.append(value["n"])
            if value["n"] == 2:
                await release.wait()
            yield value["n"]

    async def send(number: int) -> None:
        await broker.send(name, [json.dumps({"n": number}).encode()])

    async def has(number: int) -> bool:
        return number in got

    async def how(trouble: str) -> bool:
        return [state.trouble for state in topics.states()] == [trouble]

    looked = 0
    look = standstill.Standstill.look

    async def counted(self: standstill.Standstill) -> str:
        nonlocal looked
        found = await look(self)
        looked += 1
        return found

    monkeypatch.setattr(standstill.Standstill, "look", counted)

    async def has_looked(times: int) -> bool:
        return looked >= times

    try:
        async with topics:
            await send(1)
            await eventually(lambda: has(1), "an agent takes what is there")
            await send(2)
            await eventually(lambda: has(2), "an agent is at work")
            await send(3)
            # it takes its time, which is no standstill
            often = looked + 12
            await eventually(lambda: has_looked(often), "it is looked often")
            assert await how("")
            assert got == [1, 2]
            release.set()
            await eventually(lambda: has(3), "it goes on")
            fault(topics.app.consumer)
            numbers = itertools.count(4)

            async def said() -> bool:
                # a request that is under way still brings the next ones
                await send(next(numbers))
                return await how("standstill")

            await eventually(said, "that is said")
            last = next(numbers)
            await send(last)
            await eventually(lambda: has(last), "it is begun anew")
            await eventually(lambda: how(""), "all is well")
            assert set(got) == set(range(1, last + 1))
    finally:
        broker.stop()


async def test_a_topic_that_is_made_anew_is_taken_from_its_start(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, and made again under the same name, while its broker and its agents live."""
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(module, "SESSION_SECONDS", 4.0)
    monkeypatch.setattr(module, "STOP_SECONDS", 1.0)
    broker = Broker(tmp_path)
    await broker.start()
    await broker.make_topic(name)
    given = {"kafka_url": broker.url, "kafka_group": name, "state_dir": tmp_path}
    topics = KafkaTopics(Settings(**given))  # type: ignore[arg-type]
    got: list[int] = []

    @topics.app.agent(topics.app.topic(name, value_serializer="json"))
    async def work(stream: Any) -> Any:
        async for value in stream:
            got.append(value["n"])
            yield value["n"]

    async def send(*numbers: int) -> None:
        await broker.send(name, [json.dumps({"n": number}).encode() for number in numbers])

    async def has(*numbers: int) -> bool:
        return set(numbers) <= set(got)

    async def looked() -> bool:
        return bool(ends)

    ends: list[Any] = []
    look = standstill.Standstill.look

    async def noted(self: standstill.Standstill) -> str:
        found = await look(self)
        ends.append(self._ended)
        return found

    monkeypatch.setattr(standstill.Standstill, "look", noted)
    try:
        async with topics:
            await send(*range(20))
            await eventually(lambda: has(*range(20)), "agents take what is there")
            ends.clear()
            await eventually(looked, "its end is looked at")
            await broker.delete_topic(name)
            await broker.make_topic(name)
            await send(100, 101)
            await eventually(lambda: has(100, 101), "they take what is there now")
            await send(102)
            await eventually(lambda: has(102), "and what comes then")
    finally:
        broker.stop()
