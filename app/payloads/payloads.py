"""Payloads between memory and Redis: packed on their way in, made readable on their way out."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from hookstream.app import metrics
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.errors import CodecError, UnknownDictionaryError
from hookstream.codecs.payload import Packing, StoredPayload

__all__ = ["Payloads", "damage"]

#: Larger payloads are packed on a thread of their own; a smaller one takes less than 5 ms.
ASIDE_BYTES = 128 * 1024
_RAW_BYTES = metrics.PAYLOAD_BYTES.labels(form="raw")
_STORED_BYTES = metrics.PAYLOAD_BYTES.labels(form="stored")


class Payloads:
    """Packs with the tool's current dictionary; fetches blobs and dictionaries for whole batches.

    ``seen`` counts the events of each tool that came by, for whoever trains dictionaries.
    """

    def __init__(self, redis: Any, dictionaries: Dictionaries, packing: Packing) -> None:
        self._redis = redis
        self._dictionaries = dictionaries
        self._packing = packing
        self.seen: Counter[str] = Counter()
        #: What knows where else payloads are that were beside their stream, by their events' ids.
        self.elsewhere: Callable[[Sequence[str]], Awaitable[dict[str, bytes]]] | None = None

    def encode(self, event: Event) -> bytes:
        """The event as envelope bytes, its payload packed; one that came packed stays as it came.

        So a large one stays where it is, beside its stream.
        """
        if event.stored is not None:
            return encode_event(event, event.stored)
        return encode_event(event, self.pack(event.tool_id, event.payload))

    def pack(self, tool_id: str, payload: bytes) -> StoredPayload:
        """A tool's new payload in the form in which it is kept."""
        packed = self._packing.pack(payload, self._dictionaries.current(tool_id))
        _RAW_BYTES.inc(packed.size)
        _STORED_BYTES.inc(len(packed.data or b""))
        return packed

    async def encode_aside(self, event: Event) -> bytes:
        """As :meth:`encode`, on another thread where it would hold the event loop up.

        Packing a megabyte takes 0.5 to 20 ms, and lets other threads run meanwhile.
        """
        if event.payload_bytes > ASIDE_BYTES:
            return await asyncio.to_thread(self.encode, event)
        return self.encode(event)

    async def fetch(self, payloads: Iterable[StoredPayload]) -> None:
        """Get what it takes to unpack these: one round trip for blobs, one for dictionaries.

        What cannot be had is told by each payload's ``problem()``.

        Raises:
            UnavailableError: it cannot be asked where one has moved to.
            redis.exceptions.RedisError: Redis does not answer.
        """
        kept = list(payloads)
        if away := [payload for payload in kept if payload.data is None]:
            pipe = self._redis.pipeline(transaction=False)
            for payload in away:
                pipe.get(payload.blob)
            for payload, data in zip(away, await pipe.execute(), strict=True):
                payload.data = data
            await self._fetch_moved([payload for payload in away if payload.data is None])
        await self._dictionaries.fetch({payload.dictionary_id for payload in kept})

    async def _fetch_moved(self, lost: Sequence[StoredPayload]) -> None:
        """Get payloads of events that have left their stream, and the blobs with them."""
        if not lost or self.elsewhere is None:
            return
        by_event: dict[str, list[StoredPayload]] = {}
        for payload in lost:
            by_event.setdefault(payload.blob.rpartition(":")[2], []).append(payload)
        for event_id, data in (await self.elsewhere(list(by_event))).items():
            for payload in by_event[event_id]:
                payload.found(data)

    async def open(self, events: Sequence[Event | None]) -> list[Event | None]:
        """Events whose payload can be looked at; None for those whose payload is lost.

        Raises:
            UnknownDictionaryError: a dictionary cannot be had at the moment.
            redis.exceptions.RedisError: Redis does not answer.
        """
        await self.fetch(event.stored for event in events if event and event.stored)
        return [event if event is None or _opens(event) else None for event in events]


def damage(payload: StoredPayload) -> CodecError | None:
    """What keeps a payload from being read, found by reading it; None where nothing does."""
    try:
        payload.open()
    except CodecError as error:
        return error
    return None


def _opens(event: Event) -> bool:
    problem = damage(event.stored) if event.stored else None
    if isinstance(problem, UnknownDictionaryError):
        raise problem
    return problem is None
