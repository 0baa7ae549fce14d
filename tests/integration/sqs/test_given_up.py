"""What is given up is not sent, though the sender has read it already."""

from types import SimpleNamespace
from typing import Any, cast

import redis.asyncio

from hookstream.app.redis import keys
from hookstream.app.routing.queues import Queue, SqsTarget
from hookstream.app.settings import Settings
from hookstream.app.sqs.forwarder import Ready, Sender, SqsForwarder
from hookstream.app.sqs.moves import drop_outbox
from hookstream.app.sqs.outbox import Line

TARGET = SqsTarget(Queue("https://sqs.eu-west-1.amazonaws.com/1/q.fifo"))


async def test_lines_that_were_given_up_since_they_were_read_are_left_out(
    redis_client: "redis.asyncio.Redis", name: str
) -> None:
    # all that it needs of the forwarder
    needed = SimpleNamespace(redis=redis_client, settings=Settings())
    sender = Sender(cast(SqsForwarder, needed), name, TARGET)
    key = keys.outbox(3, name)
    lines = [Line(f"e{number}", f"{number}-0") for number in range(4)]
    ids: list[Any] = [await redis_client.xadd(key, {"d": line.encode()}) for line in lines]
    batch = [Ready(entry_id, line, None) for entry_id, line in zip(ids, lines, strict=True)]
    assert await sender._still_wanted(3, batch[1:]) == batch[1:]
    await redis_client.xdel(key, ids[2])
    assert await sender._still_wanted(3, batch) == [*batch[:2], batch[3]]
    assert (await drop_outbox(redis_client, 3, name))[0] == 3
    # what has come since is of no request that was made before
    await redis_client.xadd(key, {"d": lines[0].encode()})
    assert await sender._still_wanted(3, batch) == []
