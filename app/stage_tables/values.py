"""Keys and values of stages' tables as bytes: JSON that comes back as what was put in."""

import json
from typing import Any, Final

from hookstream.app.errors import TableUseError

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_VALUE_BYTES",
    "Key",
    "decode_key",
    "decode_value",
    "encode_key",
    "encode_value",
]

#: Text, a whole number, or several of those.
Key = str | int | tuple[str | int, ...]

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 64 * 1024

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode_key(table: str, key: Any) -> bytes:
    """Bytes of a key.

    Raises:
        TableUseError: it is of another kind, or longer than :data:`MAX_KEY_BYTES`.
    """
    parts = key if type(key) is tuple else (key,)
    if not all(type(part) in (str, int) for part in parts):
        raise TableUseError(
            f"a key of the table {table!r} is text, a whole number or a tuple of those, not "
            f"{_kind(key)}"
        )
    return _bounded(table, "key", key, MAX_KEY_BYTES)


def decode_key(data: bytes) -> Key:
    """The key in bytes of :func:`encode_key`."""
    key = json.loads(data)
    return tuple(key) if isinstance(key, list) else key


def encode_value(table: str, value: Any) -> bytes:
    """Bytes of a value.

    Raises:
        TableUseError: it is no JSON, would come back as something else (a tuple as a list, a
            number as a dictionary's key as text), or is over :data:`MAX_VALUE_BYTES`.
    """
    data = _bounded(table, "value", value, MAX_VALUE_BYTES)
    if isinstance(value, (dict, list, tuple)) and not _same(json.loads(data), value):
        raise TableUseError(
            f"a value of the table {table!r} would come back as something else: use lists in place "
            "of tuples, and text for the keys of dictionaries"
        )
    return data


def decode_value(data: bytes) -> Any:
    """The value in bytes of :func:`encode_value`."""
    return json.loads(data)


def _bounded(table: str, what: str, value: Any, most: int) -> bytes:
    try:
        data = _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TableUseError(
            f"a {what} of the table {table!r} has to be JSON: {_kind(value)} is not ({error})"
        ) from error
    if len(data) > most:
        raise TableUseError(
            f"a {what} of the table {table!r} has {len(data)} bytes as JSON, and may have {most}: "
            "keep less, or under several keys"
        )
    return data


def _same(found: Any, given: Any) -> bool:
    if isinstance(given, dict):
        return found.keys() == given.keys() and all(_same(found[k], given[k]) for k in given)
    if isinstance(given, list):
        return all(_same(*pair) for pair in zip(found, given, strict=True))
    return bool(found == given)


def _kind(value: Any) -> str:
    return type(value).__name__
