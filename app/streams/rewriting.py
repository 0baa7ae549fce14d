"""Streams of Redis: looked through entry by entry, and put together anew without what is to go."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams.partition import Partition

__all__ = ["Fence", "has_tombstones", "pages", "rewrite"]

#: Entries of one round trip, and of one script.
PAGE: Final = 200

Entry = tuple[str, Mapping[bytes, bytes]]


class Fence:
    """Who may write: the owner of a partition, or anybody where a key is of none."""

    def __init__(self, scripts: Scripts, partition: Partition | None = None) -> None:
        self.scripts = scripts
        self.partition = partition

    def check(self) -> None:
        """Raises FencedError where the partition is another's by now."""
        if self.partition is not None:
            self.partition.check()

    def lease(self, key: str) -> tuple[str, list[Any]]:
        """The key of the lease, for a script about ``key``, and what it has to be."""
        if self.partition is None:
            return key, ["", ""]
        return keys.lease(self.partition.number), [self.partition.epoch, self.partition.nonce]

    async def write(self, writes: Sequence[tuple[str, str, Sequence[Any]]]) -> int:
        """Carry out (command, key, arguments) on a partition's keys; how many changed something.

        Raises:
            FencedError: the partition is another's.
        """
        if not writes or self.partition is None:
            return 0
        self.check()
        number = self.partition.number
        names = list(dict.fromkeys(key for _, key, _ in writes))
        places = {name: at for at, name in enumerate(names, 2)}
        arguments: list[Any] = [self.partition.epoch, self.partition.nonce]
        for command, key, rest in writes:
            arguments += (command, places[key], len(rest), *rest)
        changed = await self.scripts.call("erase", [keys.lease(number), *names], arguments)
        return int(changed)


async def pages(
    redis: Any, key: str, after: str = "0-0", until: str = "+"
) -> AsyncIterator[list[Entry]]:
    """The entries of a stream behind one of them, some at a time."""
    while True:
        found = await redis.xrange(key, f"({after}", until, count=PAGE)
        if not found:
            return
        page = [(entry_id.decode(), fields) for entry_id, fields in found]
        yield page
        if len(page) < PAGE:
            return
        after = page[-1][0]


async def has_tombstones(redis: Any, key: str) -> bool:
    """Whether a stream may hold the bytes of entries that were deleted out of its middle."""
    if not await redis.xlen(key):
        return False
    # before Redis 7 nobody says; of a stream that was put together anew it is 0-0 again
    deleted = (await redis.xinfo_stream(key)).get("max-deleted-entry-id")
    return bool(deleted != b"0-0")


async def rewrite(
    redis: Any, fence: Fence, key: str, instead: Mapping[str, bytes], *, torn: bool = False
) -> None:
    """Put a stream together anew; ``instead``: what entries are to be, b"" for those that go.

    With ``torn`` also where none goes: so that what was deleted goes for good.

    An entry that is deleted stays in Redis's memory and files until all of those around it are.
    Who appends to the stream meanwhile is not kept waiting.

    Raises:
        FencedError: the partition is another's.
        redis.exceptions.RedisError: what the server said; the stream is as it was.
    """
    if not (instead or torn):
        return
    lease, who = fence.lease(key)
    copy, after = keys.rewritten(key), "0-0"
    async for page in pages(redis, key):
        if len(page) < PAGE:
            break
        fence.check()
        last = page[-1][0]
        await fence.scripts.call(
            "rewrite_stream", [lease, key, copy], [*who, after, last, *_of(page, instead)]
        )
        after = last
    rest = [page async for page in pages(redis, key, after)]
    fence.check()
    said = [part for page in rest for part in _of(page, instead)]
    await fence.scripts.call("rewrite_stream", [lease, key, copy], [*who, after, "+", *said])


def _of(page: Sequence[Entry], instead: Mapping[str, bytes]) -> list[Any]:
    return [
        part
        for entry_id, _ in page
        if entry_id in instead
        for part in (entry_id, instead[entry_id])
    ]
