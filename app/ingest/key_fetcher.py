"""Calls to providers' own hosts: for keys, and to confirm that webhooks may come.

Their addresses come out of what strangers send, and rows compare them with what the provider's are.
This holds whatever a row lets through to https on its usual port, to public addresses, to one
answer of a few bytes in a few seconds: no redirect, no cookie, no proxy of the environment.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from mode.utils.logging import get_logger
from yarl import URL

from hookstream.app.errors import UnavailableKeyError
from hookstream.app.public_addresses import check_url
from hookstream.app.public_resolver import PublicResolver

__all__ = ["Fetched", "KeyFetcher"]

logger = get_logger(__name__)

#: Of all of a call, names and TLS included; senders wait ten seconds and more, most of them.
FETCH_SECONDS: Final = 5.0
#: A certificate has 2 KB, Google's keys 2 KB, Microsoft's 15 KB.
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_CALLS: Final = 16
MAX_CALLS_TO_HOST: Final = 4
MAX_URL_CHARS: Final = 2048
#: Of what fails a line of the log is written at most so often.
SAID_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a host answered."""

    status: int
    body: bytes


class KeyFetcher:
    """One client for all calls of a process; it connects when it is first needed."""

    def __init__(
        self, resolver: AbstractResolver | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """``resolver`` and ``tls``: for tests, where a server of their own stands for the host."""
        self._resolver = resolver
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._said_at, self._unsaid = -SAID_SECONDS, 0

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
        if self._resolver is not None:
            await self._resolver.close()

    async def fetch(self, url: str, body: bytes = b"") -> Fetched:
        """GET ``url``, or POST ``body``, JSON, to it.

        Raises:
            UnavailableKeyError: there is no answer, or none of this size; the log says why.
        """
        host = _checked(url).host
        method = "POST" if body else "GET"
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with self._client().request(
                # as it was checked: nothing is decoded and written anew
                method, URL(url, encoded=True), data=body or None, headers=headers,
                allow_redirects=False,
            ) as response:  # fmt: skip
                found = await _read(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # whoever named it is not told what this machine sees of its network
            self.say(f"{host} cannot be asked: {error.__cause__ or error!r}")
            raise UnavailableKeyError(f"{host} cannot be asked now: send it again") from error
        if found is None:
            self.say(f"{host} answers more than {MAX_ANSWER_BYTES} bytes")
            raise UnavailableKeyError(f"{host} answers too much: send it again")
        return Fetched(response.status, found)

    def say(self, what: str) -> None:
        """Write a line of the log, and not one for each that strangers cause."""
        if (now := time.monotonic()) >= self._said_at + SAID_SECONDS:
            self._said_at = now
            logger.warning("%s (%d more were not told)", what, self._unsaid)
            self._unsaid = 0
        else:
            self._unsaid += 1

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._resolver = self._resolver or PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    use_dns_cache=False,
                    ssl=self._tls or True,
                    limit=MAX_CALLS,
                    limit_per_host=MAX_CALLS_TO_HOST,
                ),
                timeout=aiohttp.ClientTimeout(FETCH_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # what is packed may unfold to anything
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "Hookstream"},
                trust_env=False,
            )
        return self._session


def _checked(url: str) -> URL:
    """The address, where it can be called at all. Raises UnavailableKeyError: it cannot."""
    try:
        found = check_url(url, allow_private=False)
        if found.port != 443 or len(url) > MAX_URL_CHARS:
            raise ValueError("another port than https has, or a long address")
    except ValueError as error:
        raise UnavailableKeyError(f"a key is at no address that may be called: {error}") from error
    return found


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is too long."""
    found = bytearray()
    async for piece in response.content.iter_any():
        found += piece
        if len(found) > MAX_ANSWER_BYTES:
            response.close()
            return None
        await asyncio.sleep(0)
    return bytes(found)
