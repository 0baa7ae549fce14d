"""A stand-in for what Tansu lacks: clients of a broker have to sign in by SASL.

SCRAM as in RFC 5802 and PLAIN as in RFC 4616, in Kafka's own requests (kafka.apache.org/protocol):
17 names a mechanism, 36 carries its messages. Everything else goes to the broker behind it.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import ssl
import struct

from tests.support.kafka import Wire

__all__ = ["SaslFront"]

API_VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
NOT_SUPPORTED, FAILED = 33, 58
ITERATIONS = 4096


class SaslFront(Wire):
    """A wire for those who know the password."""

    def __init__(
        self,
        target: int,
        user: str,
        password: str,
        *,
        mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-512"),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(target, tls)
        self.user, self.password, self.mechanisms = user, password, mechanisms
        #: How each attempt ended, by mechanism.
        self.attempts: list[tuple[str, bool]] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await self._signs_in(reader, writer):
                await super()._serve(reader, writer)
                return
        writer.close()

    async def _signs_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        mechanism, exchange = "", None
        while True:
            key, correlation, frame = await _request(reader)
            answer = struct.pack(">i", correlation)
            if key == API_VERSIONS:
                writer.write(_framed(await self._asked(frame)))
            elif key == HANDSHAKE:
                mechanism = _text(frame, _body(frame))
                known = mechanism in self.mechanisms
                answer += struct.pack(">hi", 0 if known else NOT_SUPPORTED, len(self.mechanisms))
                answer += b"".join(struct.pack(">h", len(m)) + m.encode() for m in self.mechanisms)
                writer.write(_framed(answer))
                exchange = _Exchange(mechanism, self.user, self.password)
            elif key == AUTHENTICATE and exchange is not None:
                at = _body(frame)
                [size] = struct.unpack_from(">i", frame, at)
                said = exchange.step(frame[at + 4 : at + 4 + size])
                if said is None:
                    self.attempts.append((mechanism, False))
                    text = b"Authentication failed"
                    answer += struct.pack(">hh", FAILED, len(text)) + text + struct.pack(">i", 0)
                else:
                    answer += struct.pack(">hhi", 0, -1, len(said)) + said
                # version 1 ends with how long it lasts
                [version] = struct.unpack_from(">h", frame, 2)
                writer.write(_framed(answer + (struct.pack(">q", 0) if version else b"")))
                if said is None:
                    return False
                if exchange.done:
                    self.attempts.append((mechanism, True))
                    return True
            else:
                # nobody who has not signed in is answered
                return False

    async def _asked(self, frame: bytes) -> bytes:
        """What the broker says of its versions, with those of these two requests."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            writer.write(_framed(frame))
            [size] = struct.unpack(">i", await reader.readexactly(4))
            answer = await reader.readexactly(size)
        finally:
            writer.close()
        # correlation, error, then an array of request, lowest and highest version
        head, [count] = answer[:6], struct.unpack_from(">i", answer, 6)
        rows = [struct.unpack_from(">hhh", answer, 10 + 6 * at) for at in range(count)]
        rows = [row for row in rows if row[0] not in (HANDSHAKE, AUTHENTICATE)]
        rows += [(HANDSHAKE, 0, 1), (AUTHENTICATE, 0, 1)]
        rest = answer[10 + 6 * count :]
        made = b"".join(struct.pack(">hhh", *row) for row in rows)
        return head + struct.pack(">i", len(rows)) + made + rest


class _Exchange:
    """One sign-in, on the server's side."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        self._user, self._password = user, password.encode()
        self._hash = mechanism.removeprefix("SCRAM-").replace("-", "").lower()
        self._plain = mechanism == "PLAIN"
        self._first = ""
        self._salt = os.urandom(16)
        self.done = False

    def step(self, message: bytes) -> bytes | None:
        """What is answered; None to whoever is not let in."""
        if self._plain:
            _, user, password = message.split(b"\0")
            self.done = (user, password) == (self._user.encode(), self._password)
            return b"" if self.done else None
        said = message.decode()
        if not self._first:
            bare = said.removeprefix("n,,")
            fields = dict(part.split("=", 1) for part in bare.split(","))
            nonce = fields["r"] + base64.b64encode(os.urandom(12)).decode()
            salt = base64.b64encode(self._salt).decode()
            server = f"r={nonce},s={salt},i={ITERATIONS}"
            self._first = f"{bare},{server}"
            # who does not exist is refused at the end, as one with a wrong password is
            self._known = fields["n"] == self._user
            return server.encode()
        without, _, proof = said.rpartition(",p=")
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, self._salt, ITERATIONS)
        signed = f"{self._first},{without}".encode()
        client = self._mac(salted, b"Client Key")
        wanted = self._mac(hashlib.new(self._hash, client).digest(), signed)
        given = bytes(a ^ b for a, b in zip(base64.b64decode(proof), client, strict=True))
        if not self._known or not hmac.compare_digest(given, wanted):
            return None
        self.done = True
        signature = self._mac(self._mac(salted, b"Server Key"), signed)
        return b"v=" + base64.b64encode(signature)

    def _mac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()


async def _request(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """A request's kind and number, and all of it."""
    [size] = struct.unpack(">i", await reader.readexactly(4))
    frame = await reader.readexactly(size)
    key, _, correlation = struct.unpack_from(">hhi", frame)
    return key, correlation, frame


def _body(frame: bytes) -> int:
    """Where a request's own fields begin: behind its client's name."""
    [size] = struct.unpack_from(">h", frame, 8)
    return 10 + max(0, size)


def _text(frame: bytes, at: int) -> str:
    [size] = struct.unpack_from(">h", frame, at)
    return frame[at + 2 : at + 2 + size].decode()


def _framed(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data
