"""A task for each tool that has a queue, as the catalog has them: none waits for another."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from hookstream.app import tasks
from hookstream.app.queues.states import QueueState

__all__ = ["QueueTasks", "QueueWork", "Unlisted"]

Q = TypeVar("Q")


class QueueWork(Protocol):
    """What is done with one queue."""

    state: QueueState

    async def run(self) -> None:
        """Do it until cancelled."""


class Unlisted:
    """Stands where the settings of this process do not let it ask a queue, and says so."""

    def __init__(self, state: QueueState, setting: str) -> None:
        self.state = state
        self._setting = setting

    async def run(self) -> None:
        """Say it, and wait until the tool has another queue."""
        self.state.troubled(
            "not-listed",
            f"{self._setting} of this process does not have it, so this process leaves it alone. "
            "Receivers and workers want the same settings: set it, and restart",
        )
        await asyncio.get_running_loop().create_future()


class QueueTasks(Generic[Q]):
    """Begins and ends the work on tools' queues."""

    def __init__(self, name: str, make: Callable[[str, Q], QueueWork]) -> None:
        """``name``: of the tasks; ``make``: the work on a tool's queue, by what the tool says."""
        self._name = name
        self._make = make
        self._running: dict[str, tuple[Q, QueueWork, asyncio.Task[Any]]] = {}

    def states(self) -> list[QueueState]:
        """How each queue does."""
        return [work.state for _, work, _ in self._running.values()]

    async def follow(self, wanted: Mapping[str, Q]) -> None:
        """Have work on these queues, by tool, and on no others.

        What ended by itself was told, and is begun again.
        """
        for tool_id, (queue, _, task) in list(self._running.items()):
            if wanted.get(tool_id) != queue or task.done():
                await tasks.stop(task)
                del self._running[tool_id]
        for tool_id, queue in wanted.items():
            if tool_id not in self._running:
                work = self._make(tool_id, queue)
                self._running[tool_id] = queue, work, tasks.spawn(self._name, work.run())

    async def stop(self) -> None:
        """End all of it."""
        await tasks.stop(*(task for _, _, task in self._running.values()))
        self._running.clear()
