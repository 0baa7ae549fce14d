"""A proxy before a Redis server that understands its protocol: it loses, tears and delays replies.

What is lost is the reply alone: the server has carried the command out. It runs in the event loop
of the test; several may stand before one server, one for each process under test.
"""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

from hookstream.app.redis.client import engine_line
from hookstream.app.redis.sources import script_sources

__all__ = ["Command", "Proxy", "Rule"]

READ_BYTES = 1 << 18
#: Commands whose connection gets messages that nobody asked for: their replies are not counted.
PUBSUB = {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"MONITOR"}

What = Literal["close", "silent", "tear", "delay"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it went to the server. ``script``: which of our Lua files it runs, else ""."""

    name: str
    script: str
    raw: bytes


@dataclass(slots=True)
class Rule:
    """What becomes of the replies of commands that fit.

    ``close``: the reply is dropped and the connection closed; ``silent``: it is dropped, and
    nothing comes on that connection any more; ``tear``: half of it, then the connection is closed;
    ``delay``: it comes ``seconds`` later, and so does what is behind it. ``times``: how often,
    -1 for always; ``skip``: of those that fit, how many are passed over before each.
    """

    what: What
    fits: Callable[[Command], bool]
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    hits: int = 0
    #: Is set with the first hit.
    hit: asyncio.Event = field(default_factory=asyncio.Event)
    _passed: int = 0

    def takes(self, command: Command) -> bool:
        """Whether this reply is one to meddle with; counts."""
        if not self.times or not self.fits(command):
            return False
        if self._passed < self.skip:
            self._passed += 1
            return False
        self._passed = 0
        self.times -= 1
        self.hits += 1
        self.hit.set()
        return True


class Proxy:
    """Listens on a port of its own, and passes on to ``target``, a port of 127.0.0.1."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self.rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Listen; on the same port again after :meth:`refuse`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close all, and wait for the end of it."""
        await self.refuse()
        self.heal()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def on_reply(
        self,
        what: What,
        *names: str,
        containing: bytes = b"",
        times: int = 1,
        skip: int = 0,
        seconds: float = 0.0,
    ) -> Rule:
        """Add a rule for commands, or for our scripts, of these names (any where none is given)."""
        wanted = {name.upper() for name in names}

        def fits(command: Command) -> bool:
            named = not wanted or not wanted.isdisjoint((command.name, command.script.upper()))
            return named and containing in command.raw

        rule = Rule(what, fits, times, skip, seconds)
        self.rules.append(rule)
        return rule

    def hang(self) -> None:
        """Nothing passes any more, either way; connections stay open, as in a partition."""
        self._flows.clear()

    def heal(self) -> None:
        """No rules any more; what hung goes on."""
        self.rules.clear()
        self._flows.set()

    def cut(self) -> None:
        """Close every connection there is; new ones are taken."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def refuse(self) -> None:
        """Take no connections any more, and close what there is; :meth:`start` ends it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._writers.add(writer)
        inner: asyncio.StreamWriter | None = None
        try:
            await self._flows.wait()
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(inner)
            await self._pass(reader, writer, inner_reader, inner)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, inner):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()
            self._handlers.discard(task)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        inner_reader: asyncio.StreamReader,
        inner: asyncio.StreamWriter,
    ) -> None:
        connection = _Connection(self)
        ways = [
            asyncio.create_task(connection.commands(reader, inner)),
            asyncio.create_task(connection.replies(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def flowing(self) -> None:
        """Wait for the end of :meth:`hang`."""
        await self._flows.wait()


class _Connection:
    """One client's connection: which rule, if any, each reply that is still to come falls under."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.asked: deque[Rule | None] = deque()
        self.raw = False

    async def commands(self, reader: asyncio.StreamReader, inner: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while data := await reader.read(READ_BYTES):
            await self.proxy.flowing()
            if self.raw:
                inner.write(data)
            else:
                buffer += data
                whole = self._note(bytes(buffer))
                inner.write(bytes(buffer[:whole]))
                del buffer[:whole]
            await inner.drain()

    def _note(self, data: bytes) -> int:
        """Note the commands in ``data``; returns where the last whole one ends."""
        at = 0
        while at < len(data):
            end, name, second = command_end(data, at)
            if end < 0:
                break
            if name in PUBSUB:
                self.raw = True
                return len(data)
            rule = None
            if self.proxy.rules:
                command = Command(name.decode(), _scripts().get(second, ""), data[at:end])
                rule = next((rule for rule in self.proxy.rules if rule.takes(command)), None)
            self.asked.append(rule)
            at = end
        return at

    async def replies(self, inner: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while data := await inner.read(READ_BYTES):
            await self.proxy.flowing()
            if self.raw:
                writer.write(bytes(buffer) + data)
                buffer.clear()
                await writer.drain()
                continue
            buffer += data
            held = bytes(buffer)
            sent = at = 0
            while (end := reply_end(held, at)) >= 0:
                rule = self.asked.popleft() if self.asked else None
                if rule is not None:
                    writer.write(held[sent:at])
                    sent = at
                    if not await self._meddle(rule, held[at:end], writer):
                        return
                at = end
            writer.write(held[sent:at])
            del buffer[:at]
            await writer.drain()

    async def _meddle(self, rule: Rule, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        """Do to a reply what its rule says; False when the connection is to be closed."""
        if rule.what == "delay":
            await writer.drain()
            await asyncio.sleep(rule.seconds)
            return True
        if rule.what == "tear":
            writer.write(reply[: max(1, len(reply) // 2)])
        with contextlib.suppress(OSError):
            await writer.drain()
        if rule.what == "silent":
            await asyncio.Event().wait()
        if rule.what == "tear":
            # closing alone would take back what has not left yet
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return False


def reply_end(data: bytes, at: int) -> int:
    """Where the reply that begins at ``at`` ends; -1 where it is not whole yet."""
    left = 1
    while left:
        line = data.find(b"\r\n", at)
        if line < 0:
            return -1
        kind = data[at : at + 1]
        left -= 1
        if kind in b"$=!":
            size = int(data[at + 1 : line])
            at = line + 2 + (size + 2 if size >= 0 else 0)
            if at > len(data):
                return -1
            continue
        if kind in b"*~>%":
            left += max(0, int(data[at + 1 : line])) * (2 if kind == b"%" else 1)
        at = line + 2
    return at


def command_end(data: bytes, at: int) -> tuple[int, bytes, bytes]:
    """Where the command that begins at ``at`` ends (-1: not whole yet), its name, the next word."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return -1, b"", b""
    count = int(data[at + 1 : line])
    at = line + 2
    words = [b"", b""]
    for number in range(count):
        line = data.find(b"\r\n", at)
        if line < 0:
            return -1, b"", b""
        begin = line + 2
        end = begin + int(data[at + 1 : line])
        at = end + 2
        if at > len(data):
            return -1, b"", b""
        if number < 2:
            words[number] = data[begin:end]
    return at, words[0].upper(), words[1]


_SCRIPTS: dict[bytes, str] = {}


def _scripts() -> dict[bytes, str]:
    """Our Lua files by what EVALSHA and EVAL call them: with a line of the engine, or without."""
    if not _SCRIPTS:
        for name, text in script_sources().items():
            for source in (text.encode(), (engine_line(text) + text).encode()):
                sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
                _SCRIPTS[source] = _SCRIPTS[sha.encode()] = name
    return _SCRIPTS
