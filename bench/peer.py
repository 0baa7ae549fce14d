"""What the worker is measured against: FastStream with an empty handler.

``python -m bench.peer URL STREAM COUNT [--batch]`` reads so many entries in a consumer group, as
FastStream does by default or in batches, acknowledges them, and prints what it took as JSON.
"""

import argparse
import asyncio
import json
import time
from typing import Any

import redis.asyncio
import uvloop
from faststream.redis import BinaryMessageFormatV1, RedisBroker, StreamSub

BATCH = 64
GROUP = "peer"


class Count:
    """Messages that came, and when."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.seen = 0
        self.ended = asyncio.Event()
        self.begun = self.cpu = 0.0

    def add(self, count: int) -> None:
        """So many more."""
        if not self.seen:
            self.begun, self.cpu = time.perf_counter(), time.process_time()
        self.seen += count
        if self.seen >= self.wanted:
            self.ended.set()


async def read(url: str, stream: str, wanted: int, batch: bool) -> dict[str, float]:
    """Read all of a stream."""
    broker = RedisBroker(url, logger=None, message_format=BinaryMessageFormatV1)
    count = Count(wanted)
    group: dict[str, Any] = {"group": GROUP, "consumer": "one", "last_id": "0"}
    if batch:
        source = StreamSub(stream, batch=True, max_records=BATCH, **group)

        @broker.subscriber(stream=source)
        async def handle_batch(messages: list[str]) -> None:
            count.add(len(messages))
    else:

        @broker.subscriber(stream=StreamSub(stream, max_records=BATCH, **group))
        async def handle(message: bytes) -> None:
            count.add(1)

    await broker.start()
    try:
        await asyncio.wait_for(count.ended.wait(), 120)
        async with redis.asyncio.Redis.from_url(url) as client:
            # the last ones are acknowledged behind their handler
            while (await client.xpending(stream, GROUP))["pending"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        seconds = time.perf_counter() - count.begun
        used = time.process_time() - count.cpu
    finally:
        await broker.stop()
    return {"rate": wanted / seconds, "cpu_us": used / wanted * 1e6}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("stream")
    parser.add_argument("count", type=int)
    parser.add_argument("--batch", action="store_true")
    given = parser.parse_args()
    print(json.dumps(uvloop.run(read(given.url, given.stream, given.count, given.batch))))


if __name__ == "__main__":
    main()
