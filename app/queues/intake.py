"""Which tools' sources are read, as the catalog and the settings have them."""

import asyncio
from typing import Final, Generic, TypeVar

from hookstream.app.queues.door import QueueDoors
from hookstream.app.queues.queue_tasks import QueueTasks, QueueWork
from hookstream.app.queues.states import QueueState
from hookstream.app.routing.catalog import Tool

__all__ = ["Intake"]

Source = TypeVar("Source")

#: How often it is looked which tools have a source.
LOOK_SECONDS: Final = 0.5


class Intake(Generic[Source]):
    """Reads the sources of one kind that tools have: none waits for another."""

    def __init__(self, doors: QueueDoors, name: str) -> None:
        """``name``: of the tasks."""
        self.doors = doors
        self._consumers: QueueTasks[Source] = QueueTasks(name, self.reader)

    def source_of(self, tool: Tool) -> Source | None:
        """A tool's source, where it is of this kind."""
        raise NotImplementedError

    def reader(self, tool_id: str, source: Source) -> QueueWork:
        """What reads a tool's source, or says why this process does not."""
        raise NotImplementedError

    def states(self) -> list[QueueState]:
        """How each source does."""
        return self._consumers.states()

    async def run(self) -> None:
        """Read sources for as long as this runs."""
        try:
            while True:
                tools = self.doors.catalog().tools
                found = {tool_id: self.source_of(tool) for tool_id, tool in tools.items()}
                await self._consumers.follow(
                    {tool_id: source for tool_id, source in found.items() if source is not None}
                )
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._consumers.stop()
