"""Payloads between memory and Redis: packed on their way in, made readable on their way out."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from hookstream.app import metrics
from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.errors import CodecError, UnknownDictionaryError, UnknownKeyError
from hookstream.codecs.payload import Packing, StoredPayload
from hookstream.codecs.sealed import KEYS, is_sealed, key_ids, month_of_event, payload_place
from hookstream.codecs.zstd import ZstdCodec, dictionary_id

__all__ = ["Payloads", "damage"]

#: Larger payloads are packed on a thread of their own; a smaller one takes less than 5 ms.
ASIDE_BYTES = 128 * 1024
_RAW_BYTES = metrics.PAYLOAD_BYTES.labels(form="raw")
_STORED_BYTES = metrics.PAYLOAD_BYTES.labels(form="stored")


class Payloads:
    """Packs with the tool's current dictionary, then seals; fetches blobs, keys and dictionaries
    for whole batches.

    ``seen`` counts the events of each tool that came by, for whoever trains dictionaries.
    """

    def __init__(
        self,
        redis: Any,
        dictionaries: Dictionaries,
        packing: Packing,
        data_keys: DataKeys | None = None,
    ) -> None:
        """``data_keys``: without them nothing is sealed, nor opened that is."""
        self.data_keys = data_keys
        self._redis = redis
        self._dictionaries = dictionaries
        self._packing = packing
        self.seen: Counter[str] = Counter()
        #: What knows where else payloads are that were beside their stream, by their events' ids.
        self.elsewhere: Callable[[Sequence[str]], Awaitable[dict[str, bytes]]] | None = None

    def encode(self, event: Event) -> bytes:
        """The event as envelope bytes, its payload packed; one that came packed stays as it came.

        So a large one stays where it is, beside its stream. One that came in the clear is sealed
        where payloads are.

        Raises:
            SealingKeyError: the key is not here; see :meth:`ready`.
        """
        stored = event.stored
        if stored is not None and (stored.key_id or stored.blob or not self.seals):
            return encode_event(event, stored)
        packed = self.pack(event.tenant, event.tool_id, event.event_id, event.payload)
        return encode_event(event, packed)

    @property
    def seals(self) -> bool:
        """Whether new payloads are sealed."""
        return self.data_keys is not None and self.data_keys.seals

    def pack(self, tenant: str, tool_id: str, event_id: str, payload: bytes) -> StoredPayload:
        """An event's new payload in the form in which it is kept: compressed, then sealed.

        Raises:
            SealingKeyError: it is to be sealed, and the key is not here; see :meth:`ready`.
        """
        if not self.seals:
            packed = self._packing.pack(payload, self._dictionaries.current(tool_id))
        else:
            assert self.data_keys is not None
            month = month_of_event(event_id)
            key = self.data_keys.key(tenant, month)
            packed = self._packing.pack(payload, self._dictionaries.current(tool_id, month))
            if key is not None:
                packed = packed.sealed(key, payload_place(tenant, event_id))
        _RAW_BYTES.inc(packed.size)
        _STORED_BYTES.inc(len(packed.data or b""))
        return packed

    def month_now(self) -> str:
        """The month whose key seals what comes now; "" where nothing is sealed."""
        return self.data_keys.month_now() if self.data_keys is not None else ""

    async def opened(self, data: bytes, place: bytes) -> bytes | None:
        """A value that may be sealed, in the clear; None where it is erased.

        Raises:
            SealingKeyError: its key cannot be had now.
            CodecError: it is damaged.
        """
        return data if self.data_keys is None else await self.data_keys.open_payload(data, place)

    async def beside(self, data: bytes, event_id: str) -> tuple[str, bytes]:
        """Of a payload beside its stream the tenant, where it is sealed, and it itself, unpacked.

        b"" where it is erased.

        Raises:
            SealingKeyError: its key cannot be had now.
            UnknownDictionaryError: it is packed with a dictionary that cannot be had.
            CodecError: it is damaged.
        """
        tenant = ""
        if is_sealed(data):
            await self.fetch_keys((data,))
            [number] = key_ids((data,))
            if KEYS.is_destroyed(number):
                return "", b""
            key = KEYS.get(number)
            tenant = key.tenant if key else ""
            data = DataKeys.open(data, payload_place(tenant, event_id))
        await self._dictionaries.fetch({dictionary_id(data)} - {0})
        try:
            opened: bytes = ZstdCodec().loads(data)
        except UnknownDictionaryError:
            raise
        except CodecError:
            # no frame: it was not worth packing
            return tenant, data
        return tenant, opened

    async def fetch_keys(self, values: Iterable[bytes | None]) -> None:
        """Have the keys that open values.

        Raises:
            SealingKeyError: one of them cannot be had now.
        """
        if self.data_keys is not None and (ids := key_ids(values)):
            await self.data_keys.fetch(ids)

    def is_erased(self, tenant: str, event_id: str) -> bool:
        """Whether a key of the month in which an event was received was destroyed."""
        return self.data_keys is not None and self.data_keys.is_erased(tenant, event_id)

    async def resealed(self, data: bytes) -> bytes:
        """Envelope bytes whose payload is in the clear, with it packed and sealed as new ones are.

        Others as they are, and all where nothing is sealed.

        Raises:
            SealingKeyError: a key cannot be had now.
            CodecError: the payload cannot be read.
        """
        if not self.seals:
            return data
        event = decode_event(data)
        if event.stored is not None:
            if event.stored.key_id or event.stored.blob:
                return data
            await self.fetch((event.stored,))
        return await self.encode_aside(event)

    async def ready(self, events: Iterable[Event]) -> None:
        """Have the keys by which these are sealed. No round trip where they are here.

        Raises:
            SealingKeyError: one of them cannot be had now.
        """
        if self.seals:
            assert self.data_keys is not None
            await self.data_keys.ensure(
                {(event.tenant, month_of_event(event.event_id)) for event in events}
            )

    async def encode_aside(self, event: Event) -> bytes:
        """As :meth:`encode`, on another thread where it would hold the event loop up.

        Packing a megabyte takes 0.5 to 20 ms, and lets other threads run meanwhile.

        Raises:
            SealingKeyError: it is to be sealed, and its key cannot be had now.
        """
        await self.ready((event,))
        if event.payload_bytes > ASIDE_BYTES:
            return await asyncio.to_thread(self.encode, event)
        return self.encode(event)

    async def fetch(self, payloads: Iterable[StoredPayload]) -> None:
        """Get what it takes to unpack these: a round trip for blobs, for keys, for dictionaries.

        What cannot be had is told by each payload's ``problem()``, but for keys.

        Raises:
            SealingKeyError: a key cannot be had now.
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
        sealed = {payload.key_id for payload in kept} - {0}
        if sealed and self.data_keys is not None:
            await self.data_keys.fetch(sealed)
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
            SealingKeyError: a key cannot be had at the moment.
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
    if isinstance(problem, UnknownKeyError):
        raise SealingKeyError(str(problem)) from problem
    return problem is None
