"""The whole system as a child process, and a client for it."""

import asyncio
import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from hookstream.app import embedded
from hookstream.app.postgres.migrations.run import upgrade
from hookstream.app.web.measured import MEASURED_AT
from tests.support import CLUSTER, ROOT

__all__ = ["Stack", "copy_cluster", "eventually", "free_port", "fresh", "own_stages"]

START_SECONDS = 180.0
#: A slow machine with other tests beside takes three times as long to get anywhere.
PATIENCE = 3
#: What tests may have: given in turn, so that none comes again soon.
PORTS = range(10_000, 32_768)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no other process of tests is given.

    It lies below those that systems give to connections: one of them would have it, some day,
    before the server that it is meant for has started.
    """
    # not below $TMPDIR, which is another one for some that are started here
    path = Path(f"/tmp/hookstream-ports-{os.getuid()}")
    with path.open("a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        given = int(counter.read() or 0)
        while True:
            given += 1
            port = PORTS[given % len(PORTS)]
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                counter.truncate(0)
                counter.write(str(given))
                return port


async def eventually(check: Callable[[], Any], what: str, timeout_seconds: float = 60.0) -> Any:
    """Wait until ``check`` (a coroutine function) gives something true, and return it.

    ``timeout_seconds``: what it may take where the machine does little else; :data:`PATIENCE`.
    """
    timeout_seconds *= PATIENCE
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = await check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds:g} s: {what} (last: {found!r})")
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def fresh(session: aiohttp.ClientSession, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """GET `/health` or `/metrics`, which are made once a second: one that was made after now."""
    begun = time.time()
    while True:
        async with session.get(url) as response:
            # to the millisecond
            if float(response.headers.get(MEASURED_AT, "inf")) > begun - 0.001:
                yield response
                return
        await asyncio.sleep(0.05)


def own_stages(
    folder: Path, name: str, source: str, *modules: str, paths: Sequence[Path] = ()
) -> dict[str, str]:
    """Write the module ``name`` into ``folder``; the settings by which its stages are found.

    So are those of other ``modules``, in this checkout or below ``paths``.
    """
    (folder / f"{name}.py").write_text(source)
    return {
        "PYTHONPATH": ":".join(map(str, (folder, ROOT, *paths))),
        "HOOKSTREAM_AGENTS": ",".join((name, *modules)),
    }


@cache
def _cluster(name: str) -> Path:
    """An embedded PostgreSQL as its first start makes it, made once a run of tests or a process.

    One with a ``schema`` has had this release's migrations, too: they cost half a second each.
    """
    shared = os.environ.get(CLUSTER)
    if shared is None:
        folder = Path(tempfile.mkdtemp(prefix="hookstream-cluster-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    else:
        folder = Path(shared, name)
        folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            server = embedded.start_postgres(folder)
            try:
                if name == "schema":
                    # whoever asks may be within a running loop
                    with ThreadPoolExecutor(1) as thread:
                        thread.submit(lambda: asyncio.run(upgrade(server.url))).result()
            finally:
                server.stop()
            (folder / "made").touch()
    return folder / "postgres" / "data"


def copy_cluster(state_dir: Path, *, schema: bool = False) -> None:
    """Give a state folder that has no PostgreSQL yet a new one: initdb costs a second each.

    ``schema``: its database is on this release's level already.
    """
    target = state_dir / "postgres" / "data"
    if not target.exists():
        target.parent.mkdir(parents=True)
        # its owner may be another user: servers refuse to run as root
        made = _cluster("schema" if schema else "empty")
        subprocess.run(["cp", "-a", str(made), str(target)], check=True)


class Stack:
    """`hookstream up` on free ports and a state folder."""

    STREAMS = ("events", "updates", "deferred:high", "deferred:normal", "deferred:low", "audit")

    def __init__(self, state_dir: Path, **settings: str) -> None:
        self.state_dir = state_dir
        self.port = free_port()
        self.worker_port = free_port()
        self.key = "test-admin-key"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.log = state_dir / "up.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_port(self) -> int:
        """Where the API is: on the same port unless operators have one of their own."""
        return int(self.settings.get("HOOKSTREAM_ADMIN_PORT", self.port))

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def environment(self) -> dict[str, str]:
        mine = {
            "HOOKSTREAM_STATE_DIR": str(self.state_dir / "state"),
            "HOOKSTREAM_WEB_PORT": str(self.port),
            "HOOKSTREAM_WORKER_WEB_PORT": str(self.worker_port),
            "HOOKSTREAM_ADMIN_KEY": self.key,
            "HOOKSTREAM_PARTITIONS": "8",
            # on a machine with more cores, too
            "HOOKSTREAM_RECEIVER_PROCESSES": "1",
            "HOOKSTREAM_WORKER_PROCESSES": "1",
        }
        return {**os.environ, **mine, **self.settings}

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hookstream.app.cli", *arguments]

    def start(self) -> None:
        """Start, and wait until receiver and worker are ready."""
        if "HOOKSTREAM_POSTGRES_URL" not in self.settings:
            copy_cluster(self.state_dir / "state", schema=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("up"),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_ready()

    def another(self, folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """One more process on the same Redis and PostgreSQL, with a state folder of its own."""
        folder.mkdir(exist_ok=True)
        environment = {**self.environment(), "HOOKSTREAM_STATE_DIR": str(folder)}
        for name, server in (("REDIS", "valkey"), ("POSTGRES", "postgres")):
            if f"HOOKSTREAM_{name}_URL" not in environment:
                url = getattr(embedded, f"find_{server}")(self.state_dir / "state")
                environment[f"HOOKSTREAM_{name}_URL"] = str(url)
                # what its receivers have sealed
                own = f"file://{self.state_dir / 'state' / 'sealing.key'}"
                environment.setdefault("HOOKSTREAM_KEY_URL", own)
        with (folder / "process.log").open("ab") as log:
            return subprocess.Popen(
                self.command("--quiet", *arguments),
                env={**environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait for both HTTP servers to say that they are ready."""
        deadline = time.monotonic() + START_SECONDS
        for port in (self.api_port, self.worker_port):
            while not _is_ready(port):
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"not up:\n{self.log.read_text()[-6000:]}")
                time.sleep(0.05)

    def wait_receiver(self) -> None:
        """Wait for the receiver alone to say that it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(self.api_port):
            if time.monotonic() > deadline:
                raise AssertionError(f"no receiver:\n{self.log.read_text()[-6000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop as Ctrl-C does, and wait for the end."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)
        self.process = None

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this state folder."""
        found = []
        mark = str(self.state_dir / "state")
        for process in psutil.process_iter():
            try:
                if any(mark in part for part in process.cmdline()) or (
                    process.environ().get("HOOKSTREAM_STATE_DIR") == mark
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def find(self, word: str) -> psutil.Process:
        """The process of the application that runs the command ``word``."""
        for process in self.processes():
            line = process.cmdline()
            if "hookstream.app.cli" in line and word in line and "guard" not in " ".join(line):
                return process
        raise AssertionError(f"no process runs {word}")

    @contextlib.asynccontextmanager
    async def session(self, key: str = "") -> AsyncIterator[aiohttp.ClientSession]:
        """An HTTP session with a key; with the admin key unless one is given."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        async with aiohttp.ClientSession(self.api_url, headers=headers) as session:
            yield session

    async def put(self, path: str, body: dict[str, Any], *, key: str = "") -> dict[str, Any]:
        """PUT, and expect success."""
        async with (
            self.session(key) as session,
            session.put(f"/api/v1{path}", json=body) as response,
        ):
            text = await response.text()
            assert response.status in (200, 201), text
            return dict(json.loads(text))

    async def get(
        self, path: str, expect: int = 200, *, key: str = "", **query: str
    ) -> dict[str, Any]:
        """GET, and expect a status."""
        async with (
            self.session(key) as session,
            session.get(f"/api/v1{path}", params=query) as response,
        ):
            text = await response.text()
            assert response.status == expect, text
            return dict(json.loads(text))

    async def health(self) -> dict[str, Any]:
        """What /health says."""
        async with self.session() as session, fresh(session, "/health") as response:
            return dict(await response.json())

    async def opened(self) -> None:
        """Wait until the worker has opened every partition."""

        async def all_of_them() -> bool:
            url = f"http://127.0.0.1:{self.worker_port}/health"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                part = (await response.json())["parts"].get("partitions", {})
            return bool(part and part["owned"] == part["of"])

        await eventually(all_of_them, "every partition is opened")

    async def hook(self, tool: str, body: bytes, headers: dict[str, str] | None = None) -> str:
        """Post a webhook without the admin key; returns the event's id."""
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.post(f"/hooks/{tool}", data=body, headers=headers or {}) as response,
        ):
            text = await response.text()
            # Linear wants 200
            assert response.status in (200, 202), text
            return str(json.loads(text)["event_id"])

    async def context(
        self, name: str, tool: dict[str, Any], *, key: str = "", **subscription: Any
    ) -> None:
        """A tool, a context and a subscription of one name."""
        await self.put(f"/tools/{name}", tool, key=key)
        await self.put(f"/contexts/{name}", {"name": name}, key=key)
        wanted = {"tool": name, "types": ["*"], **subscription}
        await self.put(f"/contexts/{name}/subscriptions/all", wanted, key=key)

    async def updates(self, context: str, count: int, after: int = 0) -> list[dict[str, Any]]:
        """The next ``count`` updates over a real WebSocket."""
        found: list[dict[str, Any]] = []
        async with (
            self.session() as session,
            session.ws_connect(f"/contexts/{context}/updates?after={after}") as websocket,
        ):
            async with asyncio.timeout(120):
                while len(found) < count:
                    found.append(await websocket.receive_json())
        return found


def _is_ready(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
