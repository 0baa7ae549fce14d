"""A local server over TLS that stands for providers' hosts, and certificates as theirs."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hookstream.app.ingest.key_fetcher import KeyFetcher

__all__ = ["KeyHost", "certificate", "key_host"]

DAY = 24 * 3600
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def certificate(
    key: Key,
    now: float,
    name: str = "sns.amazonaws.com",
    *,
    begins: float = -DAY,
    ends: float = 365 * DAY,
    hosts: tuple[str, ...] = (),
    issuer: tuple[x509.Name, Key] | None = None,
) -> x509.Certificate:
    """One for ``name``, by itself or by an issuer; ``begins`` and ``ends`` in seconds from now."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, signing = issuer or (subject, key)
    start = datetime.datetime.fromtimestamp(now + begins, datetime.UTC)
    end = datetime.datetime.fromtimestamp(now + ends, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signing, SHA256())


class _ToHere(AbstractResolver):
    """Every name is this machine's, at the server's port."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=self._port, family=socket.AF_INET,
                proto=0, flags=socket.AI_NUMERICHOST,
            )
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing to let go."""


class KeyHost:
    """What it answers, by host and path; and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        #: Set, and it answers only once that is.
        self.gate: asyncio.Event | None = None
        self.fetcher: KeyFetcher = KeyFetcher()

    def at(
        self, url: str, answer: bytes | int | Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> None:
        self.answers[url.removeprefix("https://")] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        place = request.headers["Host"] + request.raw_path
        self.asked.append(place)
        self.bodies.append(await request.read())
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.get(place, 404)
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        if isinstance(answer, int):
            return web.Response(status=answer)
        return await answer(request)


@asynccontextmanager
async def key_host(
    folder: Path, now: float, names: tuple[str, ...], *, trusted: bool = True
) -> AsyncIterator[KeyHost]:
    """One that stands for all hosts; its certificate is for ``names``."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = certificate(root_key, now, "Root of the tests")
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate(key, now, names[0], hosts=names, issuer=(root.subject, root_key))
    file = folder / "host.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + leaf.public_bytes(Encoding.PEM))
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(file)
    theirs = ssl.create_default_context()
    if trusted:
        theirs.load_verify_locations(cadata=root.public_bytes(Encoding.PEM).decode())
    host = KeyHost()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", host.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ours)
        await site.start()
        port = runner.addresses[0][1]
        host.fetcher = KeyFetcher(_ToHere(port), theirs)
        yield host
    finally:
        await host.fetcher.close()
        await runner.cleanup()
