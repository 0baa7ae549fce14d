"""The folder or bucket: bytes in and out, and whose trouble an error of it is."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.errors import UnavailableError

__all__ = [
    "VARIABLES",
    "Found",
    "MissingObjectError",
    "Objects",
    "is_panic",
    "open_store",
    "reason",
]

logger = get_logger(__name__)

T = TypeVar("T")

#: One request, its repetitions among them.
TIMEOUT_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
MAX_RETRIES: Final = 2
CONCURRENCY: Final = 8
#: At most one line of log in this time about the same kind of trouble.
LOG_SECONDS: Final = 30.0
#: What failed longer ago, and was not tried since, is no trouble of now.
TROUBLE_SECONDS: Final = 900.0
#: What a cloud says of an error in its XML, and what the library says in front of its own details.
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,300})")
_OS_ERROR: Final = re.compile(r"\(os error ([0-9]{1,4})\)")
_DEBUG: Final = "\n\nDebug source"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
#: By which variables who asks is known to a cloud, and where that is. Not by files of its tools.
VARIABLES: Final[Mapping[str, Sequence[str]]] = {
    "s3": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
        "AWS_ENDPOINT_URL",
    ),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}  # fmt: skip


def open_store(address: ArchiveAddress, timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
    """obstore's store for an address; credentials are the environment's. Asks nobody yet.

    Raises:
        ValueError: a variable is nothing that it could be; the message names it, not its value.
        obstore.exceptions.BaseError: the environment says too little.
    """
    from obstore import store

    kind, place, path = address.kind, address.place, address.path
    if kind == "file":
        return store.LocalStore(path)
    if kind == "s3":
        _check_variables(os.environ)
    shared: dict[str, Any] = {
        "prefix": path or None,
        "client_options": {
            "timeout": timedelta(seconds=timeout_seconds),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "allow_http": _is_plain(os.environ),
        },
        "retry_config": {
            "max_retries": MAX_RETRIES,
            "retry_timeout": timedelta(seconds=timeout_seconds),
        },
    }
    if kind == "s3":
        return store.S3Store(place, **shared)
    if kind == "gs":
        return store.GCSStore(place, **shared)
    return store.AzureStore(place, **shared)


class MissingObjectError(Exception):
    """There is no object of this name, and the bucket or folder itself is there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Found(NamedTuple):
    """An object as a list has it."""

    name: str
    size: int
    modified: datetime


class Objects:
    """Every method raises UnavailableError where the folder or bucket cannot be used now."""

    def __init__(
        self, address: ArchiveAddress, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._store: Any = None
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._told: dict[str, float] = {}
        #: By what was asked: when it failed last, and why; nothing of what has gone well since.
        self._failed: dict[str, tuple[float, str]] = {}

    @property
    def trouble(self) -> str:
        """What failed lately and has not gone well since, by its kind; empty: nothing."""
        now = time.monotonic()
        recent = (why for at, why in self._failed.values() if now - at < TROUBLE_SECONDS)
        return "; ".join(recent)

    async def check(self, *, empty: bool) -> None:
        """Look whether the folder or bucket is there, and may be read.

        ``empty``: nothing is in it, so that a folder may be made yet. Rights to write are seen when
        something is written.
        """
        if self.address.kind != "file":
            await self._opened()
            await self._look_for_bucket()
        elif empty and not await asyncio.to_thread(self._is_there):
            self._failed.pop("folder", None)
        else:
            await self._opened()

    async def begun(self) -> bool:
        """Whether anything can be in it: a folder is made with the first object."""
        return self.address.kind != "file" or await asyncio.to_thread(self._is_there)

    async def put(self, name: str, data: bytes) -> None:
        """Write an object, durably, in place of one of that name."""
        import obstore

        store = await self._opened(make=True)
        await self._ask("put", name, lambda: obstore.put_async(store, name, data))
        if self.address.kind == "file":
            await self._ask("put", name, lambda: asyncio.to_thread(self._sync, name))

    async def get(self, name: str) -> bytes:
        """All of an object. Raises MissingObjectError."""
        import obstore

        store = await self._opened()

        async def read() -> bytes:
            found = await obstore.get_async(store, name)
            return bytes(await found.bytes_async())

        return await self._ask("get", name, read)

    async def get_range(self, name: str, start: int, end: int) -> bytes:
        """Some bytes of an object; fewer where it is shorter. Raises MissingObjectError."""
        import obstore

        store = await self._opened()

        async def read() -> bytes:
            return bytes(await obstore.get_range_async(store, name, start=start, end=end))

        return await self._ask("get", name, read)

    async def size(self, name: str) -> int:
        """Bytes of an object. Raises MissingObjectError."""
        import obstore

        store = await self._opened()
        found = await self._ask("head", name, lambda: obstore.head_async(store, name))
        return found["size"]

    async def delete(self, name: str) -> None:
        """Delete an object; one that is not there is deleted already."""
        import obstore

        store = await self._opened()
        try:
            await self._ask("delete", name, lambda: obstore.delete_async(store, name))
        except MissingObjectError:
            return

    async def list(self) -> AsyncIterator[Found]:
        """All objects, in no order that may be relied on; none where there is no folder yet."""
        import obstore

        if self.address.kind == "file" and not await asyncio.to_thread(self._is_there):
            return
        store = await self._opened()
        listing = obstore.list(store, chunk_size=1000)

        async def following() -> Any:
            return await anext(listing, None)

        while (chunk := await self._ask("list", "", following)) is not None:
            for found in chunk:
                yield Found(found["path"], found["size"], found["last_modified"])

    async def _opened(self, *, make: bool = False) -> Any:
        if self.address.kind == "file":
            try:
                await asyncio.to_thread(self._look_for_folder, make)
            except UnavailableError as error:
                self._failed["folder"] = time.monotonic(), str(error)
                raise
            self._failed.pop("folder", None)
        if self._store is None:
            # reading certificates and the environment takes its time
            self._store = await self._ask("open", "", lambda: asyncio.to_thread(self._open))
        return self._store

    def _is_there(self) -> bool:
        return Path(self.address.path).is_dir()

    def _look_for_folder(self, make: bool) -> None:
        folder = Path(self.address.path)
        try:
            if make:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not self._is_there():
                raise FileNotFoundError("there is no such folder")
        except OSError as error:
            raise UnavailableError(
                f"the archive's folder {folder} cannot be used ({error.strerror or error}): is "
                "its disk there?"
            ) from error

    def _open(self) -> Any:
        return open_store(self.address, self._timeout_seconds)

    async def _look_for_bucket(self) -> None:
        """A bucket that is not there has no list; an object's own answer does not say enough."""
        import obstore

        listing = obstore.list(self._store, "none", chunk_size=1)

        async def first() -> Any:
            return await anext(listing, None)

        await self._ask("list", "", first)

    def _sync(self, name: str) -> None:
        """Have the disk keep a new file, and the folders that name it."""
        path = Path(self.address.path, name)
        top = Path(self.address.path)
        for each in (path, *path.parents):
            number = os.open(each, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
            if each == top:
                return

    async def _ask(self, what: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """The one place where the archive's trouble becomes UnavailableError."""
        begun = time.monotonic()
        try:
            async with self._free, asyncio.timeout(self._timeout_seconds):
                answer = await call()
            self._failed.pop(what, None)
            return answer
        except FileNotFoundError as error:
            if what in ("get", "head", "delete"):
                await self._look_for_bucket()
                raise MissingObjectError(name) from error
            raise self._unavailable(what, error) from error
        except Exception as error:
            # whatever a library, a network and a cloud can say: all of it is their trouble
            raise self._unavailable(what, error) from error
        finally:
            metrics.ARCHIVE_SECONDS.labels(what).observe(time.monotonic() - begun)

    def _unavailable(self, what: str, error: Exception) -> UnavailableError:
        kind, said = reason(error)
        metrics.ARCHIVE_ERRORS.labels(what).inc()
        now = time.monotonic()
        # who asks for health may be anybody: the log has more
        self._failed[what] = now, f"{what}: {kind}"
        if now - self._told.get(kind, -LOG_SECONDS) >= LOG_SECONDS:
            self._told[kind] = now
            logger.warning("archive %s: %s: %s: %s", self.address, what, kind, said)
        return UnavailableError(f"the archive {self.address} cannot be used now ({what}: {kind})")


def reason(error: BaseException) -> tuple[str, str]:
    """The kind of an error, in a word, and what is said of it: by the cloud itself if it says so.

    >>> reason(PermissionError("no: <Error><Code>AccessDenied</Code><Message>Go.</Message>"))
    ('AccessDenied', 'Go.')
    >>> reason(OSError("Generic LocalFileSystem error: it is full (os error 28)"))
    ('No space left on device', 'Generic LocalFileSystem error: it is full (os error 28)')
    """
    text = str(error).partition(_DEBUG)[0]
    kind = type(error).__name__.removesuffix("Error") or "Error"
    if code := _CODE.search(text):
        message = _MESSAGE.search(text)
        return code[1], message[1] if message else kind
    flat = " ".join(text.split())
    if number := _OS_ERROR.search(flat):
        kind = os.strerror(int(number[1]))
    elif "incorrectly configured region" in flat:
        kind = "WrongRegion"
    # the end says what the matter is, the beginning names the object, more than once
    return kind, flat if len(flat) <= 300 else f"{flat[:80]} … {flat[-220:]}"


def is_panic(error: BaseException) -> bool:
    """Whether the library has given up over what it did not expect.

    Asked without an event loop it raises no Exception then.
    """
    return type(error).__name__ == "PanicException"


def _check_variables(environ: Mapping[str, str]) -> None:
    """Raises ValueError: the library would make an address or a header of it, and end in panic."""
    for name in (*VARIABLES["s3"], *_ENDPOINTS):
        value = environ.get(name, "")
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise ValueError(f"{name} has characters that belong to no such value, as a line's end")
    for name in _ENDPOINTS:
        if not (value := environ.get(name, "")):
            continue
        try:
            parts = urlsplit(value)
            fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fits = None
        if not fits or " " in value:
            raise ValueError(f"{name} is no address of a server: https://HOST or http://HOST:PORT")


def _is_plain(environ: Any) -> bool:
    """Whether an endpoint of one's own is spoken to without TLS, as its address says."""
    allowed = any(
        environ.get(name, "").lower() in ("true", "1") for name in ("AWS_ALLOW_HTTP", "ALLOW_HTTP")
    )
    return allowed or any(urlsplit(environ.get(name, "")).scheme == "http" for name in _ENDPOINTS)
