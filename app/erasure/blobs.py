"""Which payloads beside their stream are in the clear: their envelopes say so, they themselves not.

A sender may write bytes that look like a sealed value: no key is waited for because of those.
"""

from typing import Any

from hookstream.app.redis import keys
from hookstream.app.streams.rewriting import pages
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.payload import SEALED

__all__ = ["ClearBlobs"]


class ClearBlobs:
    """Asked only about what looks sealed by a key that nobody has; a partition is read once."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._known: dict[int, set[str]] = {}

    async def has(self, partition: int, name: str) -> bool:
        """Whether an event, in its stream or failed, says that its blob ``name`` is not sealed.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        if partition not in self._known:
            self._known[partition] = await self._of(partition)
        return name in self._known[partition]

    async def _of(self, partition: int) -> set[str]:
        values: list[bytes] = []
        found: set[str] = set()
        async for page in pages(self._redis, keys.events(partition)):
            found |= _clear([fields.get(b"d", b"") for _, fields in page])
        letters = f"{{hs:{partition}}}:letter:*"
        async for letter in self._redis.scan_iter(match=letters, count=1000):
            values.append(await self._redis.hget(letter, "raw") or b"")
        return found | _clear(values)


def _clear(values: list[bytes]) -> set[str]:
    stored = [event.stored for event in map(_event, values) if event and event.stored]
    return {one.blob for one in stored if one.blob and one.encoding not in SEALED}


def _event(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except CodecError:
        return None
