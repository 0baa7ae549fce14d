"""Agents over topics in the test's own process, and the whole system with a Kafka beside it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hookstream.app.kafka.topics import KafkaTopics
from hookstream.app.settings import Settings
from tests.support.stack import Stack, own_stages

__all__ = ["EVENTS", "UPDATES", "WORK", "Agents", "stack_beside"]

EVENTS, UPDATES = "mirror.events", "mirror.updates"
#: An agent that sends on what it takes.
WORK = """
from hookstream import app

done = app.topic("done", value_serializer="json")


@app.agent(app.topic("orders", value_serializer="json"))
async def work(stream):
    async for order in stream:
        await done.send(value=order)
"""


async def at_once(number: int) -> None:
    """An agent that is through at once."""


class Agents:
    """Topics of a broker, with a group named as their topic is, and what an agent over it got."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        given = {"kafka_url": url, "kafka_group": name, "state_dir": folder}
        self.name = name
        self.topics = KafkaTopics(Settings(**given))  # type: ignore[arg-type]
        self.got: list[int] = []

    def take(self, work: Callable[[int], Awaitable[None]] = at_once) -> None:
        """Declare an agent that takes the numbers ``n`` of records."""

        @self.topics.app.agent(self.topics.app.topic(self.name, value_serializer="json"))
        async def take(stream: Any) -> Any:
            async for value in stream:
                self.got.append(value["n"])
                await work(value["n"])
                yield value["n"]

    async def has(self, *numbers: int) -> bool:
        """Whether all of these have come."""
        return set(numbers) <= set(self.got)

    async def how(self, trouble: str) -> bool:
        """Whether that is what is told of them."""
        return [state.trouble for state in self.topics.states()] == [trouble]


def stack_beside(url: str, folder: Path, module: str, stages: str, **more: str) -> Stack:
    """`hookstream up` with mirrors, sources and a stage module of the test's own, not started."""
    return Stack(
        folder,
        **own_stages(folder, module, stages),
        HOOKSTREAM_KAFKA_URL=url,
        HOOKSTREAM_KAFKA_TOPICS="source-*",
        HOOKSTREAM_KAFKA_EVENTS_TOPIC=EVENTS,
        HOOKSTREAM_KAFKA_UPDATES_TOPIC=UPDATES,
        **more,
    )
