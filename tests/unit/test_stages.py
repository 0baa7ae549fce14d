"""What is wrong with a stage is said when it is declared, or with its place when it runs."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import venusian
from faust.transport.drivers import aiokafka
from faust.web.cache.backends import memory

from hookstream.app.application import Hookstream
from hookstream.app.discovery import _installed, agent_modules, discover
from hookstream.app.errors import SettingsError, StageResultError, UnavailableError
from hookstream.app.settings import Settings
from hookstream.app.stages import SUSPICIOUS_EVENTS, EventStageRunner, Lifespans
from hookstream.app.streams.batch import MAX_TRACE_CHARACTERS, Batch, Entry
from hookstream.app.streams.outcome import ACCEPTED, Dropped, Failed
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.testing import make_event, run_batch, run_stage, stage_results

HERE = Path(__file__).name
HERE_RE = r".*test_stages\.py:\d+"


@pytest.fixture
def app(own_settings: Settings) -> Hookstream:
    made = Hookstream(own_settings)
    source, out = made.stream_channel("in", codec="json"), made.batch_channel("out")

    @made.batches(source, out=out)
    async def route(batch: Batch) -> None: ...

    @made.batches(out)
    async def commit(batch: Batch) -> None: ...

    return made


async def passes(event: Event) -> Event | None:
    return event


def named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


def batch(count: int = 1) -> Batch:
    entries = [Entry(f"{n}-0", b"", make_event({"n": n}, number=n)) for n in range(count)]
    return Batch("events", Partition(0, 1, "n"), entries, lambda *_: None)


def test_two_stages_of_one_name_are_refused_with_both_places(app: Hookstream) -> None:
    async def enrich(event: Event) -> Event | None:
        return event

    first = enrich

    async def other(event: Event) -> Event | None:
        return None

    app.stage(after="route")(first)
    with pytest.raises(SettingsError, match=f"called 'enrich': .*{HERE}:.* and .*{HERE}:"):
        app.stage(after="route")(named("enrich", other))


def test_the_name_of_one_of_ours_is_refused(app: Hookstream) -> None:
    async def route(event: Event) -> Event | None:
        return event

    with pytest.raises(SettingsError, match="called 'route'"):
        app.stage(after="route")(route)
    with pytest.raises(SettingsError, match="called 'route'"):

        @app.agent(app.batch_channel("x"), name="route")
        async def looks_on(batches: AsyncIterator[Batch]) -> None: ...

    with pytest.raises(SettingsError, match="called 'route'"):

        @app.batches(app.batch_channel("y"), name="route")
        async def another(batch: Batch) -> None: ...


def test_a_stage_that_is_declared_twice_at_one_line_is_refused(app: Hookstream) -> None:
    """Both would have its name, the pipeline would send to the first, and run the second."""

    def declare() -> None:
        @app.stage(after="route")
        async def enrich(event: Event) -> Event | None:
            return event

    declare()
    with pytest.raises(
        SettingsError, match=rf"'enrich' \({HERE_RE}\) is declared twice: by a loop"
    ):
        declare()


def test_a_file_that_is_imported_under_two_names_is_named_with_both(
    app: Hookstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "twice_named"
    package.mkdir()
    (package / "stage.py").write_text(
        "from twice_app import app\n\n\n@app.stage(after='route')\nasync def mine(event): ...\n"
    )
    monkeypatch.setitem(sys.modules, "twice_app", SimpleNamespace(app=app))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(package))
    with pytest.raises(SettingsError, match=r"imported as stage and as twice_named\.stage"):
        discover(["twice_named.stage", "stage"])


def test_a_place_that_is_not_there_is_refused_once_all_is_imported(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookstream.app.application.discover", lambda *_, **__: None)
    app.stage(after="rout")(passes)
    with pytest.raises(SettingsError, match=r"'passes' \(.*\) says after='rout'.*mean 'route'"):
        app.discover()


def test_a_plain_function_is_refused_at_once(app: Hookstream) -> None:
    def plain(event: Event) -> Event | None:
        return event

    with pytest.raises(SettingsError, match=r"has to be `async def plain\(event\)`"):
        app.stage(after="route")(plain)  # type: ignore[arg-type]


def test_a_stage_that_takes_something_else_is_refused(app: Hookstream) -> None:
    async def two(event: Event, more: str) -> Event | None:
        return event

    with pytest.raises(SettingsError, match="has to take one event and nothing else"):
        app.stage(after="route")(two)  # type: ignore[arg-type]


async def test_a_wrong_result_names_the_stage_and_its_place() -> None:
    async def asdict(event: Event) -> Any:
        return {"n": 1}

    mine = batch()
    await EventStageRunner("asdict", asdict)(mine)
    failure = mine.entries[0].failure
    assert failure is not None
    assert failure.stage == "asdict"
    assert f"{HERE}:" in failure.error
    assert "returned dict: Event or None is wanted" in failure.error


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"event_id": "x"}, "another event ('x') than it was given"),
        ({"tenant": "x"}, "another event"),
        ({"payload": {"n": 1}}, "a payload that is dict: bytes are wanted"),
        ({"payload": "text"}, "a payload that is str"),
        ({"type": None}, "no text"),
        ({"headers": {"x-n": 1}}, "no text"),
        ({"headers": {"x-n": "\ud800"}}, "no text"),
        ({"headers": None}, "no text"),
        ({"type": "a\0b"}, "the character NUL"),
        ({"received_at_ms": "x"}, "another received_at_ms than it was given"),
        ({"message_id": "x"}, "another message_id than it was given"),
    ],
)
async def test_an_event_that_no_envelope_holds_fails_alone_with_its_stage(
    change: dict[str, Any], says: str
) -> None:
    """The batch would fail at its commit, and no word of the stage."""

    async def changes(event: Event) -> Event | None:
        return replace(event, **change) if event.data()["n"] == 1 else event

    mine = batch(3)
    await EventStageRunner("changes", changes)(mine)
    assert [entry.failure is None for entry in mine.entries] == [True, False, True]
    failure = mine.entries[1].failure
    assert failure is not None
    assert "the stage 'changes' (" in failure.error
    assert says in failure.error
    with pytest.raises(StageResultError, match="changes returned a"):
        await stage_results(changes, [make_event({"n": 1}, number=1)])


async def test_an_event_of_before_is_not_delivered_in_place_of_this_one() -> None:
    kept: list[Event] = []

    async def forgets_to_clear(event: Event) -> Event | None:
        kept.append(event)
        return kept[0]

    mine = batch(2)
    await EventStageRunner("forgets_to_clear", forgets_to_clear)(mine)
    assert mine.entries[0].failure is None
    assert mine.entries[1].failure is not None
    assert "another event" in mine.entries[1].failure.error


async def test_headers_are_not_changed_in_place() -> None:
    """It would be seen by conditions, and be lost on the way to contexts."""

    async def marks(event: Event) -> Event | None:
        event.headers["x-urgent"] = "yes"  # type: ignore[index]
        return event

    with pytest.raises(TypeError, match="does not support item assignment"):
        await stage_results(marks, [make_event(headers={"x-n": "1"})])
    read = decode_event(encode_event(make_event(headers={"x-n": "1"})))
    with pytest.raises(TypeError, match="does not support item assignment"):
        await stage_results(marks, [read])
    assert decode_event(encode_event(read)).headers == {"x-n": "1"}


async def test_who_changes_parsed_data_in_place_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def changes(event: Event) -> Event | None:
        event.data()["n"] += 100
        return event

    async def reads(event: Event) -> Event | None:
        return event.enrich(n=event.data()["n"])

    async def puts_back(event: Event) -> Event | None:
        data = event.data()
        data["n"] += 100
        return replace(event, payload=json.dumps(data).encode())

    await EventStageRunner("reads", reads)(batch(50))
    await EventStageRunner("puts_back", puts_back)(batch(50))
    assert "event.data()" not in caplog.text
    runner = EventStageRunner("changes", changes)
    await runner(batch(3))
    await runner(batch(3))
    assert caplog.text.count("the stage 'changes' (") == 1
    assert "changes what event.data() gave it" in caplog.text


async def test_a_traceback_is_logged_once_a_kind_and_kept_without_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(event: Event) -> Event | None:
        secret = event.data()
        if secret["n"] % 2:
            raise KeyError("nope")
        raise TimeoutError

    mine = batch(10)
    await EventStageRunner("broken", broken)(mine)
    said = [record for record in caplog.records if record.exc_info]
    assert len(said) == 2, "one line a kind"
    errors = {entry.failure.error for entry in mine.entries if entry.failure}
    assert errors == {"KeyError: 'nope'", "TimeoutError (it says no more)"}
    for entry in mine.entries:
        assert isinstance(entry.outcome, Failed)
        assert "in broken" in entry.outcome.trace
        assert HERE in entry.outcome.trace
        assert "app/stages.py" not in entry.outcome.trace


async def test_a_kept_traceback_is_bounded() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError("deep")

    async def recursive(event: Event) -> Event | None:
        deep(300)
        return event

    mine = batch()
    await EventStageRunner("recursive", recursive)(mine)
    failure = mine.entries[0].failure
    assert failure is not None
    assert 0 < len(failure.trace) <= MAX_TRACE_CHARACTERS


async def test_a_stage_that_drops_all_of_its_first_events_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def forgets(event: Event) -> Event | None:
        return None

    runner = EventStageRunner("forgets", forgets)
    for _ in range(5):
        mine = batch(SUSPICIOUS_EVENTS // 2)
        await runner(mine)
        assert {entry.outcome for entry in mine.entries} == {Dropped("forgets")}
    assert caplog.text.count("is a `return event` missing?") == 1


async def test_a_stage_that_lets_one_pass_is_not_suspected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def some(event: Event) -> Event | None:
        return event if event.data()["n"] == 3 else None

    await EventStageRunner("some", some)(batch(SUSPICIOUS_EVENTS * 2))
    assert "missing?" not in caplog.text


async def test_a_batch_that_stays_in_a_stage_is_told_with_its_event(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops its partition, and nothing else would say where."""
    monkeypatch.setattr("hookstream.app.stages.SLOW_SECONDS", 0.05)
    go_on = asyncio.Event()

    @app.stage(after="route")
    async def waits(event: Event) -> Event | None:
        if event.data()["n"] == 1:
            await go_on.wait()
        return event

    async def come() -> AsyncIterator[Batch]:
        yield batch(3)
        yield batch(1)

    running = app.agents["waits"].fun(come())
    first = asyncio.create_task(anext(running))
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.01)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("events[0]: a batch of 3 has been in the stage 'waits' (")
    assert f"{HERE}:" in said
    assert f"now at event {make_event(number=1).event_id};" in said
    go_on.set()
    assert len(list((await first).live())) == 3
    assert len(await anext(running)) == 1
    await asyncio.sleep(0.1)
    assert len(caplog.records) == 1, "not of what was quick"


async def test_a_server_that_is_away_is_not_the_events_fault() -> None:
    async def waits(event: Event) -> Event | None:
        raise UnavailableError("later")

    with pytest.raises(UnavailableError):
        await EventStageRunner("waits", waits)(batch())


async def test_events_of_a_batch_overlap_and_keep_their_order() -> None:
    inside = most = 0

    async def looks_up(event: Event) -> Event | None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for _ in range(20 - event.data()["n"]):
            await asyncio.sleep(0)
        inside -= 1
        if event.data()["n"] == 7:
            raise ValueError("seven")
        return replace(event, headers={"n": str(event.data()["n"])})

    mine = batch(20)
    await EventStageRunner("looks_up", looks_up, concurrency=4)(mine)
    assert most == 4
    live = [entry.value.headers["n"] for entry in mine.live()]
    assert live == [str(n) for n in range(20) if n != 7]
    assert mine.entries[7].failure is not None


async def test_what_takes_too_long_fails_alone() -> None:
    async def hangs(event: Event) -> Event | None:
        if event.data()["n"] == 1:
            await asyncio.Event().wait()
        return event

    mine = batch(3)
    await EventStageRunner("hangs", hangs, timeout=0.05)(mine)
    assert [entry.failure is None for entry in mine.entries] == [True, False, True]
    failure = mine.entries[1].failure
    assert failure is not None
    assert failure.error == "TimeoutError (it says no more)"


async def test_a_server_that_is_away_gives_the_whole_batch_back_though_events_overlap() -> None:
    async def waits(event: Event) -> Event | None:
        if event.data()["n"] == 2:
            raise UnavailableError("later")
        await asyncio.sleep(0.01)
        return event

    with pytest.raises(UnavailableError, match="later"):
        await EventStageRunner("waits", waits, concurrency=3)(batch(9))


async def test_lifespans_surround_the_work_of_a_worker(app: Hookstream) -> None:
    said: list[str] = []

    def lifespan(name: str) -> Any:
        async def around() -> AsyncIterator[None]:
            said.append(f"{name} opens")
            yield
            said.append(f"{name} closes")

        return around

    service = Lifespans([lifespan("one"), lifespan("two")])
    await service.start()
    assert said == ["one opens", "two opens"]
    await service.stop()
    assert said[2:] == ["two closes", "one closes"]

    async def broken() -> AsyncIterator[None]:
        raise OSError("no such host")
        yield

    with pytest.raises(SettingsError, match=r"'broken' \(.*no such host"):
        await Lifespans([broken]).start()  # type: ignore[list-item]
    with pytest.raises(SettingsError, match="has to be an `async def` with one `yield`"):
        app.lifespan(passes)  # type: ignore[arg-type]


async def test_a_lifespan_that_hangs_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker would not start, or stop, and say nothing."""
    monkeypatch.setattr("hookstream.app.stages.LIFESPAN_SECONDS", 0.01)

    async def connects() -> AsyncIterator[None]:
        await asyncio.sleep(0.1)
        yield
        await asyncio.sleep(0.1)

    service = Lifespans([connects])  # type: ignore[list-item]
    await service.start()
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("the lifespan 'connects' (")
    assert "has not come to its `yield`" in said
    await service.stop()
    assert "has not ended behind its `yield`" in caplog.records[-1].getMessage()


def test_a_receiver_does_without_modules_that_cannot_be_imported(
    app: Hookstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    package = tmp_path / "wrong_stages"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "bad.py").write_text("import nothing_of_that_name")
    (package / "good.py").write_text("IMPORTED = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match=r"wrong_stages\.bad cannot be imported"):
        discover(["wrong_stages"])
    missing: dict[str, str] = {}
    discover(["wrong_stages", "not.there"], failed=lambda name, e: missing.update({name: str(e)}))
    assert set(missing) == {"wrong_stages.bad", "not.there"}
    monkeypatch.setattr(app, "producer_only", True)
    monkeypatch.setattr("hookstream.app.application.agent_modules", lambda wanted: ["wrong_stages"])
    with caplog.at_level(logging.ERROR):
        app.discover()
    assert set(app.missing_modules) == {"wrong_stages.bad"}
    assert "webhooks are taken without it" in caplog.text


def test_a_module_that_declares_nothing_is_told(
    app: Hookstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "undecorated.py").write_text("async def mine(event):\n    return event\n")
    package = tmp_path / "decorated"
    package.mkdir()
    (package / "dedups.py").write_text(
        "from decorated_app import app\n\n\n@app.dedup('mine')\ndef mine(event): ...\n"
    )
    monkeypatch.setitem(sys.modules, "decorated_app", SimpleNamespace(app=app))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "hookstream.app.application.agent_modules", lambda wanted: ["undecorated", "decorated"]
    )
    app.discover()
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("undecorated declares nothing: no stage")
    assert set(app.dedup_functions) == {"mine"}


def test_a_start_looks_into_no_sources_and_searches_no_packages_twice(app: Hookstream) -> None:
    @app.timer(60.0)
    async def tick() -> None: ...

    # Faust's marks have the source line they stand for
    for declared in (tick, *app.agents.values()):
        assert not hasattr(declared, venusian.ATTACH_ATTR)
    assert type(app.transport) is aiokafka.Transport
    assert type(app.cache) is memory.CacheBackend
    agent_modules("")
    known = _installed.cache_info()
    assert agent_modules("mine")[:2] == ["hookstream.agents", "mine"]
    assert _installed.cache_info().misses == known.misses == 1


def test_a_file_in_place_of_a_module_is_told() -> None:
    with pytest.raises(
        SettingsError, match=r"Python imports them: mine\.stages, not \./mine/stages\.py"
    ):
        discover(["./mine/stages.py"])


def test_run_stage_may_be_called_again_and_while_a_loop_runs() -> None:
    events = [make_event({"n": 1})]
    assert run_stage(passes, events) == events
    assert run_stage(passes, events) == events

    async def inside() -> list[Event | None]:
        return run_stage(passes, events)

    assert asyncio.run(inside()) == events


async def test_async_tests_and_batches() -> None:
    events = [make_event({"n": n}, number=n) for n in range(3)]
    assert await stage_results(passes, events) == events

    async def wrong(event: Event) -> Any:
        return "text"

    with pytest.raises(StageResultError, match="wrong returned str"):
        await stage_results(wrong, events)

    async def drops_odd(batch: Batch) -> None:
        for entry in list(batch.live()):
            if entry.value.data()["n"] % 2:
                entry.outcome = Dropped("drops_odd")

    entries = await run_batch(drops_odd, events)
    assert [entry.outcome for entry in entries] == [ACCEPTED, Dropped("drops_odd"), ACCEPTED]


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnspeakableError(), "UnspeakableError: (what it says cannot be read: ValueError)"),
        (ValueError("\ud800 and \0"), "ValueError: \\ud800 and \\x00"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 1988),
    ],
    ids=["no words", "no text", "long"],
)
async def test_an_error_that_nobody_could_store_is_still_its_stages(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else its batch fails as a whole, and nobody is told which stage it was."""
    # what is captured goes from one test process to another, which takes no surrogates
    caplog.set_level(logging.CRITICAL)

    async def breaks(event: Event) -> Event | None:
        raise error

    mine = batch(1)
    await EventStageRunner("breaks", breaks)(mine)
    failure = mine.entries[0].failure
    assert failure is not None
    assert (failure.stage, failure.error) == ("breaks", said)
    assert failure.error.encode()


def test_all_places_that_are_not_there_are_named_at_once(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookstream.app.application.discover", lambda *_, **__: None)

    async def another(event: Event) -> Event | None:
        return event

    app.stage(after="rout")(passes)
    app.stage(after="nothing")(another)
    with pytest.raises(SettingsError) as caught:
        app.discover()
    said = str(caught.value)
    assert "'passes'" in said
    assert "did you mean 'route'?" in said
    assert said.endswith("says after='nothing', and there is no such stage. There are route")


@pytest.mark.parametrize("kind", ["list", "generator"])
async def test_what_a_batch_function_returns_is_told_once(
    app: Hookstream, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """It may be meant as a filter, and lets everything pass."""
    source = app.stream_channel("mine", codec="json")

    @app.batches(source)
    def filters(batch: Batch) -> Any:
        return [1] if kind == "list" else (n for n in range(3))

    assert source.taker is not None
    for _ in range(2):
        assert await source.taker.work(batch(1))
    [said] = [record.getMessage() for record in caplog.records]
    assert f"'filters' ({__file__}:" in said
    assert f"returned {kind}, which counts for nothing" in said
