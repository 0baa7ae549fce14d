"""What cannot work is refused where it is declared, with its line: nothing waits for an event."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faust.cli import base as command_line

from hookstream.app.application import Hookstream
from hookstream.app.errors import SettingsError
from hookstream.app.settings import Settings
from hookstream.app.streams.channel import BatchChannel
from hookstream.codecs.envelope import Event

App = Any


@pytest.fixture
def app(tmp_path: Path) -> Hookstream:
    return Hookstream(Settings(state_dir=tmp_path))


async def stage(event: Event) -> Event | None:
    return event


async def nothing() -> None: ...


async def agent(stream: Any) -> None: ...


async def two(one: Any, another: Any) -> None: ...


async def yields(event: Any) -> AsyncIterator[Any]:
    yield event


def plain(event: Any) -> Any: ...


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
    "codec unknown": (lambda a: own(a, codec="jsn"), r"\.py:\d+\) is 'json', 'raw'.* not 'jsn'"),
    "codec none": (lambda a: own(a, codec=None), "not None"),
    "batch_max none": (lambda a: own(a, batch_max=0), "`batch_max` .* at least 1, not 0"),
    "linger back": (lambda a: own(a, linger_seconds=-1), "above 0, not -1"),
    "channel number": (lambda a: a.stream_channel(5, codec="json"), "cannot be called 5"),
    "timer text": (lambda a: a.timer("1s")(nothing), "interval of a timer.*not '1s'"),
    "timer 0": (lambda a: a.timer(0)(nothing), "above 0, not 0"),
    "timer bare": (lambda a: a.timer(nothing), "are parentheses missing"),
    "timer plain": (lambda a: a.timer(1.0)(plain), r"`async def plain\(app\)`"),
    "timer of two": (lambda a: a.timer(1.0)(two), "has to take one app and nothing else"),
    "crontab 61": (lambda a: a.crontab("61 * * * *")(nothing), "is none: minute, hour"),
    "crontab of four": (lambda a: a.crontab("* * * *")(nothing), "is none: minute, hour"),
    "crontab never": (lambda a: a.crontab("0 0 30 2 *")(nothing), "is none: minute, hour"),
    "crontab zone": (lambda a: a.crontab("* * * * *", timezone="UTC"), r"ZoneInfo\("),
    "crontab plain": (lambda a: a.crontab("* * * * *")(plain), r"`async def plain\(app\)`"),
    "task plain": (lambda a: a.task(plain), r"`async def plain\(app\)`"),
    "task called": (lambda a: a.task()(plain), r"`async def plain\(app\)`"),
    "table default": (lambda a: a.Table("x", default=0), "such as int or list, or lambda: 0"),
    "table number": (lambda a: a.Table(5), "has to be text, not 5"),
    "window text": (lambda a: a.Table("x").tumbling("60", expires=5), "numbers of seconds"),
    "window nan": (lambda a: a.Table("x").tumbling(float("nan"), expires=5), "numbers of seconds"),
    "dedup async": (lambda a: a.dedup("x")(stage), r"has to be `def stage\(event\)`"),
    "dedup yields": (lambda a: a.dedup("x")(generator), "it has a `yield`"),
    "dedup of two": (lambda a: a.dedup("x")(lambda one, two: None), "one event and nothing else"),
    "dedup bare": (lambda a: a.dedup(plain), "are parentheses missing"),
    "page bare": (lambda a: a.page(two), "are parentheses missing"),
    "page plain": (lambda a: a.page("/x")(plain), r"`async def plain\(self, request\)`"),
    "page of one": (lambda a: a.page("/x")(agent), "has to take self, request"),
    "page of more": (lambda a: a.page("/x/{id}")(two), "has to take self, request, id"),
    "agent bare": (lambda a: a.agent(agent), "are parentheses missing"),
    "agent list": (lambda a: a.agent(["x"])(agent), r"takes from a channel.*not from \['x'\]"),
    "agent plain": (lambda a: a.agent(own(a))(plain), r"`async def plain\(stream\)`"),
    "agent of none": (lambda a: a.agent(own(a))(nothing), "one stream and nothing else"),
    "agent concurrency": (lambda a: a.agent(own(a), concurrency=0)(agent), "at least 1, not 0"),
    "batches text": (lambda a: a.batches("x")(agent), "from channel to channel, not 'x'"),
    "batches yield": (lambda a: a.batches(own(a))(yields), "it has a `yield`"),
    "batches of none": (lambda a: a.batches(own(a))(nothing), "one batch and nothing else"),
    "batches to a stream": (
        lambda a: a.batches(in_memory(a), out=own(a))(agent),
        r"use batch\.send\(channel, value\)",
    ),
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

    app.stage(after="dedupe", concurrency=3, timeout=0.5)(stage)
    app.stage(after="dedupe")(Client().method)
    app.timer(timedelta(seconds=1))(nothing)
    app.timer(1, on_leader=True)(of_app)
    app.crontab("30 18 * * *")(nothing)
    app.task(nothing)
    app.task()(of_app)
    app.dedup("x")(plain)
    app.page("/x/{name}")(sees)
    app.agent(own(app), concurrency=2)(yields)
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
