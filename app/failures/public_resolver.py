"""Names that lead to addresses that are not public, refused as they are resolved for a call."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from hookstream.app.public_addresses import check_public

__all__ = ["PublicResolver"]


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to an address that is not public."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of ``host``. Raises OSError when one of them is not public."""
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            try:
                check_public(result["host"])
            except ValueError as error:
                raise OSError(f"{host}: {error}") from error
        return found

    async def close(self) -> None:
        """Nothing to let go."""
