"""What ends a process or a task elsewhere (``sys.exit()``, ``CancelledError``) ends nothing here
when a stream developer's function raises it: it is that function's trouble, and told as such."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from mode import Service

from hookstream.app import tasks
from hookstream.app.application import Hookstream
from hookstream.app.consumers import EventStream, each_event, looks_on
from hookstream.app.discovery import discover
from hookstream.app.errors import SettingsError, TableUseError
from hookstream.app.settings import Settings
from hookstream.app.stages import EventStageRunner, Lifespans
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.outcome import ACCEPTED
from hookstream.app.streams.partition import Partition
from hookstream.app.web.problem import problems
from hookstream.codecs.envelope import Event
from hookstream.testing import make_event

ABRUPT = (
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    BaseException("of no kind"),
)
abrupt = pytest.mark.parametrize("error", ABRUPT, ids=lambda error: type(error).__name__)


class Ends:
    """Batches, and what they ended with."""

    def __init__(self) -> None:
        self.ended: list[BaseException | None] = []

    def batch(self, count: int, *, own: bool = False) -> Batch:
        entries = [Entry(f"{n}-0", b"", make_event({"n": n}, number=n)) for n in range(count)]
        return Batch("mine", Partition(0, 1, "x"), entries, self._over, own=own)

    def _over(self, batch: Batch, error: BaseException | None) -> None:
        self.ended.append(error)


async def come(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value
    await asyncio.Event().wait()


@abrupt
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_stage_fails_for_that_event_alone(error: BaseException, concurrency: int) -> None:
    async def ends(event: Event) -> Event | None:
        if event.data()["n"] == 1:
            raise error
        return event

    batch = Ends().batch(3)
    await EventStageRunner("ends", ends, concurrency)(batch)
    assert [entry.failure is None for entry in batch.entries] == [True, False, True]
    failure = batch.entries[1].failure
    assert failure is not None
    assert failure.error.startswith(type(error).__name__)
    assert "in ends" in failure.trace


async def test_a_stage_whose_worker_stops_is_cancelled() -> None:
    begun = asyncio.Event()

    async def waits(event: Event) -> Event | None:
        begun.set()
        await asyncio.Event().wait()
        return event

    batch = Ends().batch(1)
    running = asyncio.create_task(EventStageRunner("waits", waits)(batch))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert batch.entries[0].outcome == ACCEPTED


@abrupt
async def test_a_stage_over_batches_gives_its_batch_back(
    error: BaseException, tmp_path: Path
) -> None:
    app = Hookstream(Settings(state_dir=tmp_path))

    @app.batches(app.batch_channel("in"))
    async def mine(batch: Batch) -> None:
        if len(batch) == 1:
            raise error

    ends = Ends()
    running = app.agents["mine"].fun(come(ends.batch(1), ends.batch(2)))
    assert len((await anext(running)).entries) == 2, "it goes on with the next one"
    assert ends.ended == [error]


async def test_a_batch_whose_tables_nobody_commits_is_given_back(tmp_path: Path) -> None:
    app, ends = Hookstream(Settings(state_dir=tmp_path)), Ends()

    @app.batches(app.stream_channel("mine", codec="json"))
    async def mine(batch: Batch) -> None: ...

    batch = ends.batch(1, own=True)
    batch.tables.put(b"key", b"value", batch.entries[0])
    [forward] = app.agents["mine"]._sinks
    await forward(batch)
    assert [type(error) for error in ends.ended] == [TableUseError]


@abrupt
async def test_an_agent_over_a_channel_goes_on_with_the_next_value(error: BaseException) -> None:
    ends, seen = Ends(), []

    async def take(stream: EventStream) -> AsyncIterator[Any]:
        async for event in stream:
            number = event.data()["n"]
            seen.append(number)
            if number == 1:
                raise error
            yield number

    async def commit(batch: Batch, count: int) -> None: ...

    batch = ends.batch(3, own=True)
    running = each_event("take", take, lambda: commit)(come(batch))
    async with asyncio.timeout(10):
        assert [await anext(running), await anext(running)] == [0, 2]
    assert seen == [0, 1, 2]
    assert batch.entries[1].failure is not None
    await running.aclose()


@abrupt
async def test_an_agent_that_looks_on_is_begun_again(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookstream.app.consumers.AGAIN_SECONDS", 0)

    async def look(batches: AsyncIterator[int]) -> AsyncIterator[int]:
        async for batch in batches:
            yield batch
            raise error

    class Numbers:
        def __init__(self) -> None:
            self.numbers = iter(range(2))

        def __aiter__(self) -> "Numbers":
            return self

        async def __anext__(self) -> int:
            return next(self.numbers)

    running = looks_on("look", look)(Numbers())
    async with asyncio.timeout(10):
        assert [await anext(running), await anext(running)] == [0, 1]
    await running.aclose()


@abrupt
async def test_a_timer_is_begun_again(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "backoff_seconds", lambda failures: 0)
    begun = 0

    async def tick() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise error

    async with Service() as service, asyncio.timeout(10):
        await tasks.keep_running("tick", tick, service)
    assert begun == 2


@abrupt
async def test_a_lifespan_is_a_sentence(error: BaseException) -> None:
    async def opens() -> AsyncIterator[None]:
        raise error
        yield

    with pytest.raises(SettingsError, match=rf"'opens' \(.*failed: {type(error).__name__}"):
        await Lifespans([opens]).start()  # type: ignore[list-item]


@abrupt
async def test_a_page_is_a_500(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        raise error

    with caplog.at_level(logging.ERROR):
        answer = await problems(make_mocked_request("GET", "/mine"), page)
    assert answer.status == 500
    assert caplog.records[-1].exc_info is not None


def test_a_module_that_ends_itself_is_a_sentence_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_itself.py").write_text("import sys\n\nsys.exit(0)\n")
    (tmp_path / "fails_below.py").write_text("import json\n\nSIZE = json.loads('{')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match=r"SystemExit\(0\) \(.*ends_itself\.py:3\)"):
        discover(["ends_itself"])
    with pytest.raises(SettingsError, match=r"JSONDecodeError.* \(.*fails_below\.py:3\)"):
        discover(["fails_below"])
