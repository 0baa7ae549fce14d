"""The load of a move: three tools, each with senders that keep each key's order, and a client.

``door``: webhooks. ``lanes``: a FIFO queue that events come out of. ``heap``: a standard queue, in
and out, in which SQS gives some messages twice and keeps no order.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.chaos.old_worker import Sqs
from tests.chaos.path_ledger import PathLedger
from tests.support.stack import Stack

__all__ = ["TOOLS", "Frames", "Lane", "MoveLoad"]


@dataclass(frozen=True, slots=True)
class Lane:
    """A tool: how many of 100 events are its own, and of how many ordering keys."""

    share: int
    most_keys: int
    #: "" for webhooks; else what the queue's name ends in
    source: str = ""
    forward: str = ".fifo"
    ordered: bool = True

    def keys(self, events: int) -> int:
        """Of few events each key has some, too."""
        return max(4, min(self.most_keys, events * self.share // 1500))


TOOLS = {
    "door": Lane(60, 240),
    "lanes": Lane(25, 120, ".fifo"),
    "heap": Lane(15, 60, "-source", "-old", ordered=False),
}
SENDERS = 40
TICK_SECONDS = 0.25
UNDER_WAY_SECONDS = 8.0


@dataclass(slots=True)
class Frames:
    """What the client of a context saw: seq → (event id, key, n)."""

    seen: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    last: int = 0
    #: frames that bore a number which something else had
    renumbered: int = 0
    shown_again: int = 0

    def take(self, text: str) -> None:
        """A frame came."""
        update = json.loads(text)
        if update["type"] != "update":
            return
        key, _, number = update["data"]["title"].partition(" n")
        seq, shown = update["seq"], (update["event_id"], key, int(number))
        if (had := self.seen.get(seq)) is not None:
            self.renumbered += had != shown
            self.shown_again += had == shown
        self.seen[seq] = shown
        self.last = max(self.last, seq)


class MoveLoad:
    """``events`` or a few more, ``rate`` a second; a sender goes on once what it sent was accepted.

    While more than :data:`UNDER_WAY_SECONDS` of the rate are under way nothing is sent: each mode
    shall have events that are worked on in it, also on a machine that is too slow for the rate.
    """

    def __init__(
        self,
        stack: Stack,
        server: str,
        *,
        events: int,
        rate: float,
        worked: Callable[[], int],
    ) -> None:
        """``worked``: how many events both paths are through with."""
        self.stack, self.server, self.events, self.rate = stack, server, events, rate
        self._worked = worked
        self.ledger = PathLedger(name for name, lane in TOOLS.items() if lane.ordered)
        self.frames = {name: Frames() for name in TOOLS}
        self.counts: Counter[str] = Counter()
        self.urls: dict[str, str] = {}
        self.crowded = self.stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[asyncio.Task[None]] = []

    async def prepare(self) -> None:
        """Queues, tools, contexts, and clients of these."""
        async with aiohttp.ClientSession() as session:
            sqs = Sqs(session, self.server)
            for name, lane in TOOLS.items():
                for kind in (lane.source and f"in{lane.source}", f"old{lane.forward}"):
                    if kind:
                        fifo = {"FifoQueue": "true"} if kind.endswith(".fifo") else {}
                        made = await sqs.until_done(
                            "CreateQueue", QueueName=f"{name}-{kind}", Attributes=fifo
                        )
                        self.urls[f"{name}-{kind}"] = str(made["QueueUrl"])
        for name, lane in TOOLS.items():
            tool: dict[str, Any] = {
                "provider": "none",
                # a post whose answer was lost is sent again
                "dedup": {"strategy": "payload"},
                "ordering": {"by": "field", "field": "key"},
                "forward": {"sqs": {"queue_url": self.old(name)}},
            }
            if lane.source:
                source = self.urls[f"{name}-in{lane.source}"]
                tool["source"] = {"sqs": {"queue_url": source, "format": "raw"}}
            await self.stack.context(name, tool)
        self._clients = [asyncio.create_task(self._watch(name)) for name in TOOLS]
        self._clients.append(asyncio.create_task(self._look()))

    def old(self, tool: str) -> str:
        """The queue that old workers of a tool take from."""
        return self.urls[f"{tool}-old{TOOLS[tool].forward}"]

    def start(self) -> None:
        """Begin to send."""
        for name, lane in TOOLS.items():
            count, rate = lane.keys(self.events), self.rate * lane.share / 100
            if name == "door":
                senders = min(SENDERS, count)
                for at in range(senders):
                    keys = [f"d{number}" for number in range(at, count, senders)]
                    self._spawn(self._post_all(keys, senders / rate))
            else:
                self._spawn(self._send_all(name, lane, rate))

    async def _room(self) -> None:
        """Wait while too much is under way."""
        while self.crowded and not self.stopping:
            await asyncio.sleep(TICK_SECONDS)

    async def _look(self) -> None:
        """See how much is under way."""
        while True:
            under_way = self.ledger.count - self._worked()
            self.crowded = under_way > self.rate * UNDER_WAY_SECONDS
            self.counts["waited"] += self.crowded
            await asyncio.sleep(TICK_SECONDS)

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    def look(self) -> None:
        """Raise what a sender has raised."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop_sending(self) -> None:
        """Have senders end once what they are at was accepted."""
        self.stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def delivered(self) -> int:
        """How many updates clients have seen."""
        return sum(len(frames.seen) for frames in self.frames.values())

    async def stop(self) -> None:
        """End senders and clients."""
        tasks = [*self._tasks, *self._clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _post_all(self, keys: list[str], pause: float) -> None:
        due = time.monotonic()
        timeout = aiohttp.ClientTimeout(10, sock_connect=3)
        async with aiohttp.ClientSession(self.stack.url, timeout=timeout) as session:
            for number in itertools.count():
                due = max(due + pause, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._room()
                if self.stopping:
                    return
                key, n = keys[number % len(keys)], number // len(keys)
                await self._post(session, _body(key, n))
                self.ledger.accept("door", key, n)

    async def _post(self, session: aiohttp.ClientSession, body: str) -> None:
        while True:
            try:
                async with session.post("/hooks/door", data=body.encode()) as response:
                    if response.status == 202:
                        return
                    self.counts["refused"] += 1
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.counts["cut off"] += 1
            await asyncio.sleep(0.1)

    async def _send_all(self, tool: str, lane: Lane, rate: float) -> None:
        """Batches of ten, a key once in each, one after the other: so their order is kept."""
        count = lane.keys(self.events)
        # a key may be in a batch once only
        size = min(10, count)
        url, sent = self.urls[f"{tool}-in{lane.source}"], 0
        due = time.monotonic()
        timeout = aiohttp.ClientTimeout(10, sock_connect=3)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            sqs = Sqs(session, self.server)
            while not self.stopping:
                due = max(due + size / rate, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._room()
                some = [
                    (f"{tool[0]}{number % count}", number // count)
                    for number in range(sent, sent + size)
                ]
                await sqs.until_done("SendMessageBatch", QueueUrl=url, Entries=_entries(some, url))
                for key, n in some:
                    self.ledger.accept(tool, key, n)
                sent += len(some)

    async def _watch(self, tool: str) -> None:
        frames = self.frames[tool]
        while True:
            try:
                async with (
                    self.stack.session() as session,
                    session.ws_connect(
                        f"/contexts/{tool}/updates?after={frames.last}", heartbeat=5
                    ) as socket,
                ):
                    async for message in socket:
                        frames.take(message.data)
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.counts["client cut off"] += 1
            await asyncio.sleep(0.2)


def _body(key: str, n: int) -> str:
    return json.dumps({"title": f"{key} n{n}", "key": key, "n": n})


def _entries(some: list[tuple[str, int]], url: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for at, (key, n) in enumerate(some):
        entry = {"Id": str(at), "MessageBody": _body(key, n)}
        if url.endswith(".fifo"):
            entry |= {"MessageGroupId": key, "MessageDeduplicationId": f"{key}-{n}"}
        entries.append(entry)
    return entries
