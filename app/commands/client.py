"""The HTTP API, as the commands use it."""

import json
from typing import Any
from urllib.parse import quote

import aiohttp

from hookstream.app.errors import AuthError, HookstreamError, NotFoundError
from hookstream.app.settings import Settings

__all__ = ["ApiClient", "quoted"]

TIMEOUT_SECONDS = 60


class ApiClient:
    """Calls ``/api/v1`` with the admin key of the settings; an ``async with`` block long."""

    def __init__(self, settings: Settings, url: str = "") -> None:
        self.url = (url or settings.known_address()).rstrip("/")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {settings.known_api_key()}"},
            timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS),
        )

    async def __aenter__(self) -> "ApiClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, *, body: Any = None, **query: str) -> Any:
        """The answer's JSON; None for an empty one.

        Raises:
            HookstreamError: the server refused; the message is its own.
            aiohttp.ClientError: it cannot be reached.
        """
        given = {name: value for name, value in query.items() if value}
        address = f"{self.url}/api/v1{path}"
        async with self._session.request(method, address, json=body, params=given) as response:
            text = await response.text()
            if response.ok:
                return json.loads(text) if text else None
        try:
            detail = str(json.loads(text)["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{address} answered {response.status}: is this Hookstream's address?"
        kinds: dict[int, type[HookstreamError]] = {401: AuthError, 404: NotFoundError}
        raise kinds.get(response.status, HookstreamError)(detail)

    async def health(self) -> dict[str, Any]:
        """What ``/health`` says of the process that is asked."""
        async with self._session.get(f"{self.url}/health") as response:
            return dict(await response.json())

    async def spooled(self) -> int | None:
        """Events in the spool of the process that was asked; None where it has none."""
        parts = (await self.health())["parts"]
        return int(parts["spool"]["entries"]) if "spool" in parts else None


def quoted(part: str) -> str:
    """A piece of a path."""
    return quote(part, safe="")
