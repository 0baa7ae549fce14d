"""Updates are sealed from where they are made to where a client reads them."""

from collections.abc import Iterable, Sequence

from hookstream.app.errors import SealingKeyError
from hookstream.app.feeds.update import erased_update
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.codecs.errors import CodecError, ErasedError, UnknownKeyError
from hookstream.codecs.sealed import daily_place, key_ids, sealed_like, update_place

__all__ = ["FeedSeals"]


class FeedSeals:
    """Seals and opens the JSON of updates; without data keys all of it stays as it is.

    An update is sealed twice: for its event, until it reaches a feed, and for that feed. Both times
    by the key of the month in which its event was received; digests by that of now.
    """

    def __init__(self, data_keys: DataKeys | None = None) -> None:
        self._keys = data_keys

    async def ready(self, tenants: Iterable[str], bodies: Iterable[bytes] = ()) -> None:
        """Have the keys of now, and those that open some updates.

        Raises:
            SealingKeyError: one of them cannot be had now.
        """
        if self._keys is None:
            return
        month = self._keys.month_now()
        await self._keys.ready(key_ids(bodies), {(tenant, month) for tenant in tenants if month})

    def finished(self, tenant: str, event_id: str, update: bytes) -> bytes:
        """An event's update that has no context yet. Raises SealingKeyError."""
        if self._keys is None:
            return update
        return self._keys.seal(tenant, update, update_place(tenant, event_id), event_id)

    def open_finished(self, tenant: str, event_id: str, update: bytes) -> bytes:
        """What :meth:`finished` made.

        Raises:
            ErasedError: its key was destroyed.
            CodecError: it cannot be read.
        """
        return DataKeys.open(update, update_place(tenant, event_id))

    def seal(self, tenant: str, context_id: str, body: bytes, event_id: str = "") -> bytes:
        """One context's update, of an event or of many. Raises SealingKeyError."""
        if self._keys is None:
            return body
        return self._keys.seal(tenant, body, _feed_place(tenant, context_id), event_id)

    def open(self, tenant: str, context_id: str, body: bytes) -> bytes:
        """What :meth:`seal` made, of which the key was fetched; of what is erased its place only.

        What is damaged comes as it is: nobody takes it for an update.

        Raises:
            SealingKeyError: the key was not fetched.
        """
        try:
            return DataKeys.open(body, _feed_place(tenant, context_id))
        except ErasedError:
            return erased_update(context_id)
        except UnknownKeyError as error:
            raise SealingKeyError(str(error)) from error
        except CodecError:
            return body

    async def opened(self, tenant: str, context_id: str, bodies: Sequence[bytes]) -> list[bytes]:
        """Updates of one context, sealed or not, in the clear.

        Raises:
            SealingKeyError: a key cannot be had now.
        """
        if self._keys is not None and (ids := key_ids(bodies)):
            await self._keys.fetch(ids)
        return [self.open(tenant, context_id, body) for body in bodies]

    def again(self, tenant: str, context_id: str, old: bytes, body: bytes) -> bytes:
        """What comes in place of ``old``, an update of that context: sealed by its key, if it was.

        Raises:
            SealingKeyError: the key was not fetched.
        """
        try:
            return sealed_like(old, body, _feed_place(tenant, context_id))
        except ErasedError:
            # destroyed meanwhile: it reads as erased as it is
            return old
        except UnknownKeyError as error:
            raise SealingKeyError(str(error)) from error

    def daily(self, tenant: str, context_id: str, day: str, summary: str) -> str:
        """The text of a day's summary, for the event log. Raises SealingKeyError."""
        if self._keys is None:
            return summary
        return self._keys.seal_text(tenant, summary, daily_place(tenant, context_id, day))

    async def open_daily(self, tenant: str, context_id: str, day: str, summary: str) -> str | None:
        """What :meth:`daily` made; None where its key was destroyed.

        Raises:
            SealingKeyError: a key cannot be had now.
            CodecError: it is damaged.
        """
        if self._keys is None:
            return summary
        return await self._keys.open_text(summary, daily_place(tenant, context_id, day))


def _feed_place(tenant: str, context_id: str) -> bytes:
    # no event's id has a slash
    return update_place(tenant, f"feed/{context_id}")
