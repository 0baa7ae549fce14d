"""Keys that wrap data keys: in a file, in the environment, or in a service that keeps them."""

import base64
import binascii
import hashlib
import hmac
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from hookstream.app.errors import SealingKeyError, SettingsError
from hookstream.codecs.sealing import KEY_BYTES

__all__ = [
    "KeyEnvironment",
    "KeyFile",
    "KeySource",
    "LocalKey",
    "WrappingKey",
    "new_key_line",
    "read_keys",
]

_SAYS_HOW: Final = "32 random bytes in base64, such as `openssl rand -base64 32` prints"
_MAX_FILE_BYTES: Final = 64 << 10


class WrappingKey(Protocol):
    """One key. ``name`` tells it from all others, and nothing else; it has no colon."""

    @property
    def name(self) -> str: ...

    async def wrap(self, key: bytes) -> bytes:
        """Raises SealingKeyError where it cannot be asked now."""

    async def unwrap(self, wrapped: bytes) -> bytes:
        """Raises SealingKeyError where it cannot be asked now, or it did not wrap this."""


class KeySource(Protocol):
    """Where wrapping keys come from."""

    def wrapping_keys(self) -> Sequence[WrappingKey]:
        """Those there are now: the first one wraps, all unwrap.

        Raises:
            SealingKeyError: they cannot be had.
        """


class LocalKey:
    """32 bytes in this process; wraps by RFC 3394."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # says nothing of the key, as it would if it were a plain hash of one that is not random
        digest = hmac.new(key, b"hookstream: name of a wrapping key", hashlib.sha256)
        self.name = f"local-{digest.hexdigest()[:16]}"

    async def wrap(self, key: bytes) -> bytes:
        """40 bytes."""
        return aes_key_wrap(self._key, key)

    async def unwrap(self, wrapped: bytes) -> bytes:
        """Raises SealingKeyError where another key has wrapped it."""
        try:
            return aes_key_unwrap(self._key, wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise SealingKeyError(f"{self.name} has not wrapped this data key") from error


def read_keys(data: bytes, where: str) -> list[LocalKey]:
    """The keys in a file or a variable: 32 bytes as they are, or one in base64 a line.

    Lines that begin with ``#`` are for people.

    Raises:
        SealingKeyError: there is none, or something else.
    """
    if len(data) == KEY_BYTES:
        return [LocalKey(data)]
    found = []
    for line in data.split(b"\n"):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            key = base64.b64decode(text.replace(b"-", b"+").replace(b"_", b"/"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES or len(set(key)) < KEY_BYTES // 4:
            raise SealingKeyError(f"{where} holds what is no key: {_SAYS_HOW}, one a line")
        found.append(LocalKey(key))
    if not found:
        raise SealingKeyError(f"{where} holds no key: {_SAYS_HOW}")
    return found


def new_key_line() -> str:
    """A new key, as a line of a key file."""
    return f"{base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n"


class KeyEnvironment:
    """A variable of the environment, read once: it does not change in a running process."""

    def __init__(self, name: str, value: str | None) -> None:
        self._name = name
        self._value = value

    def wrapping_keys(self) -> Sequence[WrappingKey]:
        """Several by spaces or line breaks. Raises SealingKeyError."""
        if not self._value:
            raise SealingKeyError(
                f"the environment has no {self._name}, which HOOKSTREAM_KEY_URL names: {_SAYS_HOW}"
            )
        return read_keys("\n".join(self._value.split()).encode(), self._name)


class KeyFile:
    """A file, which is read again when it has changed: keys are rotated in a running system."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        """``make``: it is this installation's own, and made where it is not there."""
        self.path = path
        self._make = make
        self._seen: tuple[int, int, int] | None = None
        self._keys: list[LocalKey] = []

    def wrapping_keys(self) -> Sequence[WrappingKey]:
        """Raises SealingKeyError."""
        try:
            if self._make and not self.path.exists():
                self.make()
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                seen = (found.st_mtime_ns, found.st_ino, found.st_size)
                if seen != self._seen:
                    self._check(found)
                    self._keys = read_keys(file.read(_MAX_FILE_BYTES), str(self.path))
                    self._seen = seen
        except OSError as error:
            raise SealingKeyError(
                f"the key file {self.path} cannot be read ({error.strerror}): bring it back, or "
                "have HOOKSTREAM_KEY_URL name the right one"
            ) from error
        return self._keys

    def _check(self, found: os.stat_result) -> None:
        """Refuse a file that others may read; root's may be read by a group, as PostgreSQL's."""
        open_to = stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
        if found.st_uid == 0:
            open_to &= ~stat.S_IRGRP
        if open_to:
            raise SealingKeyError(
                f"others of this machine may read or write {self.path}: `chmod 600` it, and where "
                "they are not trusted, rotate the key (docs/sealing.md)"
            )

    def make(self) -> None:
        """Make the file with a new key, unless another process has. Raises OSError."""
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        self._write(draft, new_key_line())
        try:
            os.link(draft, self.path)  # whole or not at all, and nobody's is replaced
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    def rotate(self) -> None:
        """Put a new key before those there are.

        Raises:
            SealingKeyError: the file cannot be read.
            SettingsError: it cannot be written.
        """
        self.wrapping_keys()
        data = self.path.read_bytes()
        if len(data) == KEY_BYTES:
            data = base64.b64encode(data) + b"\n"
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self._write(draft, new_key_line() + data.decode())
            os.replace(draft, self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise SettingsError(
                f"{self.path} cannot be replaced ({error.strerror}): put a new first line into it "
                f"where it may be written, {_SAYS_HOW}"
            ) from error

    @staticmethod
    def _write(path: Path, text: str) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
