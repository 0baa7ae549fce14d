"""Agents over topics are Faust's, and begun anew when their application crashes."""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from hookstream.app.kafka import standstill
from hookstream.app.kafka import topics as module
from tests.integration.kafka.agents import Agents
from tests.support.kafka import Broker
from tests.support.stack import eventually


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications are made with it: whoever is gone is missed sooner than in earnest."""
    monkeypatch.setattr(module, "SESSION_SECONDS", 4.0)


async def send(broker: Broker, topic: str, *numbers: int) -> None:
    """Send records with these numbers, one after the other."""
    await broker.send(topic, [json.dumps({"n": number}).encode() for number in numbers])


async def test_agents_that_crash_are_begun_anew(
    own_broker: Broker, agents: Agents, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.5)
    agents.take()

    async with agents.topics:
        await send(own_broker, name, 1)
        await eventually(lambda: agents.has(1), "an agent takes what is there")
        await agents.topics.app.consumer.crash(RuntimeError("what Faust cannot mend"))
        await eventually(lambda: agents.how("crashed"), "that is said")
        await send(own_broker, name, 2)
        await eventually(lambda: agents.has(2), "it is begun anew")
        await eventually(lambda: agents.how(""), "all is well")
        await asyncio.wait_for(agents.topics.stop(), 20)


async def test_topics_that_are_only_sent_to_want_no_agents(
    own_broker: Broker, agents: Agents, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.1)
    sent = agents.topics.app.topic(name, value_serializer="json")
    begun = 0
    renew = agents.topics.app.renew

    def counted() -> None:
        nonlocal begun
        begun += 1
        renew()

    monkeypatch.setattr(agents.topics.app, "renew", counted)
    looks: list[str] = []
    look = standstill.Standstill.look

    async def noted(self: standstill.Standstill) -> str:
        looks.append(await look(self))
        return looks[-1]

    monkeypatch.setattr(standstill.Standstill, "look", noted)

    async def looked() -> bool:
        return len(looks) >= 5

    async with agents.topics:
        await eventually(looked, "it is looked at")
        # the first `await` is for the buffer, the second for the broker
        await (await sent.send(value={"n": 1}))
        assert [json.loads(record.value) for record in await own_broker.records(name)] == [{"n": 1}]
        [state] = agents.topics.states()
        assert (state.queue, state.trouble) == ("(of stages)", "")
        assert (begun, set(looks)) == (1, {""})


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
    own_broker: Broker,
    agents: Agents,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Any], None],
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(module, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(standstill, "STILL_SECONDS", 2.0)
    monkeypatch.setattr(standstill, "ANSWER_SECONDS", 0.5)
    release = asyncio.Event()

    async def work(number: int) -> None:
        if number == 2:
            await release.wait()

    agents.take(work)

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

    async with agents.topics:
        await send(own_broker, name, 1)
        await eventually(lambda: agents.has(1), "an agent takes what is there")
        await send(own_broker, name, 2)
        await eventually(lambda: agents.has(2), "an agent is at work")
        await send(own_broker, name, 3)
        # it takes its time, which is no standstill
        often = looked + 12
        await eventually(lambda: has_looked(often), "it is looked often")
        assert await agents.how("")
        assert agents.got == [1, 2]
        release.set()
        await eventually(lambda: agents.has(3), "it goes on")
        fault(agents.topics.app.consumer)
        numbers = itertools.count(4)

        async def said() -> bool:
            # a request that is under way still brings the next ones
            await send(own_broker, name, next(numbers))
            return await agents.how("standstill")

        await eventually(said, "that is said")
        last = next(numbers)
        await send(own_broker, name, last)
        await eventually(lambda: agents.has(last), "it is begun anew")
        await eventually(lambda: agents.how(""), "all is well")
        assert set(agents.got) == set(range(1, last + 1))


async def test_a_topic_that_is_made_anew_is_taken_from_its_start(
    own_broker: Broker, agents: Agents, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, and made again under the same name, while its broker and its agents live."""
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(module, "STOP_SECONDS", 1.0)
    agents.take()

    async def looked() -> bool:
        return bool(ends)

    ends: list[Any] = []
    look = standstill.Standstill.look

    async def noted(self: standstill.Standstill) -> str:
        found = await look(self)
        ends.append(self._ended)
        return found

    monkeypatch.setattr(standstill.Standstill, "look", noted)
    async with agents.topics:
        await send(own_broker, name, *range(20))
        await eventually(lambda: agents.has(*range(20)), "agents take what is there")
        ends.clear()
        await eventually(looked, "its end is looked at")
        await own_broker.delete_topic(name)
        await own_broker.make_topic(name)
        await send(own_broker, name, 100, 101)
        await eventually(lambda: agents.has(100, 101), "they take what is there now")
        await send(own_broker, name, 102)
        await eventually(lambda: agents.has(102), "and what comes then")
