"""The load: prebuilt requests over raw connections, and clients, each in a process of its own.

One request at a time on a connection, nothing pipelined. Times are ``time.monotonic()``, which is
the same clock in every process of a machine.
"""

import asyncio
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvloop

from bench.payloads import requests

__all__ = [
    "Posted",
    "Target",
    "Watched",
    "beside",
    "kept",
    "post_at_rate",
    "post_on",
    "wake",
    "watch",
]

#: Different requests that are built; with a delivery id of its own each is one more event.
PREBUILT = 1000
ANSWER_SECONDS = 15.0
#: How long clients wait for what should not come: something twice.
LINGER_SECONDS = 0.3
#: After a client's connection was closed.
RESUME_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and how many connections take them there."""

    port: int
    tools: Sequence[str]
    secret: str = ""
    connections: int = 32
    size: int = 0


@dataclass(slots=True)
class Posted:
    """What came of the requests. ``due``: event id → when its request was due.

    ``due``, ``spans`` (when a request was sent, when it was answered) and ``answer_seconds`` are of
    those events only that are :func:`kept`.
    """

    count: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    due: dict[str, float] = field(default_factory=dict)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    answer_seconds: list[float] = field(default_factory=list)
    latest_seconds: float = 0.0


@dataclass(slots=True)
class Watched:
    """What clients saw: event id → when its frame came; how often one came again; gaps.

    ``came``, and ``order`` by context, have those events only that are :func:`kept`; ``frames`` and
    ``gaps`` count all. A client that is closed comes again from its last number on (``resumed``).
    """

    came: dict[str, float] = field(default_factory=dict)
    order: dict[str, list[str]] = field(default_factory=dict)
    resumed: int = 0
    frames: int = 0
    again: int = 0
    gaps: int = 0
    cpu_seconds: float = 0.0


def kept(event_id: str, every: int) -> bool:
    """Whether this is one of the events, one in ``every``, that both sides remember."""
    return every == 1 or int(event_id[-6:], 16) % every == 0


class Connection(asyncio.Protocol):
    """One connection: bytes out, a status and a body back."""

    def __init__(self, answered: Callable[["Connection", int, bytes], None]) -> None:
        self._answered = answered
        self._data = b""
        self.transport: Any = None
        #: Whatever the sender wants to remember of the request under way.
        self.note: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.note is not None:
            self._answered(self, 0, b"")

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length:
            self._data = b""
            self._answered(self, int(head[9:12]), body)


async def _connect(target: Target, answered: Any) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [
        (
            await loop.create_connection(
                lambda: Connection(answered), host="127.0.0.1", port=target.port
            )
        )[1]
        for _ in range(target.connections)
    ]


def _deliveries() -> Iterator[bytes]:
    own = os.urandom(8).hex()
    number = 0
    while True:
        yield f"{own}-{number}".encode()
        number += 1


def post_on(target: Target, seconds: float, at_most: int = 1_000_000) -> Posted:
    """Closed loop: each connection sends its next request when the last one is answered."""
    return uvloop.run(_post_on(target, seconds, at_most))


async def _post_on(target: Target, seconds: float, at_most: int) -> Posted:
    made = requests(target.tools, min(PREBUILT, at_most), target.secret, size=target.size)
    deliveries = _deliveries()
    posted = Posted()
    sent, open_ = 0, target.connections
    ended = asyncio.Event()

    def send(connection: Connection) -> None:
        nonlocal sent, open_
        if sent >= at_most or time.monotonic() >= deadline:
            connection.note = None
            open_ -= 1
            if not open_:
                ended.set()
            return
        before, after = made[sent % len(made)]
        sent += 1
        connection.note = True
        connection.transport.write(before + next(deliveries) + after)

    def answered(connection: Connection, status: int, _: bytes) -> None:
        nonlocal open_
        posted.count += 1
        posted.statuses[status] += 1
        if status:
            send(connection)
            return
        connection.note = None
        open_ -= 1
        if not open_:
            ended.set()

    connections = await _connect(target, answered)
    cpu, begun = time.process_time(), time.monotonic()
    deadline = begun + seconds
    for connection in connections:
        send(connection)
    async with asyncio.timeout(seconds + ANSWER_SECONDS):
        await ended.wait()
    posted.seconds = time.monotonic() - begun
    posted.cpu_seconds = time.process_time() - cpu
    for connection in connections:
        connection.transport.close()
    return posted


def post_at_rate(target: Target, rate: float, count: int, begin: float, every: int = 1) -> Posted:
    """Open loop: request ``i`` is due at ``begin + i / rate``, whatever became of those before.

    When all connections are busy it waits for one, and that wait is part of what it took: nothing
    is left out because the system was slow. One event in ``every`` is remembered.
    """
    return uvloop.run(_post_at_rate(target, rate, count, begin, every))


async def _post_at_rate(
    target: Target, rate: float, count: int, begin: float, every: int
) -> Posted:
    made = requests(target.tools, min(PREBUILT, count), target.secret, size=target.size)
    deliveries = _deliveries()
    posted = Posted()
    waiting: deque[float] = deque()
    ended = asyncio.Event()

    def send(connection: Connection, due: float) -> None:
        nonlocal number
        before, after = made[number % len(made)]
        number += 1
        sent = time.monotonic()
        connection.note = due, sent
        posted.latest_seconds = max(posted.latest_seconds, sent - due)
        connection.transport.write(before + next(deliveries) + after)

    def answered(connection: Connection, status: int, body: bytes) -> None:
        (due, sent), connection.note = connection.note, None
        posted.statuses[status] += 1
        if status == 202:
            at = body.find(b'"event_id":"') + 12
            event_id = body[at : at + 36].decode()
            if kept(event_id, every):
                now = time.monotonic()
                posted.due[event_id] = due
                posted.spans[event_id] = sent, now
                posted.answer_seconds.append(now - due)
        posted.count += 1
        if posted.count == count:
            ended.set()
        if not status:
            return
        if waiting:
            send(connection, waiting.popleft())
        else:
            free.append(connection)

    number = 0
    everyone = await _connect(target, answered)
    # in turns: a server closes connections that send nothing
    free = deque(everyone)
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    cpu = time.process_time()
    for i in range(count):
        due = begin + i / rate
        if (pause := due - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        elif i % 16 == 0:
            await asyncio.sleep(0)
        if free:
            send(free.popleft(), due)
        else:
            waiting.append(due)
    # what has no answer by then counts as refused
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await ended.wait()
    posted.seconds = time.monotonic() - begin
    posted.cpu_seconds = time.process_time() - cpu
    for connection in everyone:
        connection.note = None
        connection.transport.close()
    return posted


def watch(
    url: str, key: str, contexts: dict[str, int], expected: int, until: float, every: int = 1
) -> Watched:
    """Clients of contexts, each from a sequence number on, until ``expected`` frames or a time.

    One event in ``every`` is remembered.
    """
    return uvloop.run(_watch(url, key, contexts, expected, until, every))


async def _watch(
    url: str, key: str, contexts: dict[str, int], expected: int, until: float, every: int
) -> Watched:
    watched = Watched()
    seqs = dict(contexts)
    ended = asyncio.Event()
    cpu = time.process_time()

    async def follow(session: aiohttp.ClientSession, context: str) -> None:
        while True:
            with suppress(aiohttp.ClientError):
                await read(session, context)
            watched.resumed += 1
            await asyncio.sleep(RESUME_SECONDS)

    async def read(session: aiohttp.ClientSession, context: str) -> None:
        order = watched.order.setdefault(context, [])
        path = f"/contexts/{context}/updates?after={seqs[context]}"
        async with session.ws_connect(path, max_msg_size=0) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                now = time.monotonic()
                # found, not parsed: parsing each would cost the cores that are measured
                at = message.data.find('"event_id":"') + 12
                event_id = message.data[at : at + 36]
                at = message.data.find('"seq":') + 6
                came = int(message.data[at : at + 20].partition(",")[0])
                watched.gaps += came != seqs[context] + 1
                seqs[context] = came
                if kept(event_id, every):
                    order.append(event_id)
                    watched.again += watched.came.setdefault(event_id, now) is not now
                watched.frames += 1
                if watched.frames >= expected:
                    ended.set()

    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, headers=headers) as session:
        tasks = [asyncio.create_task(follow(session, context)) for context in contexts]
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await ended.wait()
                await asyncio.sleep(LINGER_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    watched.cpu_seconds = time.process_time() - cpu
    return watched


def wake(seconds: float) -> None:
    """Be there: what a process imports first takes seconds where others use the machine."""
    time.sleep(seconds)


@contextmanager
def beside(processes: int = 1) -> Iterator[Callable[..., "Future[Any]"]]:
    """Processes of their own for loads and clients: gives ``start(function, *arguments)``."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        yield pool.submit
