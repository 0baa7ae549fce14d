"""Processes whose own settings do not let them ask a tool's queue say so, and ask nothing."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.kafka.source import KafkaIntake, TopicReader
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.queues.states import QueueState
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.queues import Queue, SqsSource, SqsTarget
from hookstream.app.routing.topics import KafkaSource
from hookstream.app.settings import Settings
from hookstream.app.sqs.forwarder import SqsForwarder
from hookstream.app.sqs.intake import Consumer, SqsIntake

ACCOUNT = "https://sqs.eu-west-1.amazonaws.com/123456789012/"
PLAIN = Tool(*("t", DEFAULT_TENANT, "none", (), SignatureOptions(), "none", ()), *(0, "tool", ""))
OUT_OF_QUEUE = replace(PLAIN, source=SqsSource(Queue(ACCOUNT + "q")))
OUT_OF_TOPIC = replace(PLAIN, source=KafkaSource("orders"))
COPIED = replace(PLAIN, forward=SqsTarget(Queue(ACCOUNT + "q")))
KAFKA = {"kafka_url": "kafka://127.0.0.1:9"}


def intake(kind: Any, tool: Tool, settings: Settings) -> Any:
    doors: Any = SimpleNamespace(
        settings=settings,
        catalog=lambda: Catalog(tools={tool.tool_id: tool}),
        of=lambda *_: SimpleNamespace(waits=lambda: None),
    )
    return kind(doors)


def forwarder(settings: Settings) -> SqsForwarder:
    nothing: Any = SimpleNamespace()
    return SqsForwarder(
        nothing,
        nothing,
        settings,
        catalog=lambda: Catalog(tools={"t": COPIED}),
        is_current=lambda: True,
        owned=dict,
    )


async def states_of(follow: Callable[[], Any], states: Callable[[], Sequence[QueueState]]) -> Any:
    """How its queues do once it has looked at them."""
    task = asyncio.ensure_future(follow())
    try:
        async with asyncio.timeout(30):
            while not any(state.trouble for state in states()):
                await asyncio.sleep(0)
        return states()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("kind", "tool", "settings", "name"),
    [
        (SqsIntake, OUT_OF_QUEUE, {}, "HOOKSTREAM_SQS_QUEUES"),
        (SqsIntake, OUT_OF_QUEUE, {"sqs_queues": ACCOUNT + "other"}, "HOOKSTREAM_SQS_QUEUES"),
        (KafkaIntake, OUT_OF_TOPIC, {}, "HOOKSTREAM_KAFKA_URL"),
        (KafkaIntake, OUT_OF_TOPIC, KAFKA, "HOOKSTREAM_KAFKA_TOPICS"),
    ],
    ids=["no queues", "other queues", "no kafka", "other topics"],
)
async def test_a_source_that_a_receiver_may_not_ask_is_named(
    kind: Any, tool: Tool, settings: dict[str, str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = intake(kind, tool, Settings(**settings))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        [state] = await states_of(here.run, here.states)
    assert (state.tool_id, state.trouble) == ("t", "not-listed")
    assert state.detail.startswith(f"{name} of this process does not have it")
    assert [state.detail in line for line in caplog.messages] == [True]


@pytest.mark.parametrize("queues", ["", ACCOUNT + "other"], ids=["none", "others"])
async def test_a_queue_that_a_worker_may_not_copy_into_is_named(queues: str) -> None:
    here = forwarder(Settings(sqs_queues=queues))
    [state] = await states_of(here._follow, here.states)
    assert (state.tool_id, state.queue, state.trouble) == ("t", "q", "not-listed")
    await here._senders.stop()


def test_those_that_are_listed_are_asked() -> None:
    sqs = intake(SqsIntake, OUT_OF_QUEUE, Settings(sqs_queues=ACCOUNT))
    assert isinstance(sqs.reader("t", OUT_OF_QUEUE.source), Consumer)
    kafka = intake(KafkaIntake, OUT_OF_TOPIC, Settings(**KAFKA, kafka_topics="ord*"))  # type: ignore[arg-type]
    assert isinstance(kafka.reader("t", OUT_OF_TOPIC.source), TopicReader)
