"""The HTTP API, as the commands use it."""

import asyncio
import gzip
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import aiohttp

from hookstream.app.errors import (
    AuthError,
    BadRequestError,
    HookstreamError,
    LimitError,
    NotFoundError,
    UnavailableError,
)
from hookstream.app.settings import Settings

__all__ = ["TIMEOUT_SECONDS", "ApiClient", "address_of", "quoted"]

TIMEOUT_SECONDS = 60


class ApiClient:
    """Calls ``/api/v1`` with the admin key of the settings; an ``async with`` block long."""

    def __init__(
        self, settings: Settings, url: str = "", *, seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """``seconds``: how long an answer may take."""
        self.url = address_of(url or settings.known_address())
        self._key_from = (
            "HOOKSTREAM_ADMIN_KEY" if settings.admin_key else str(settings.state_path / "admin.key")
        )
        self._seconds = seconds
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {settings.known_api_key()}"},
            timeout=aiohttp.ClientTimeout(seconds),
        )

    async def __aenter__(self) -> "ApiClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, *, body: Any = None, **query: str) -> Any:
        """The answer's JSON; None for an empty one.

        Raises:
            LimitError, UnavailableError: it may be asked again later; nobody answers, perhaps.
            HookstreamError: the server refused; the message is its own.
        """
        given = {name: value for name, value in query.items() if value}
        address, (data, _) = await self._ask(method, path, json=body, params=given)
        return _json(address, data) if data else None

    async def send(self, path: str, data: bytes, kind: str = "application/x-ndjson") -> Any:
        """Post something long, packed; the answer's JSON. Raises as :meth:`call`."""
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        packed = await asyncio.to_thread(gzip.compress, data, 1)
        address, (answer, _) = await self._ask("POST", path, data=packed, headers=headers)
        return _json(address, answer)

    async def lines(self, path: str, **query: str) -> tuple[bytes, Mapping[str, str]]:
        """A page of lines, and the answer's headers. Raises as :meth:`call`."""
        given = {name: value for name, value in query.items() if value}
        return (await self._ask("GET", path, params=given))[1]

    async def _ask(
        self, method: str, path: str, **request: Any
    ) -> tuple[str, tuple[bytes, Mapping[str, str]]]:
        """The address that was asked, and what it answered."""
        address = f"{self.url}/api/v1{path}"
        try:
            async with self._session.request(method, address, **request) as response:
                data = await response.read()
        except aiohttp.ClientConnectorError as error:
            raise self._nobody(error) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            said = str(error) or f"not within {self._seconds:g} s"
            raise UnavailableError(f"{address} does not answer: {said}") from error
        if not response.ok:
            after = response.headers.get("Retry-After", "")
            raise self._refused(address, response.status, data.decode(errors="replace"), after)
        return address, (data, response.headers)

    async def everything(self, path: str, name: str, limit: int) -> list[Any]:
        """All items of a list that comes in pages of ``limit``. Raises as :meth:`call`."""
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self.call("GET", path, limit=str(limit), cursor=cursor)
            found += page[name]
            cursor = page["cursor"]
        return found

    async def download(self, path: str, sink: BinaryIO) -> None:
        """Write the body of a long answer into ``sink`` as it comes.

        Raises:
            HookstreamError: the server refused; the message is its own.
            aiohttp.ClientError: the connection broke before its end.
        """
        address = f"{self.url}/api/v1{path}"
        patient = aiohttp.ClientTimeout(None, sock_read=TIMEOUT_SECONDS)
        try:
            async with self._session.get(address, timeout=patient) as response:
                if not response.ok:
                    raise self._refused(address, response.status, await response.text())
                async for part in response.content.iter_any():
                    sink.write(part)
        except aiohttp.ClientConnectorError as error:
            raise self._nobody(error) from error
        sink.flush()

    def _refused(self, address: str, status: int, text: str, after: str = "") -> HookstreamError:
        try:
            detail = str(json.loads(text)["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{address} answered {status}: is this Hookstream's address?"
        if status == 401:
            detail = f"{detail} ({self.url}; the key is that of {self._key_from})"
        if status == 429:
            return LimitError(detail, float(after) if after.isdecimal() else None)
        if status >= 500:
            return UnavailableError(detail)
        kinds: dict[int, type[HookstreamError]] = {
            400: BadRequestError,
            401: AuthError,
            404: NotFoundError,
        }
        return kinds.get(status, HookstreamError)(detail)

    async def health(self) -> dict[str, Any]:
        """What ``/health`` says of the process that is asked."""
        try:
            async with self._session.get(f"{self.url}/health") as response:
                found = json.loads(await response.read())
        except aiohttp.ClientConnectorError as error:
            raise self._nobody(error) from error
        except ValueError:
            found = None
        if not isinstance(found, dict) or "parts" not in found:
            raise HookstreamError(
                f"{self.url}/health is not what Hookstream says: is this its address, or the one "
                "for operators?"
            )
        return found

    def _nobody(self, error: aiohttp.ClientConnectorError) -> UnavailableError:
        number = error.os_error.errno
        reason = os.strerror(number) if number and number > 0 else error.os_error
        return UnavailableError(
            f"nobody answers at {self.url} ({reason}): is Hookstream up there? --url names another "
            "address, HOOKSTREAM_STATE_DIR the folder of another one"
        )

    async def spooled(self) -> int | None:
        """Events in the spool of the process that was asked; None where it has none."""
        parts = (await self.health())["parts"]
        return int(parts["spool"]["entries"]) if "spool" in parts else None


def _json(address: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise HookstreamError(
            f"{address} answered what is no JSON: is this Hookstream's address?"
        ) from error


def address_of(url: str) -> str:
    """``url`` without the slash at its end.

    Raises:
        BadRequestError: it is no address of an HTTP server.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = None
    if not fits:
        raise BadRequestError(f"--url: http://HOST:PORT or https://…, not {url[:100]!r}")
    return url.rstrip("/")


def quoted(part: str) -> str:
    """A piece of a path."""
    return quote(part, safe="")
