"""What cannot work is refused where it is declared, with its line: nothing waits for an event."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import pytest
from faust.cli import base as command_line

from hookstream.app.application import Hookstream
from hookstream.app.discovery import discover
from hookstream.app.errors import SettingsError, TableUseError
from hookstream.app.settings import Settings
from hookstream.app.streams.channel import BatchChannel
from hookstream.codecs.envelope import Event

App = Any


@pytest.fixture
def app(own_settings: Settings) -> Hookstream:
    return Hookstream(own_settings)


async def stage(event: Event) -> Event | None:
    return event


async def nothing() -> None: ...


async def agent(stream: Any) -> None: ...


async def two(one: Any, another: Any) -> None: ...


async def yields(event: Any) -> AsyncIterator[Any]:
    yield event


async def life() -> AsyncIterator[None]:
    yield


async def schema(event: Event) -> Event | None:
    return event


def plain(event: Any) -> Any: ...


@wraps(plain)
async def awaits(event: Event) -> Any:
    return plain(event)


awaits.__name__ = "awaits"


def generator(event: Any) -> Iterator[Any]:
    yield event


class Callable_:  # noqa: N801 it stands for a function
    async def __call__(self, event: Event) -> Event | None:
        return event


def own(app: App, **options: Any) -> Any:
    return app.stream_channel("mine", **{"codec": "json", **options})


def in_memory(app: App) -> BatchChannel:
    return app.batch_channel("memory")  # type: ignore[no-any-return]


WRONG: dict[str, tuple[Callable[[App], object], str]] = {
    "after nothing": (lambda a: a.stage(after=None)(stage), "has to be text, not None"),
    "after empty": (lambda a: a.stage(after="")(stage), "has to be text, not ''"),
    "after a function": (lambda a: a.stage(after=plain)(stage), "as text: after='plain'"),
    "after a list": (lambda a: a.stage(after=["route"])(stage), r"not \['route'\]"),
    "concurrency text": (lambda a: a.stage(after="x", concurrency="4")(stage), "whole number.*'4'"),
    "concurrency half": (lambda a: a.stage(after="x", concurrency=1.5)(stage), "whole number.*1.5"),
    "concurrency none": (lambda a: a.stage(after="x", concurrency=0)(stage), "at least 1, not 0"),
    "timeout text": (lambda a: a.stage(after="x", timeout="5")(stage), "a number, above 0.*'5'"),
    "timeout nan": (lambda a: a.stage(after="x", timeout=float("nan"))(stage), "not nan"),
    "stage yields": (lambda a: a.stage(after="x")(yields), r"yields\(event\)`: it has a `yield`"),
    "stage generates": (lambda a: a.stage(after="x")(generator), "it has a `yield`"),
    "stage partial": (lambda a: a.stage(after="x")(partial(two, 1)), "no name of its own"),
    "stage object": (lambda a: a.stage(after="x")(Callable_()), "no name of its own"),
    "stage cached": (lambda a: a.stage(after="x")(cache(stage)), "cached by functools"),
    "stage name of ours": (lambda a: a.stage(after="x")(schema), "'schema' .* breaks the tool's"),
    "codec unknown": (lambda a: own(a, codec="jsn"), r"\.py:\d+\) is 'json', 'raw'.* not 'jsn'"),
    "codec none": (lambda a: own(a, codec=None), "not None"),
    "batch_max none": (lambda a: own(a, batch_max=0), "`batch_max` .* at least 1, not 0"),
    "linger back": (lambda a: own(a, linger_seconds=-1), "above 0, not -1"),
    "linger none": (lambda a: own(a, linger_seconds=None), "above 0, not None"),
    "share text": (lambda a: own(a, linger_share="x"), "`linger_share` .* not 'x'"),
    "channel number": (lambda a: a.stream_channel(5, codec="json"), "cannot be called 5"),
    "timer text": (lambda a: a.timer("1s")(nothing), "interval of a timer.*not '1s'"),
    "timer 0": (lambda a: a.timer(0)(nothing), "above 0, not 0"),
    "timer bare": (lambda a: a.timer(nothing), "are parentheses missing"),
    "timer plain": (lambda a: a.timer(1.0)(plain), r"`async def plain\(app\)`"),
    "timer of two": (lambda a: a.timer(1.0)(two), "has to take one app and nothing else"),
    "timer flag": (lambda a: a.timer(1, on_leader="no")(nothing), "True or False, not 'no'"),
    "task flag": (lambda a: a.task(nothing, on_leader=1), "True or False, not 1"),
    "crontab flag": (lambda a: a.crontab("* * * * *", on_leader="x"), "True or False, not 'x'"),
    "crontab 61": (lambda a: a.crontab("61 * * * *")(nothing), "is none: minute, hour"),
    "crontab of four": (lambda a: a.crontab("* * * *")(nothing), "is none: minute, hour"),
    "crontab never": (lambda a: a.crontab("0 0 30 2 *")(nothing), "is none: minute, hour"),
    "crontab zone": (lambda a: a.crontab("* * * * *", timezone="UTC"), r"ZoneInfo\("),
    "crontab plain": (lambda a: a.crontab("* * * * *")(plain), r"`async def plain\(app\)`"),
    "task plain": (lambda a: a.task(plain), r"`async def plain\(app\)`"),
    "task called": (lambda a: a.task()(plain), r"`async def plain\(app\)`"),
    "table default": (lambda a: a.Table("x", default=0), "such as int or list, or lambda: 0"),
    "table number": (lambda a: a.Table(5), "has to be text, not 5"),
    "table of one": (lambda a: a.Table("x", default=lambda key: 0), "has to take nothing"),
    "table async": (lambda a: a.Table("x", default=nothing), "plain function, not 'nothing'"),
    "table of sets": (lambda a: a.Table("x", default=set), "JSON has not, as 'set' does"),
    "windows": (lambda a: a.Table("x").hopping(60, 0.01, expires=5), "would be in 6000 of them"),
    "window text": (lambda a: a.Table("x").tumbling("60", expires=5), "numbers of seconds"),
    "window nan": (lambda a: a.Table("x").tumbling(float("nan"), expires=5), "numbers of seconds"),
    "dedup async": (lambda a: a.dedup("x")(stage), r"has to be `def stage\(event\)`"),
    "dedup yields": (lambda a: a.dedup("x")(generator), "it has a `yield`"),
    "dedup of two": (lambda a: a.dedup("x")(lambda one, two: None), "one event and nothing else"),
    "dedup bare": (lambda a: a.dedup(plain), "are parentheses missing"),
    "dedup around": (lambda a: a.dedup("x")(awaits), r"has to be `def awaits\(event\)`"),
    "page flag": (lambda a: a.page("/x", public="no"), "True or False, not 'no'"),
    "page bare": (lambda a: a.page(two), "are parentheses missing"),
    "page plain": (lambda a: a.page("/x")(plain), r"`async def plain\(self, request\)`"),
    "page of one": (lambda a: a.page("/x")(agent), "has to take self, request"),
    "page of more": (lambda a: a.page("/x/{id}")(two), "has to take self, request, id"),
    "agent bare": (lambda a: a.agent(agent), "are parentheses missing"),
    "agent list": (lambda a: a.agent(["x"])(agent), r"takes from a channel.*not from \['x'\]"),
    "agent plain": (lambda a: a.agent(own(a))(plain), r"`async def plain\(stream\)`"),
    "agent of none": (lambda a: a.agent(own(a))(nothing), "one stream and nothing else"),
    "agent concurrency": (lambda a: a.agent(own(a), concurrency=0)(agent), "at least 1, not 0"),
    "agent name": (lambda a: a.agent(own(a), name=5), "name of an agent .* text, not 5"),
    "agent sink": (lambda a: a.agent(own(a), sink="x"), "`sink` .* list of functions.*not 'x'"),
    "agent sinks": (lambda a: a.agent(own(a), sink=["x"]), "`sink` .* not 'x'"),
    "agent one sink": (lambda a: a.agent(own(a), sink=plain), "`sink` .* the function 'plain'"),
    "agent option": (lambda a: a.agent(own(a), batch=5), r"batch of an agent .*\.py:\d+"),
    "batches name": (lambda a: a.batches(own(a), name=5), "name of a batch function .* not 5"),
    "batches text": (lambda a: a.batches("x")(agent), "from channel to channel, not 'x'"),
    "batches yield": (lambda a: a.batches(own(a))(yields), "it has a `yield`"),
    "batches of none": (lambda a: a.batches(own(a))(nothing), "one batch and nothing else"),
    "batches to a stream": (
        lambda a: a.batches(in_memory(a), out=own(a))(agent),
        r"use batch\.send\(channel, value\)",
    ),
    "command bare": (lambda a: a.command(nothing), r"`@app\.command\(\)`, with parentheses"),
    "lifespan managed": (lambda a: a.lifespan(asynccontextmanager(life)), "leave @asynccontextm"),
    "lifespan of one": (lambda a: a.lifespan(yields), "and takes nothing"),
}


@pytest.mark.parametrize(("declare", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_work_is_refused(
    app: Hookstream, declare: Callable[[App], object], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        declare(app)


def test_what_can_work_is_taken(app: Hookstream) -> None:
    async def sees(page: Any, request: Any, name: str = "") -> None: ...

    async def of_app(app: Any) -> None: ...

    class Client:
        async def method(self, event: Event) -> Event | None:
            return event

    def inner(event: Event) -> Event | None:
        return event

    @wraps(inner)
    async def around(event: Event) -> Event | None:
        return inner(event)

    app.stage(after="dedupe", concurrency=3, timeout=0.5)(stage)
    app.stage(after="dedupe")(Client().method)
    app.stage(after="dedupe")(around)
    app.timer(timedelta(seconds=1))(nothing)
    app.timer(1, on_leader=True)(of_app)
    app.crontab("30 18 * * *")(nothing)
    app.task(nothing)
    app.task()(of_app)
    app.dedup("x")(plain)
    app.page("/x/{name}")(sees)
    app.agent(own(app), concurrency=2, sink=[plain])(yields)
    app.batches(in_memory(app))(plain)
    app.Table("x", default=lambda: {"n": 0}).tumbling(timedelta(minutes=1), expires=60)


def test_one_agent_declared_twice_is_refused(app: Hookstream) -> None:
    """Faust would keep the last one, and what the first one takes from would stand still."""
    app.agent(app.stream_channel("one", codec="json"))(agent)
    with pytest.raises(SettingsError, match="is declared twice"):
        app.agent(app.stream_channel("two", codec="json"))(agent)


def test_a_dedup_function_or_a_page_declared_twice_is_refused(app: Hookstream) -> None:
    def declare() -> None:
        app.dedup("mine")(lambda event: None)

    declare()
    with pytest.raises(SettingsError, match=r"'mine' \(.*\.py:\d+\) is declared twice"):
        declare()
    with pytest.raises(SettingsError, match=r"two dedup functions are called 'mine': .* and .*"):
        app.dedup("mine")(plain)
    app.page("/mine")(two)
    with pytest.raises(SettingsError, match="two pages have the path '/mine'"):
        app.page("/mine")(two)


def test_a_table_that_is_declared_again_keeps_its_windows(app: Hookstream) -> None:
    """In a loop, say: both would write under the same keys."""

    def declare(seconds: int) -> None:
        app.Table("counts", default=int).tumbling(seconds, expires=60)

    declare(60)
    with pytest.raises(SettingsError, match="has other windows already"):
        declare(3600)


def test_a_command_of_ours_is_not_replaced(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send() -> None: ...

    monkeypatch.setattr(command_line.cli, "commands", {"send": object()})
    with pytest.raises(SettingsError, match=r"there is a command 'send' already.*\.py:\d+"):
        app.command()(send)
    assert list(command_line.cli.commands) == ["send"]


async def test_a_task_of_the_leader_begins_once_there_is_one(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start nobody is, and Faust looks once: it would begin nowhere."""
    monkeypatch.setattr("hookstream.app.declarations.LEADER_SECONDS", 0.01)
    leading, begun = False, asyncio.Event()
    monkeypatch.setattr(app, "is_leader", lambda: leading)

    async def of_app(given: Any) -> None:
        assert given is app
        begun.set()

    assert app.task(of_app, on_leader=True) is of_app
    [declared] = app._app_tasks
    running = asyncio.create_task(declared())
    await asyncio.sleep(0.05)
    assert not begun.is_set()
    leading = True
    await asyncio.wait_for(running, 10)
    assert begun.is_set()


def test_batches_that_nobody_takes_are_refused_once_all_is_imported(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookstream.app.application.discover", lambda *_, **__: None)
    app.batches(own(app), out=in_memory(app))(agent)
    with pytest.raises(SettingsError, match=r"'agent' go to the channel 'memory'.*never end"):
        app.discover()


def test_batches_that_go_round_or_come_from_nowhere_are_refused(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookstream.app.application.discover", lambda *_, **__: None)
    one, other, third = (app.batch_channel(name) for name in ("one", "other", "third"))
    app.batches(own(app), out=one, name="first")(plain)
    app.batches(one, out=other, name="there")(plain)
    app.batches(other, out=one, name="back")(plain)
    with pytest.raises(SettingsError, match="go round: 'first' → 'there' → 'back' → 'there'"):
        app.discover()
    del app._outputs["back"]
    app.discover()
    app.agent(third)(agent)
    with pytest.raises(SettingsError, match=r"brings batches to the channel 'third'.*agent"):
        app.discover()
    app._lookers.clear()
    app.batches(third, name="idle")(plain)
    with pytest.raises(SettingsError, match="the channel 'third', from which 'idle' takes"):
        app.discover()


@pytest.mark.parametrize("kind", ["timer", "crontab", "task", "lifespan"])
def test_what_has_no_name_is_declared_by_one_module(app: Hookstream, kind: str) -> None:
    """A file that is imported under two names would have its timers run twice."""
    declare: dict[str, Callable[[Any], object]] = {
        "timer": app.timer(1),
        "crontab": app.crontab("* * * * *"),
        "task": app.task,
        "lifespan": app.lifespan,
    }

    def made(module: str) -> Any:
        async def mine() -> AsyncIterator[None]:
            yield

        async def works() -> None: ...

        function: Any = mine if kind == "lifespan" else works
        function.__module__ = module
        return function

    for _ in range(2):
        # by a function that is called again: each is meant
        declare[kind](made("timers"))
    with pytest.raises(SettingsError, match=r"imported as my\.timers and as timers"):
        declare[kind](made("my.timers"))


def test_a_page_whose_path_is_anothers_but_for_names_is_refused(app: Hookstream) -> None:
    async def by_id(page: Any, request: Any, id: str) -> None: ...

    async def by_key(page: Any, request: Any, key: str) -> None: ...

    app.page("/x/{id}")(by_id)
    with pytest.raises(SettingsError, match=r"'/x/\{key\}', and '/x/\{id\}' is the same to it"):
        app.page("/x/{key}")(by_key)


def test_a_table_is_not_used_where_its_module_is_imported(app: Hookstream) -> None:
    counts = app.Table("x", default=int)
    with pytest.raises(TableUseError, match="no worker runs where a module is imported"):
        counts["a"] += 1
    with pytest.raises(TableUseError, match="no worker runs"):
        list(counts.items())


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "@app.stage\nasync def s(event): return event",
            r"written @app\.stage\(after=.dedupe",
        ),
        ("@app.stage()\nasync def s(event): return event", "It is written @app.stage"),
        ("@app.stage('route')\nasync def s(event): return event", "It is written @app.stage"),
        ("app.stage(after='x', retries=3)", "It is written @app.stage"),
        ("@app.lifespan()\nasync def s(): yield", "It is written @app.lifespan"),
        ("app.stream_channel('mine')", r"It is written app\.stream_channel"),
        ("@app.batches()\nasync def b(batch): ...", r"It is written @app\.batches\(channel\)"),
        ("@app.stag(after='x')\nasync def s(event): ...", r"no app\.stag: did you mean app\.stage"),
        ("@app.service\nclass S: ...", r"no app\.service: docs/stages\.md says what there is"),
        ("app.Table('x').tumbling(0, expires=1)", r"above 0 seconds.*mistaken\.py:2"),
        ("def stage(): ...\nstage(5)", r"mistaken\.py:3\)$"),
    ],
)
def test_a_mistake_at_the_import_says_its_line_and_what_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    (tmp_path / "mistaken.py").write_text(f"from hookstream import app\n{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mistaken", raising=False)
    with pytest.raises(SettingsError) as caught:
        discover(["mistaken"])
    message = str(caught.value).partition(" (it is named by")[0]
    assert re.search(says, message), message
    assert "mistaken.py:" in message
