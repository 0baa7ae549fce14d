"""A broker that is killed and comes back with nothing: its topics are made anew."""

import asyncio
import json
from pathlib import Path

from tests.integration.kafka.agents import EVENTS, UPDATES, WORK, stack_beside
from tests.integration.kafka.test_end_to_end import SOURCE, kafka_part
from tests.support.kafka import Broker
from tests.support.stack import eventually

STAGES = (
    WORK
    + """

@app.agent(app.topic("others", value_serializer="json"))
async def look(stream):
    async for other in stream:
        pass
"""
)


async def topics(broker: Broker, *left_out: str) -> None:
    for topic, partitions in (
        *(("orders", 2), ("others", 1), ("done", 1), ("source-lost", 2)),
        *((EVENTS, 3), (UPDATES, 3)),
    ):
        if topic not in left_out:
            await broker.make_topic(topic, partitions)


async def values(broker: Broker, topic: str, name: str) -> set[int]:
    return {json.loads(record.value)[name] for record in await broker.records(topic)}


async def test_all_goes_on_where_a_broker_has_lost_its_topics(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await topics(broker)
    stack = stack_beside(broker.url, tmp_path, "lost_stages", STAGES)
    await asyncio.to_thread(stack.start)
    try:
        await stack.context("lost", SOURCE)
        source = {"kafka": {"topic": "source-lost"}}
        await stack.put("/tools/lost", {**SOURCE, "source": source})
        seq = 0
        for turn in range(2):
            first = turn * 100
            # more than there will be when it has come back
            for number in range(first, first + 40 - turn * 10):
                await broker.send("source-lost", [json.dumps({"n": number}).encode()])
            await broker.send("orders", [json.dumps({"n": first}).encode()] * (50 - turn * 10))

            async def worked(n: int = first) -> bool:
                return n in await values(broker, "done", "n")

            async def mirrored(least: int = 40 - turn * 10) -> bool:
                return len(await broker.records(UPDATES)) >= least

            await eventually(worked, f"agents work ({turn})")
            updates = await stack.updates("lost", 40 - turn * 10, after=seq)
            seq = updates[-1]["seq"]
            await eventually(mirrored, f"updates are mirrored ({turn})")
            broker.stop()
            await broker.start()
            await topics(broker, "others" if turn == 0 else "")
            if turn == 0:

                async def missed() -> bool:
                    part = await kafka_part(stack.worker_port)
                    said = {each["topic"]: each["detail"] for each in part["troubles"]}
                    return "others" in said.get("(of agents)", "")

                await eventually(missed, "a topic of agents that is not there is named")
                await broker.make_topic("others")

        await broker.send("orders", [json.dumps({"n": 200}).encode()])
        await eventually(lambda: worked(200), "agents work at the end")

        async def well() -> bool:
            parts = [await kafka_part(port) for port in (stack.port, stack.worker_port)]
            return [part["status"] for part in parts] == ["ok", "ok"]

        await eventually(well, "all is well")
    finally:
        await asyncio.to_thread(stack.stop)
        broker.stop()
