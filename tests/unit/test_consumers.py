"""Stream channels of one's own, without a server: what is refused, and one event at a time."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hookstream.app import consumers, metrics
from hookstream.app.application import Hookstream
from hookstream.app.consumers import EventStream, each_event
from hookstream.app.errors import SettingsError, UnavailableError
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.channel import LOOKER_EVENTS
from hookstream.app.streams.outcome import ACCEPTED, Failed
from hookstream.app.streams.partition import Partition


@pytest.fixture
def app(own_settings: Settings) -> Hookstream:
    return Hookstream(own_settings)


class Ends:
    """What became of batches, and how much of each was committed before its end."""

    def __init__(self) -> None:
        self.ended: list[BaseException | None] = []
        self.committed: list[int] = []

    def batch(self, *values: Any) -> Batch:
        entries = [Entry(f"{n}-0", b"", value) for n, value in enumerate(values, 1)]
        return Batch(
            "mine",
            Partition(3, 1, "x"),
            entries,
            lambda _, error: self.ended.append(error),
            own=True,
        )

    async def commit(self, batch: Batch, count: int) -> None:
        self.committed.append(count)
        batch.entries = batch.entries[count:]

    async def run(
        self, function: Callable[[EventStream], Any], *batches: Batch, then: int = 0
    ) -> list[Any]:
        """Run an agent until all batches have ended, and its results are ``then``."""

        async def come() -> AsyncIterator[Batch]:
            for batch in batches:
                yield batch
            await asyncio.Event().wait()

        results: list[Any] = []

        async def collect() -> None:
            async for result in each_event("mine", function, lambda: self.commit)(come()):
                results.append(result)

        task = asyncio.create_task(collect())
        async with asyncio.timeout(10):
            while len(self.ended) < len(batches) or len(results) < then:
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return results


async def test_a_value_that_fails_is_its_own_trouble_only(
    app: Hookstream, caplog: pytest.LogCaptureFixture
) -> None:
    ends, seen = Ends(), []
    out = app.stream_channel("out", codec="json")

    async def take(stream: EventStream) -> None:
        async for value in stream:
            seen.append(value)
            stream.send(out, value)
            if value in (2, 3):
                raise KeyError("nope")

    first, second = ends.batch(1, 2, 3, 4), ends.batch(5)
    with caplog.at_level(logging.ERROR):
        await ends.run(take, first, second)
    assert seen == [1, 2, 3, 4, 5]
    assert ends.ended == [None, None]
    outcomes = [entry.outcome for entry in first.entries]
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [False, True, True, False]
    assert outcomes[1].stage == "mine"
    assert 'raise KeyError("nope")' in outcomes[1].trace
    # what the failed ones sent goes with them
    assert first.sends == [(keys.stream("out", 3), b"1"), (keys.stream("out", 3), b"4")]
    assert caplog.text.count("the agent 'mine' (") == 1


async def test_a_servers_trouble_is_the_batchs() -> None:
    ends, seen = Ends(), []

    async def take(stream: EventStream) -> None:
        async for value in stream:
            seen.append(value)
            if value == 2 and seen.count(2) == 1:
                raise UnavailableError("the service is away")

    batch = ends.batch(1, 2, 3)
    await ends.run(take, batch, ends.batch(4))
    assert seen == [1, 2, 4]
    assert [type(error) for error in ends.ended] == [UnavailableError, type(None)]
    assert [entry.outcome for entry in batch.entries] == [ACCEPTED] * 3


async def test_slow_values_are_committed_as_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "COMMIT_SECONDS", -1)
    ends = Ends()

    async def take(stream: EventStream) -> AsyncIterator[int]:
        async for value in stream:
            yield value * 10

    assert await ends.run(take, ends.batch(1, 2, 3), then=3) == [10, 20, 30]
    assert ends.committed == [1, 1, 1]
    assert ends.ended == [None]


async def test_a_partition_that_is_handed_over_keeps_what_is_not_done() -> None:
    ends, seen = Ends(), []
    batch = ends.batch(1, 2, 3)

    async def take(stream: EventStream) -> None:
        async for value in stream:
            seen.append(value)
            batch.partition.leaving = value == 2

    await ends.run(take, batch)
    assert seen == [1, 2]
    assert ends.committed == [2]
    assert [type(error) for error in ends.ended] == [asyncio.CancelledError]
    assert batch.values() == [3]


async def test_an_agent_that_returns_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumers, "AGAIN_SECONDS", 0)
    ends, seen = Ends(), []

    async def take(stream: EventStream) -> None:
        seen.append(await anext(aiter(stream)))

    await ends.run(take, ends.batch(1, 2))
    assert seen == [1, 2]
    assert "has returned; it is begun again" in caplog.text


async def test_nothing_is_sent_outside_an_event(app: Hookstream) -> None:
    stream = EventStream("mine", aiter(app.batch_channel("in")), Ends().commit)
    with pytest.raises(RuntimeError, match="that the agent is working on"):
        stream.send(app.stream_channel("out", codec="json"), 1)
    batch = Ends().batch(1)
    with pytest.raises(ValueError, match="'events' belongs to the pipeline"):
        batch.send(app.pipeline_channel("events", codec="json"), 1)
    batch.own = False
    with pytest.raises(ValueError, match="'mine' belongs to the pipeline"):
        batch.send(app.stream_channels["out"], 1)


def names_behind_hash_tags() -> set[str]:
    """The second word of each key of a partition."""
    found = set()
    for name in keys.__all__:
        made = getattr(keys, name)
        taken = inspect.signature(made).parameters if callable(made) else {}
        if name != "stream" and not {"partition", "stream_key"}.isdisjoint(taken):
            arguments = (
                {"int": 7, "str": "{hs:7}:events"}[parameter.annotation.__name__]
                for parameter in taken.values()
            )
            found.add(made(*arguments).removeprefix("{hs:7}:").partition(":")[0])
    return found


def test_no_channel_takes_a_key_of_the_pipelines(app: Hookstream) -> None:
    assert len(names_behind_hash_tags()) > 20
    assert names_behind_hash_tags() <= keys.RESERVED
    for name in (*sorted(keys.RESERVED), "status", "deferred:low", "", "Mine", "a b"):
        with pytest.raises(SettingsError, match="cannot be called"):
            app.stream_channel(name, codec="json")
    assert app.stream_channels == {}


def test_a_channel_has_one_name_and_one_taker(app: Hookstream) -> None:
    orders = app.stream_channel("orders", codec="json")
    with pytest.raises(SettingsError, match="two stream channels are called 'orders', one at"):
        app.stream_channel("orders", codec="json")

    @app.agent(orders)
    async def first(stream: EventStream) -> None: ...

    with pytest.raises(SettingsError, match=r"two take from .*test_consumers.py:\d+ and .*:\d+"):

        @app.batches(orders)
        async def second(batch: Batch) -> None: ...


async def test_nothing_is_sent_to_a_partition_that_is_not_there(app: Hookstream) -> None:
    """Nobody would ever read it."""
    mine = app.stream_channel("mine", codec="json")
    for partition in (-1, 32, 99):
        with pytest.raises(ValueError, match=rf"'mine' has no partition {partition}.*0 to 31"):
            await mine.send(key="x", value=1, partition=partition)


async def test_who_looks_on_is_not_waited_for(
    app: Hookstream, caplog: pytest.LogCaptureFixture
) -> None:
    channel = app.batch_channel("routed")

    @app.agent(channel)
    async def slow(batches: Any) -> None: ...

    app.flow_control.resume()
    stage = channel.clone(is_iterator=True)
    looker = slow.channel.clone(is_iterator=True)
    before = metrics.AGENT_DROPPED.labels(agent="slow")._value.get()
    passed = 0
    async with asyncio.timeout(20):
        for _ in range(LOOKER_EVENTS // 2 + 10):
            await channel.put_batch(Ends().batch(1, 2))
            passed += len(stage.queue.get_nowait().value)
    dropped = metrics.AGENT_DROPPED.labels(agent="slow")._value.get() - before
    assert passed == LOOKER_EVENTS + 20
    assert dropped == 20
    assert caplog.text.count("the agent slow is too slow for routed") == 1
    # what it takes makes room, whatever has left the batches meanwhile
    while not looker.queue.empty():
        looker.queue.get_nowait().value.entries.clear()
    await channel.put_batch(Ends().batch(7))
    assert looker.queue.get_nowait().value.values() == [7]


async def test_a_failing_agent_that_looks_on_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Faust ends the process when an agent fails more than a hundred times a second."""
    monkeypatch.setattr(consumers, "AGAIN_SECONDS", 0)
    seen = []

    async def look(batches: AsyncIterator[int]) -> AsyncIterator[int]:
        async for batch in batches:
            seen.append(batch)
            yield batch
            raise KeyError("nope")

    class Batches:
        def __init__(self) -> None:
            self.numbers = iter(range(300))

        def __aiter__(self) -> "Batches":
            return self

        async def __anext__(self) -> int:
            return next(self.numbers)

    running = consumers.looks_on("look", look)(Batches())
    assert [await anext(running) for _ in range(300)] == seen == list(range(300))
    assert "the task look failed (1 in a row): KeyError" in caplog.text
    assert caplog.text.count('raise KeyError("nope")') == 1
