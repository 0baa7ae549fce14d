"""Names that lead to addresses that are not public, refused as they are resolved for a call."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from hookstream.app.public_addresses import check_public

__all__ = ["PublicResolver"]

#: Threads of its own: who names what takes long to resolve shall not take those of all.
THREADS: Final = 4
NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to an address that is not public."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of ``host``. Raises OSError when one of them is not public."""
        ask = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        results = []
        for of, _, protocol, _, place in found:
            address = str(place[0])
            try:
                check_public(address)
            except ValueError as error:
                raise OSError(f"{host}: {error}") from error
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=of,
                    proto=protocol,
                    flags=NUMERIC,
                )
            )
        return results

    async def close(self) -> None:
        """Let go of the threads; what they wait for ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
