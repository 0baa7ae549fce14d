"""Hookstream for the benchmarks: servers of its own, receiver and worker when they are wanted."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import psutil
import redis.asyncio
from redis.exceptions import ResponseError

from bench.payloads import Entries
from hookstream.app import embedded
from hookstream.app.embedded.supervisor import answers
from hookstream.app.redis import keys
from hookstream.codecs.dictionaries import Dictionary
from tests.support.stack import Stack, copy_cluster, free_port

__all__ = ["SECRET", "TOOL", "Server", "System", "cpu_seconds", "settled", "system"]

SECRET = "bench-secret"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
#: Longest that anything is waited for that should come by itself.
PATIENCE_SECONDS = 120.0
#: Streams that are empty of work once an event has gone all the way.
STREAMS = ("events", "updates", "deferred:high", "deferred:normal", "deferred:low", "audit")
#: What an endpoint of a tool is made with: each delivery is an event.
TOOL = {
    "provider": "github",
    "secrets": [SECRET],
    "dedup": {"strategy": "delivery", "window": "24h"},
}


#: One tool is sent all there is: what is measured is the system, not its limits.
SETTINGS = {"HOOKSTREAM_PARTITIONS": "32", "HOOKSTREAM_TOOL_WEBHOOKS_PER_SECOND": "0"}


class Server(Protocol):
    """What runs as a server of its own, or as several."""

    url: str

    def stop(self) -> None:
        """End it."""


class System(Stack):
    """Valkey on a TCP port and PostgreSQL, of this process; the rest is started by name."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, **{**SETTINGS, **settings})
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._services: list[Server] = []

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return int(self.settings["HOOKSTREAM_PARTITIONS"])

    @property
    def redis_url(self) -> str:
        """Where Redis is."""
        return self.settings["HOOKSTREAM_REDIS_URL"]

    def start(self) -> None:
        """Start the servers; when one does not start, the other is stopped again."""
        state = self.state_dir / "state"
        state.mkdir(parents=True)
        copy_cluster(state, schema=True)
        try:
            for name, start in (
                ("REDIS", lambda: self.start_redis(state)),
                ("POSTGRES", lambda: embedded.start_postgres(state)),
            ):
                service = start()
                self._services.append(service)
                self.settings[f"HOOKSTREAM_{name}_URL"] = service.url
        except BaseException:
            self.stop()
            raise

    def start_redis(self, state: Path) -> Server:
        """Start what is Redis here."""
        return embedded.start_valkey(state, port=free_port())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop everything that was started here."""
        for name in list(self.children):
            self.end(name, how)
        for service in reversed(self._services):
            service.stop()
        self._services.clear()

    def launch(self, name: str, processes: int = 1) -> psutil.Process:
        """Start ``receiver`` or ``worker``, and wait until it is ready.

        More workers beside the first have names like ``worker-2``. Several receivers, which share
        a port, are one command's ``processes``: what is given back is then the one above them.
        """
        kind, _, another = name.partition("-")
        worker_port = free_port() if another else self.worker_port
        arguments, port = {
            "receiver": (["receive", "--with-api", "--processes", str(processes)], self.port),
            "worker": (["worker", "--web-port", str(worker_port)], worker_port),
        }[kind]
        environment = self.environment()
        if another:
            # each worker has tables of its own
            environment["HOOKSTREAM_STATE_DIR"] = str(self.state_dir / name)
        with self.log.open("ab") as log:
            child = self.children[name] = subprocess.Popen(
                self.command("--quiet", *arguments),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        # of several on one port one would answer for the others
        while not (
            _listening(child.pid, port) == processes
            and answers(f"http://127.0.0.1:{port}/health/ready")
        ):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the {name} did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        return psutil.Process(child.pid)

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop a process that was launched."""
        child = self.children.pop(name)
        child.send_signal(how)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def server(self, name: str) -> psutil.Process:
        """The process of ``valkey`` itself (its guard is its parent)."""
        for process in _children(name):
            return process
        raise RuntimeError(f"no process of {name}")

    def cpu_by_part(self) -> dict[str, float]:
        """CPU seconds that receiver, worker, Redis and PostgreSQL have used until now.

        With what children of theirs have used that live: what a worker packs, one of its does.
        """
        found = {}
        for name, child in self.children.items():
            process = psutil.Process(child.pid)
            found[name] = sum(map(cpu_seconds, [process, *process.children(recursive=True)]))
        found["Redis"] = self.redis_cpu_seconds()
        found["PostgreSQL"] = sum(map(cpu_seconds, _children("postgres")))
        return found

    def redis_cpu_seconds(self) -> float:
        """CPU seconds that Redis has used until now, all of its servers together."""
        return cpu_seconds(self.server("valkey"))

    def client(self) -> Any:
        """A client of its Redis."""
        return redis.asyncio.Redis.from_url(self.redis_url, protocol=2)

    async def tools(self, count: int, *, contexts: int = 1, **tool: Any) -> list[str]:
        """Make tools ``tool-0`` …, each watched by so many contexts of its own."""
        names = [f"tool-{number}" for number in range(count)]
        for name in names:
            await self.put(f"/tools/{name}", {**TOOL, **tool})
            for n in range(contexts):
                context = f"{name}-{n}"
                await self.put(f"/contexts/{context}", {})
                await self.put(
                    f"/contexts/{context}/subscriptions/all", {"tool": name, "types": ["*"]}
                )
        return names

    async def last_seqs(self, contexts: Iterable[str]) -> dict[str, int]:
        """The last sequence number of each context: where a client begins."""
        return {name: (await self.get(f"/contexts/{name}"))["last_seq"] for name in contexts}

    async def train(self, tools: Sequence[str], events: int = 200) -> dict[str, Dictionary]:
        """Let a worker train each tool's compression dictionary, as it does after a while of use.

        Returns the dictionaries. The worker is ended again.
        """
        self.launch("worker")
        async with self.client() as client:
            made = Entries(self.partitions, first=10_000_000)
            await self.append(client, made.make(tools, events * len(tools)))
            await self.until(lambda: client.hlen(keys.DICTIONARIES), len(tools), "dictionaries")
            await self.until_settled(client)
            named = await client.hgetall(keys.DICTIONARIES)
            found = {
                tool.decode(): Dictionary.of(await client.get(keys.dictionary(int(number))))
                for tool, number in named.items()
            }
        self.end("worker")
        return found

    async def append(self, client: Any, entries: Sequence[tuple[int, bytes]]) -> None:
        """Put events into their streams, as receivers do."""
        for at in range(0, len(entries), 500):
            pipe = client.pipeline(transaction=False)
            for partition, data in entries[at : at + 500]:
                pipe.xadd(keys.events(partition), {"d": data})
            await pipe.execute()

    async def delivered(self, client: Any) -> int:
        """Updates in all feeds."""
        pipe = client.pipeline(transaction=False)
        for partition in range(self.partitions):
            pipe.hvals(keys.seqs(partition))
        return sum(int(seq) for seqs in await pipe.execute() for seq in seqs)

    async def until(self, look: Any, wanted: int, what: str) -> int:
        """Wait until ``look`` gives at least ``wanted``; returns what it gave."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := int(await look())) < wanted:
            if time.monotonic() > deadline:
                log = self.log.read_text()[-3000:]
                raise RuntimeError(f"{found} of {wanted} {what} in time:\n{log}")
            await asyncio.sleep(0.01)
        return found

    async def until_settled(self, client: Any) -> None:
        """Wait until nothing is on its way any more."""

        async def look() -> int:
            return int(await settled(client, self.partitions))

        await self.until(look, 1, "streams at rest")


async def settled(client: Any, partitions: int) -> bool:
    """Whether every entry of every stream has been read and acknowledged."""
    names = [keys.stream(name, p) for name in STREAMS for p in range(partitions)]
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.xinfo_stream(name)
        pipe.xinfo_groups(name)
    replies = await pipe.execute(raise_on_error=False)
    for stream, groups in zip(replies[::2], replies[1::2], strict=True):
        if isinstance(stream, ResponseError):
            continue  # nothing was ever in it
        if not groups or any(
            group["pending"] or group["last-delivered-id"] != stream["last-generated-id"]
            for group in groups
        ):
            return stream["last-generated-id"] == b"0-0"
    return True


def _listening(pid: int, port: int) -> int:
    """How many of a process and those below it listen on a port."""
    count = 0
    with suppress(psutil.NoSuchProcess):
        whole = psutil.Process(pid)
        for process in (whole, *whole.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                connections = process.net_connections("tcp")
                count += any(
                    c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections
                )
    return count


def _children(name: str) -> Iterator[psutil.Process]:
    """Processes below this one whose program is called ``name``, or so that it is a part of it."""
    for process in psutil.Process().children(recursive=True):
        # servers have processes that come and go
        with suppress(psutil.NoSuchProcess):
            if name in process.name():
                yield process


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has used, in user code and in the kernel; 0 of one that has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


@contextmanager
def system(kind: type[System] | None = None, **settings: str) -> Iterator[System]:
    """A :class:`System` in a folder that goes when it ends."""
    with (
        TemporaryDirectory(prefix="hookstream-bench-") as folder,
        (kind or System)(Path(folder), **settings) as running,
    ):
        yield running
