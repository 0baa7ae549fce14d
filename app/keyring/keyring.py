"""The key ring of a process: wrapping keys by their name, and data keys of tenants."""

import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.wrapping import KeySource, WrappingKey
from hookstream.codecs.sealing import KEY_BYTES, DataKey

__all__ = ["KeyRing", "Named"]

#: A data key in the clear is forgotten after so long, and unwrapped again when it is needed.
DATA_KEY_SECONDS: Final = 3600.0
MAX_DATA_KEYS: Final = 10_000

#: A data key, and the name of what wraps it.
Named = tuple[str, DataKey]


class KeyRing:
    """Makes, wraps and unwraps data keys; those in use are kept in memory for an hour.

    Every data key is a tenant's. One that this process has opened is used on, so that tenants have
    few: each is a question to the service that wraps.
    """

    def __init__(self, sources: Sequence[KeySource] = ()) -> None:
        """The first key of the first source wraps. Without sources nothing is sealed."""
        self._sources = sources
        #: By wrapping key's name and wrapped data key; when it was unwrapped.
        self._opened: OrderedDict[tuple[str, bytes], tuple[float, DataKey]] = OrderedDict()
        #: The data key that a tenant seals by, in the same way.
        self._sealing: dict[str, tuple[str, bytes]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no wrapping key has been asked for at all."""
        return not self._sources

    def current(self) -> WrappingKey:
        """The key that wraps what is sealed from now on.

        Raises:
            SealingKeyError: it cannot be had.
        """
        return self._sources[0].wrapping_keys()[0]

    async def sealing_key(self, tenant: str) -> Named:
        """The data key that seals for a tenant, and the name of what wraps it.

        Raises:
            SealingKeyError: the wrapping key cannot be had now.
        """
        wrapping = self.current()
        known = self._sealing.get(tenant)
        if known and known[0] == wrapping.name:
            return wrapping.name, await self.data_key(tenant, *known)
        key = os.urandom(KEY_BYTES)
        wrapped = await wrapping.wrap(key)
        made = DataKey(key, wrapped)
        self._keep((wrapping.name, wrapped), made)
        self._sealing[tenant] = (wrapping.name, wrapped)
        return wrapping.name, made

    async def wrap(self, key: bytes) -> tuple[str, bytes]:
        """A data key, wrapped, behind the name of what has wrapped it.

        Raises:
            SealingKeyError: the wrapping key cannot be had now.
        """
        wrapping = self.current()
        return wrapping.name, await wrapping.wrap(key)

    async def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """A data key in the clear, which is kept by whoever asks.

        Raises:
            SealingKeyError: ``name`` is none of the keys that there are, or cannot be asked now.
        """
        return await self._wrapping(name).unwrap(wrapped)

    async def data_key(self, tenant: str, name: str, wrapped: bytes) -> DataKey:
        """A data key that ``name`` has wrapped.

        Raises:
            SealingKeyError: ``name`` is none of the keys that there are, or cannot be asked now.
        """
        place = (name, wrapped)
        known = self._opened.get(place)
        if known and time.monotonic() - known[0] < DATA_KEY_SECONDS:
            return known[1]
        found = DataKey(await self._wrapping(name).unwrap(wrapped), wrapped)
        self._keep(place, found)
        self._sealing.setdefault(tenant, place)
        return found

    def _wrapping(self, name: str) -> WrappingKey:
        if self.is_empty:
            raise SealingKeyError(
                f"sealed by {name}, and this process has no key: set HOOKSTREAM_KEY_URL"
            )
        trouble: SealingKeyError | None = None
        for source in self._sources:
            try:
                keys = source.wrapping_keys()
            except SealingKeyError as error:
                trouble = trouble or error
                continue
            for key in keys:
                if key.name == name:
                    return key
        raise trouble or SealingKeyError(
            f"sealed by {name}, which is none of the keys of this process: bring that key back "
            "(its line in the key file, its URL in HOOKSTREAM_KEY_URL), or set tools' secrets anew"
        )

    def _keep(self, place: tuple[str, bytes], key: DataKey) -> None:
        self._opened[place] = (time.monotonic(), key)
        self._opened.move_to_end(place)
        if len(self._opened) > MAX_DATA_KEYS:
            self._opened.popitem(last=False)
