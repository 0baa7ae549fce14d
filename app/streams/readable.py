"""Payloads of a batch, made readable before its stages see them."""

from collections.abc import Sequence
from dataclasses import replace

from hookstream.app.payloads.payloads import Payloads, damage
from hookstream.app.streams.batch import Entry, event_of
from hookstream.codecs.dictionaries import BOOK
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import UnknownDictionaryError
from hookstream.codecs.routed import Finished, Routed
from hookstream.codecs.sealed import KEYS, key_ids, month_of_event

__all__ = ["is_away", "make_readable"]


def is_away(entries: Sequence[Entry]) -> bool:
    """Whether it takes a round trip to make a payload of a batch readable."""
    for entry in entries:
        event = event_of(entry.value)
        if isinstance(event, Finished) and KEYS.missing(key_ids(event.updates)):
            return True
        stored = event.stored if isinstance(event, Event) else None
        if stored is None:
            continue
        if stored.data is None or (stored.key_id and KEYS.missing((stored.key_id,))):
            return True
        if BOOK.missing((stored.dictionary_id,)):
            return True
    return False


async def make_readable(
    payloads: Payloads, entries: Sequence[Entry], *, unpack: bool = False
) -> None:
    """Make a batch's payloads readable; an entry where that fails is taken out of its way.

    One whose dictionary cannot be had is tried again later; what is lost or damaged becomes a
    dead letter. ``unpack`` looks into each payload now, to find damage. Without blobs, new keys
    and new dictionaries there is no round trip: 1 µs an event.

    All of the batch waits for a data key that cannot be had, be it to open what came or to seal
    what is made of it.

    Raises:
        SealingKeyError: a data key cannot be had; nothing was decided.
        redis.exceptions.RedisError: Redis does not answer; nothing was decided.
    """
    packed = []
    seals = payloads.seals
    months: set[tuple[str, str]] = set()
    finished: set[int] = set()
    for entry in entries:
        if isinstance(entry.value, Event):
            payloads.seen[entry.value.tool_id] += 1
        event = event_of(entry.value)
        if isinstance(event, Finished):
            finished |= key_ids(event.updates)
        if seals and isinstance(event, (Event, Finished)):
            months.add((event.tenant, month_of_event(event.event_id)))
        if isinstance(event, Event) and event.stored is not None:
            packed.append((entry, event, event.stored))
    if payloads.data_keys is not None and (months or finished):
        if seals:
            # digests are of now
            months |= {(tenant, payloads.month_now()) for tenant, _ in months}
        await payloads.data_keys.ready(finished, months)
    if not packed:
        return
    await payloads.fetch(payload for _, _, payload in packed)
    for entry, event, payload in packed:
        problem = damage(payload) if unpack else payload.problem()
        if problem is None:
            continue
        entry.fail("decode", problem, final=not isinstance(problem, UnknownDictionaryError))
        # whoever still looks at it must not stumble: its failed event keeps the bytes as they came
        empty = replace(event, payload=payload.emptied())  # type: ignore[arg-type]
        routed = isinstance(entry.value, Routed)
        entry.value = replace(entry.value, event=empty) if routed else empty
