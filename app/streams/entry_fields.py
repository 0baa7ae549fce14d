"""An entry's fields as they stand in a stream.

``d`` is what it is, ``r`` the failed event that it comes from, ``a`` how often that was tried,
``u`` for how long it is in doubt whether it came before.
"""

from collections.abc import Sequence

from hookstream.app.streams.batch import Entry
from hookstream.codecs.errors import CodecError

__all__ = ["read_entry"]


def read_entry(entry_id: str, parts: Sequence[bytes], *, sent: bool) -> Entry:
    """What a stream holds under an id, not yet decoded; whatever that is, it is an entry.

    ``parts``: names and values in turn. ``sent``: an earlier attempt may have sent its outputs.
    """
    fields = dict(zip(parts[::2], parts[1::2], strict=False))
    raw = fields.get(b"d", b"")
    try:
        failed_event_id = fields.get(b"r", b"").decode()
        attempts = int(fields.get(b"a", 0))
        if b"d" not in fields:
            raise CodecError(f"it has no field d, only {sorted(fields)[:10]}")
    except (ValueError, CodecError) as error:
        # nobody of ours wrote that: for a person to look at
        entry = Entry(entry_id, raw or repr(parts)[:10_000].encode(), None)
        entry.fail("decode", error, final=True)
        return entry
    return Entry(
        entry_id,
        raw,
        None,
        failed_event_id=failed_event_id,
        attempts=attempts,
        sent=sent,
        doubt_ms=_doubt_ms(fields.get(b"u")),
    )


def _doubt_ms(field: bytes | None) -> int | None:
    """For how long it is not known whether an entry's event was appended before; None: it was not.

    In the field ``u``, which only entries out of a spool have. What cannot be read is a doubt, too.
    """
    if field is None:
        return None
    return int(field) if field.isdigit() and len(field) < 19 else 0
