"""Background tasks: none ends unseen, and none of ours is run by another way."""

import ast
import asyncio
import logging
from collections.abc import Iterator

import pytest
from mode import Service

from hookstream.app import metrics, tasks
from tests.support import ROOT

#: What begins a task, as a function or a method of whatever it is.
STARTERS = {"create_task", "ensure_future", "add_future", "run_coroutine_threadsafe"}
#: Faust's decorators, which end the process with what raises.
DECORATORS = {"Service.task", "Service.timer", "Service.crontab"}
#: Where Faust's own tasks of an app are begun, kept running by :func:`tasks.keep_running`.
ALLOWED = {"app/tasks.py", "app/application.py:on_started_init_extra_tasks"}


class Ticking(Service):
    """A service whose task raises what it is told to, one after the other, and then waits."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)
        self.begun = 0
        self.well = asyncio.Event()

    @tasks.loop
    async def _tick(self) -> None:
        self.begun += 1
        if self.errors:
            raise self.errors.pop(0)
        self.well.set()
        await self.sleep(60.0)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> tasks.Board:
    fresh = tasks.Board()
    monkeypatch.setattr(tasks, "BOARD", fresh)
    return fresh


def counted(name: str) -> float:
    return float(metrics.TASK_FAILURES.labels(task=name)._value.get())


async def test_a_loop_that_raises_is_started_again_and_named(
    board: tasks.Board, caplog: pytest.LogCaptureFixture
) -> None:
    name, before = "Ticking._tick", counted("Ticking._tick")
    with caplog.at_level(logging.ERROR):
        async with Ticking(RuntimeError("no such node"), RuntimeError("again")) as service:
            await asyncio.wait_for(service.well.wait(), 10)
            assert not service.crashed
    assert service.begun == 3
    assert counted(name) == before + 2
    [failure] = board.lately()
    assert (failure.task, failure.failures, failure.error) == (name, 2, "RuntimeError")
    assert failure.restarts
    said = [record for record in caplog.records if record.name == tasks.__name__]
    assert len(said) == 1, "once, however often it fails"
    assert said[0].exc_info is not None, "with its traceback"


async def test_a_cancellation_of_what_a_loop_waits_for_does_not_end_it(board: tasks.Board) -> None:
    async with Ticking(asyncio.CancelledError()) as service:
        await asyncio.wait_for(service.well.wait(), 10)
    assert service.begun == 2
    assert board.lately()[0].error == "CancelledError"


async def test_a_loop_ends_with_its_service_and_that_is_no_failure(board: tasks.Board) -> None:
    service = Ticking()
    async with service:
        await asyncio.wait_for(service.well.wait(), 10)
    assert board.lately() == []


async def test_what_depends_on_a_task_is_closed_when_it_fails(board: tasks.Board) -> None:
    heard: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def send() -> None:
        raise AttributeError("'NoneType' object has no attribute 'name'")

    before = counted("sender")
    tasks.spawn("sender", send(), failed=heard.set_result)
    assert isinstance(await asyncio.wait_for(heard, 10), AttributeError)
    assert counted("sender") == before + 1
    assert [failure.restarts for failure in board.lately()] == [False]


async def test_a_task_ends_with_the_service_that_began_it(board: tasks.Board) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Ticking() as service:
        task = tasks.spawn("waits", wait(), service=service)
        await asyncio.wait_for(begun.wait(), 10)
    assert cancelled.is_set()
    assert task.cancelled()
    assert board.lately() == []


async def test_a_task_is_stopped_though_a_cancellation_gets_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "STOP_SECONDS", 0.05)
    begun, lost = asyncio.Event(), False

    async def work() -> None:
        nonlocal lost
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost:
                    raise
                lost = True

    task = tasks.awaited("work", work())
    await begun.wait()
    async with asyncio.timeout(10):
        await tasks.stop(task)
    assert task.cancelled()


async def test_the_error_of_awaited_work_is_its_callers(board: tasks.Board) -> None:
    async def read() -> int:
        raise ValueError("no number")

    with pytest.raises(ValueError, match="no number"):
        await tasks.awaited("read", read())
    assert board.lately() == []


async def test_what_fails_in_a_callback_is_heard_of(board: tasks.Board) -> None:
    running = asyncio.get_running_loop()
    handler = running.get_exception_handler()
    tasks.hear_loop()
    done = asyncio.Event()
    try:
        running.call_soon(lambda: {}["nothing"])
        running.call_soon(done.set)
        await asyncio.wait_for(done.wait(), 10)
    finally:
        running.set_exception_handler(handler)
    assert [failure.error for failure in board.lately()] == ["KeyError"]


def test_a_task_that_has_been_well_for_a_minute_is_named_no_more() -> None:
    now = 100.0
    board = tasks.Board(lambda: now)
    board.failed("poll", OSError("away"), restarts=True)
    now += tasks.WELL_SECONDS - 1
    board.failed("poll", OSError("away"), restarts=True)
    assert [failure.failures for failure in board.lately()] == [2]
    now += tasks.WELL_SECONDS + 1
    assert board.lately() == []
    board.failed("poll", OSError("away"), restarts=True)
    assert [failure.failures for failure in board.lately()] == [1]


def test_every_task_is_begun_by_the_one_way() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} in {where}: {what}"
        for folder in ("app", "agents")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if any(word in (source := path.read_text()) for word in STARTERS | DECORATORS)
        for line, where, what in starts(ast.parse(source))
        if str(path.relative_to(ROOT)) not in ALLOWED
        and f"{path.relative_to(ROOT)}:{where}" not in ALLOWED
    ]
    assert found == [], "begin these by hookstream.app.tasks"


def test_other_ways_would_be_seen() -> None:
    source = """
class Feeds:
    @Service.task
    async def poll(self): pass
    @Service.timer(1.0)
    async def tick(self): pass
    async def watch(self):
        self.add_future(work())
        asyncio.create_task(work())
        asyncio.ensure_future(work())
        asyncio.get_running_loop().create_task(work())
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
"""
    assert [line for line, _, _ in starts(ast.parse(source))] == [3, 5, 8, 9, 10, 11]


def starts(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, function and call of whatever begins a task; a group raises what fails within it."""
    groups = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name) and "TaskGroup(" in ast.unparse(item)
    }
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in function.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(called) in DECORATORS:
                yield decorator.lineno, function.name, ast.unparse(decorator)
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in groups:
                continue
            if node.func.attr in STARTERS:
                yield node.lineno, function.name, ast.unparse(node)
