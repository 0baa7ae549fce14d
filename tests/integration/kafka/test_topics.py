"""Agents over topics are Faust's, and begun anew when their application crashes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.kafka import topics as module
from hookstream.app.kafka.topics import KafkaTopics
from hookstream.app.settings import Settings
from tests.support.kafka import Broker
from tests.support.stack import eventually


async def test_agents_that_crash_are_begun_anew(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(module, "SESSION_SECONDS", 4.0)
    broker = Broker(tmp_path)
    await broker.start()
    await broker.make_topic(name)
    given = {"kafka_url": broker.url, "kafka_group": name, "state_dir": tmp_path}
    topics = KafkaTopics(Settings(**given))  # type: ignore[arg-type]
    assert topics.states() == []
    got: list[int] = []

    @topics.app.agent(topics.app.topic(name, value_serializer="json"))
    async def work(stream: Any) -> Any:
        async for value in stream:
            got.append(value["n"])
            yield value["n"]

    async def send(number: int) -> None:
        await broker.send(name, [json.dumps({"n": number}).encode()])

    async def has(number: int) -> bool:
        return number in got

    async def how(trouble: str) -> bool:
        return [state.trouble for state in topics.states()] == [trouble]

    try:
        async with topics:
            await send(1)
            await eventually(lambda: has(1), "an agent takes what is there")
            await topics.app.consumer.crash(RuntimeError("what Faust cannot mend"))
            await eventually(lambda: how("crashed"), "that is said")
            await send(2)
            await eventually(lambda: has(2), "it is begun anew")
            await eventually(lambda: how(""), "all is well")
            await asyncio.wait_for(topics.stop(), 20)
    finally:
        broker.stop()
