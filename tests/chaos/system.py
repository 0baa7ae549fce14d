"""A whole system of several receivers and workers, each behind a proxy of its own, on its state."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.chaos.postgres import Database
from tests.support.fragile import SITE, STAGE
from tests.support.proxy import Proxy
from tests.support.servers import Node
from tests.support.stack import free_port

__all__ = ["Part", "Process", "System"]

KEY = "chaos-admin-key"
PARTITIONS = 8
#: The system's user of Redis, whose rights can be taken; ours is the default one.
REDIS_USER, REDIS_PASSWORD = "hs", "chaos"
START_SECONDS = 60.0


@dataclass(slots=True)
class Ended:
    """A process that ended, or was found restarted, without anybody having asked for it."""

    at: float
    name: str
    what: str


class Process:
    """One process that this suite starts, watches, and starts again."""

    def __init__(self, system: "System", name: str, *arguments: str, **settings: str) -> None:
        self.system, self.name, self.arguments = system, name, arguments
        self.folder = system.folder / name
        self.folder.mkdir()
        self.log = system.logs / f"{name}.log"
        self.port = free_port()
        self.proxy = Proxy(system.redis.port, free_port())
        self.settings = settings
        self.popen: subprocess.Popen[bytes] | None = None
        #: Whether it should run now: False from the moment that we take it down.
        self.wanted = False

    def start(self) -> None:
        url = f"redis://{REDIS_USER}:{REDIS_PASSWORD}@127.0.0.1:{self.proxy.port}"
        own = {
            "HOOKSTREAM_REDIS_URL": url,
            "HOOKSTREAM_STATE_DIR": str(self.folder),
            "HOOKSTREAM_WEB_PORT": str(self.port),
        }
        arguments = [part.replace("PORT", str(self.port)) for part in self.arguments]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "hookstream.app.cli", "--quiet", *arguments],
            env={**self.system.environment(), **own, **self.settings},
            stdin=subprocess.DEVNULL,
            # a pipe: a process that may write no file any more can still say so
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.wanted = True
        threading.Thread(target=self._keep_log, args=(self.popen,), daemon=True).start()

    def _keep_log(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None
        with self.log.open("ab", buffering=0) as log:
            log.write(b"--- started as %d\n" % popen.pid)
            for line in popen.stdout:
                log.write(line)

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    @property
    def runs(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, how: signal.Signals, seconds: float = 45.0) -> bool:
        """End it and wait; False when it had to be killed since it did not stop in time."""
        self.wanted = False
        if self.popen is None:
            return True
        if self.popen.poll() is None:
            self.send(signal.SIGCONT)
            self.send(how)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10)
            return False
        return True


class Part:
    """What a fault of a process is done to: one that we run, or a child of a supervisor."""

    def __init__(self, process: Process, word: str = "") -> None:
        self.process, self.word = process, word
        self.name = f"{process.name}/{word}" if word else process.name
        self.kind = word or process.arguments[0]

    def pid(self) -> int | None:
        if not self.word:
            return self.process.pid if self.process.runs else None
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return None
        for child in children:
            with contextlib.suppress(psutil.Error):
                line = child.cmdline()
                if "hookstream.app.cli" in line and self.word in line and "--" not in line:
                    return int(child.pid)
        return None

    def send(self, number: signal.Signals) -> None:
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, how: signal.Signals) -> bool:
        """End it; a supervised one is started again at once."""
        if not self.word:
            return self.process.end(how)
        pid = self.pid()
        if pid is not None:
            self.process.system.asked += how != signal.SIGKILL
            self.send(how)
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).wait(45)
        return True

    def start(self) -> None:
        if not self.word and not self.process.runs:
            self.process.start()

    def limit_files(self, size: int) -> bool:
        """Let no file of it grow past ``size`` bytes (-1: any); False where that is not to be."""
        pid = self.pid()
        try:
            psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (size, -1))
        except psutil.Error:
            return False
        return True

    @property
    def state(self) -> Path:
        return self.process.folder


@dataclass
class System:
    """``supervised``: one `hookstream up` and a worker beside it; else receivers and workers."""

    folder: Path
    logs: Path
    supervised: bool
    receivers: int = 2
    workers: int = 2
    settings: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    #: How often a fault has asked a supervised process to stop.
    asked: int = 0

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        self.stages = self.folder / "stages"
        self.stages.mkdir(parents=True)
        self.site = self.folder / "site"
        self.site.mkdir()
        (self.stages / "fragile.py").write_text(STAGE.format(folder=str(self.stages)))
        (self.site / "sitecustomize.py").write_text(SITE.format(folder=str(self.stages)))
        self.redis = Node(self.folder / "redis", "--busy-reply-threshold", "300")
        self.redis.port = free_port()
        # a snapshot cannot be renamed to a folder: it fails when it is asked for, and not before
        (self.folder / "redis" / "no.rdb").mkdir()
        with self.redis.config.open("a") as config:
            config.write(f"user {REDIS_USER} on >{REDIS_PASSWORD} ~* &* +@all\n")
            config.write("dbfilename no.rdb\n")

    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if "HOOKSTREAM_" not in name}
        return {
            **ours,
            "PYTHONPATH": f"{self.site}:{Path.cwd()}",
            "HOOKSTREAM_POSTGRES_URL": self.postgres.url,
            "HOOKSTREAM_ADMIN_KEY": KEY,
            "HOOKSTREAM_ARCHIVE_URL": f"file://{self.folder}/archive",
            "HOOKSTREAM_PARTITIONS": str(PARTITIONS),
            "HOOKSTREAM_RETRY_BASE_SECONDS": "0.2",
            "HOOKSTREAM_RETRY_MAX_SECONDS": "1",
            "HOOKSTREAM_RETRY_MAX_ATTEMPTS": "1000",
            "HOOKSTREAM_BREAKER_FAILURES": "6",
            "HOOKSTREAM_BREAKER_WAIT_SECONDS": "1",
            "HOOKSTREAM_CLAIM_CHECK_BYTES": "16384",
            **self.settings,
        }

    async def start(self) -> None:
        """Servers, then processes; returns when all are ready."""
        await asyncio.to_thread(self.redis.start)
        self.postgres = await asyncio.to_thread(Database, self.folder / "pg")
        await self.postgres.prepare()
        if self.supervised:
            one = {f"HOOKSTREAM_{kind}_PROCESSES": "1" for kind in ("RECEIVER", "WORKER")}
            up = Process(self, "up", "up", HOOKSTREAM_WORKER_WEB_PORT=str(free_port()), **one)
            self._add(up, "receive", "worker", "")
        else:
            for number in range(self.receivers):
                self._add(Process(self, f"receiver-{number}", "receive", "--with-api"))
        for number in range(self.workers - self.supervised):
            self._add(Process(self, f"worker-{number}", "worker", "--web-port", "PORT"))
        for process in self.processes.values():
            await process.proxy.start()
            process.start()
        for process in self.processes.values():
            await self.ready(process)

    def _add(self, process: Process, *words: str) -> None:
        self.processes[process.name] = process
        for part in [Part(process, word) for word in words] or [Part(process)]:
            self.parts[part.name] = part

    @property
    def doors(self) -> list[Process]:
        """The processes that take webhooks."""
        return [each for each in self.processes.values() if each.arguments[0] != "worker"]

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.begun

    async def ready(self, process: Process, seconds: float = START_SECONDS) -> None:
        """Wait until a process says that it is ready."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self.session(process, 2) as session, session.get("/health/ready") as got:
                    if got.status == 200:
                        return
            if time.monotonic() > deadline or not process.runs:
                raise AssertionError(
                    f"{process.name} is not ready: {process.log.read_text()[-4000:]}"
                )
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def session(
        self, process: Process, seconds: float | None = 15.0, key: str = KEY
    ) -> AsyncIterator[aiohttp.ClientSession]:
        """An HTTP session with a key; with the admin key unless one is given."""
        timeout = aiohttp.ClientTimeout(seconds, sock_connect=3)
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{process.port}", headers=headers, timeout=timeout
        ) as session:
            yield session

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        seconds: float = 60.0,
        *,
        key: str = KEY,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask the API of any process until one answers with success."""
        deadline = time.monotonic() + seconds
        said: object = ""
        while time.monotonic() < deadline:
            for process in self.doors:
                try:
                    async with (
                        self.session(process, key=key) as session,
                        session.request(
                            method, f"/api/v1{path}", json=body, headers=headers
                        ) as response,
                    ):
                        if response.status < 300:
                            return await response.json()
                        said = f"{response.status} {(await response.text())[:300]}"
                        if response.status == 404:
                            raise LookupError(f"{method} {path}: {said}")
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    said = repr(error)
            await asyncio.sleep(0.2)
        raise AssertionError(f"{method} {path} not within {seconds:g} s: {said}")

    def watch(self) -> None:
        """Note what has ended by itself, and start it again: the run goes on."""
        for process in self.processes.values():
            if process.wanted and not process.runs:
                assert process.popen is not None
                status = process.popen.returncode
                self.ended.append(Ended(self.seconds(), process.name, f"status {status}"))
                process.start()

    def restarts(self) -> list[Ended]:
        """Supervised processes that ended otherwise than by our signals, by what `up` says."""
        found, clean = [], []
        for process in self.processes.values():
            if process.arguments[0] != "up" or not process.log.exists():
                continue
            for line in process.log.read_text(errors="replace").splitlines():
                if "; starting it again in" in line and "ended with SIGKILL" not in line:
                    ended = Ended(0.0, process.name, line.strip()[:200])
                    (clean if "ended with status 0" in line else found).append(ended)
        return found + clean[self.asked :]

    async def stop(self) -> list[str]:
        """Stop all; returns the names of those that had to be killed."""
        killed = []
        for process in self.processes.values():
            process.proxy.heal()
            if process.popen is not None and not await asyncio.to_thread(
                process.end, signal.SIGTERM
            ):
                killed.append(process.name)
        for process in self.processes.values():
            await process.proxy.stop()
        with contextlib.suppress(OSError):
            self.redis.signal(signal.SIGCONT)
        self.redis.kill()
        await asyncio.to_thread(self.postgres.stop)
        return killed
