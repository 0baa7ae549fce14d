"""What stays of a tenant whose data keys are to be destroyed: sealed anew, by the key of now.

An erasure of all that a tenant has retires its keys when it begins. What comes in while processes
learn of that may still be sealed by them, and so is what stands in place of what was erased.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, Final

from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.redis import keys
from hookstream.app.streams.rewriting import pages
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.payload import StoredPayload
from hookstream.codecs.sealed import MonthKey, is_sealed, key_ids, sealed_head

__all__ = ["Resealing", "sealed_by"]

#: How many bytes say by which key something is sealed.
HEAD: Final = len(sealed_head(0))
SCAN: Final = 1000


class Resealing:
    """Tells what is sealed by keys that are to go, and seals it by another one."""

    def __init__(self, data_keys: DataKeys | None, doomed: Collection[int]) -> None:
        self._data_keys = data_keys
        self._doomed = frozenset(doomed)
        self.heads = tuple(sealed_head(one) for one in sorted(self._doomed))

    @property
    def is_on(self) -> bool:
        """Whether there is anything to seal anew, and a key to do it by."""
        return bool(self._doomed) and self._data_keys is not None and self._data_keys.seals

    def concerns(self, data: bytes) -> bool:
        """Whether a value was sealed by one of the keys."""
        return is_sealed(data) and not key_ids((data,)).isdisjoint(self._doomed)

    def stands_in(self, data: bytes) -> bool:
        """Whether bytes have such a value within them."""
        return any(head in data for head in self.heads)

    async def key(self, tenant: str) -> MonthKey | None:
        """What seals anew; None where nothing is sealed, or nothing has to be.

        Raises:
            SealingKeyError: it cannot be had now.
        """
        if not self.is_on or self._data_keys is None:
            return None
        await self._data_keys.ensure(((tenant, self._data_keys.month_now()),))
        found = self._data_keys.key_now(tenant)
        if found is not None and found.key_id in self._doomed:
            # this process has not heard of it yet
            await self._data_keys.learn_changes()
            await self._data_keys.ensure(((tenant, self._data_keys.month_now()),))
            found = self._data_keys.key_now(tenant)
        return found

    async def again(self, tenant: str, data: bytes, place: bytes) -> bytes | None:
        """A value, sealed anew for its place; None where it is to stay: nobody can read it.

        Raises:
            SealingKeyError: one of the keys cannot be had now.
        """
        assert self._data_keys is not None
        await self.key(tenant)
        try:
            return await self._data_keys.reseal(tenant, data, place)
        except CodecError:
            return None

    async def envelope(self, event: Event) -> bytes | None:
        """An event with its payload sealed anew; None where that is not in it."""
        stored = event.stored
        if stored is None or stored.data is None or not self.concerns(stored.data):
            return None
        data = await self.again(event.tenant, stored.data, stored.place)
        if data is None:
            return None
        packed = StoredPayload(stored.encoding, stored.size, data, stored.blob, stored.place)
        return encode_event(event, packed)


async def sealed_by(
    redis: Any, partitions: int, tenant: str, heads: Collection[bytes]
) -> Counter[str]:
    """How many values in Redis are sealed by keys of a tenant, by the kind of place.

    ``heads``: how what they have sealed begins (:func:`~hookstream.codecs.sealed.sealed_head`).

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    found: Counter[str] = Counter()

    def count(place: str, values: Iterable[bytes]) -> None:
        found[place] += sum(any(head in value for head in heads) for value in values)

    for number in range(partitions):
        for name in ("events", "updates", "deferred:high", "deferred:normal", "deferred:low"):
            async for page in pages(redis, keys.stream(name, number)):
                count(f"{name} stream", (value for _, fields in page for value in fields.values()))
    for place, pattern in (
        ("feeds", f"{{hs:*}}:feed:{tenant}/*"),
        ("refusals", f"{keys.UNKNOWN_REFUSALS}*"),
    ):
        async for name in redis.scan_iter(match=pattern, count=SCAN):
            async for page in pages(redis, name.decode()):
                count(place, (value for _, fields in page for value in fields.values()))
    for place, pattern in (
        ("lists of digests", f"{{hs:*}}:folded:{tenant}/*"),
        ("throttled updates", f"{{hs:*}}:withheld:{tenant}/*"),
    ):
        async for name in redis.scan_iter(match=pattern, count=SCAN):
            count(place, await redis.lrange(name, 0, -1))
    async for name in redis.scan_iter(match="{hs:*}:letter:*", count=SCAN):
        count("failed events", await redis.hvals(name))
    for place, pattern in (
        ("payloads beside their stream", "{hs:*}:blob:*"),
        ("warm blocks", f"{{hs:*}}:warm:{tenant}/*"),
        ("dictionaries", "hs:dictionary:*"),
    ):
        async for name in redis.scan_iter(match=pattern, count=SCAN):
            if await redis.type(name) == b"string":
                count(place, [await redis.getrange(name, 0, HEAD - 1)])
    return +found
