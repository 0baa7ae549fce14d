"""The one look-up by a dotted path into JSON: ``event.id``, ``items.0.sku``.

JSON is what orjson or simdjson made of it: nothing else is looked into. A number is a place in a
list, or a name in an object.
"""

from functools import lru_cache
from typing import Any, Final

from simdjson import Object

from hookstream.app.providers.json_body import ARRAYS

__all__ = ["text_at", "value_at", "word_at"]

#: Paths that are remembered in parts: those of the providers' files, and of tools' options.
MAX_PATHS: Final = 4096


@lru_cache(maxsize=MAX_PATHS)
def _steps(path: str) -> tuple[tuple[str, int | None], ...]:
    """The names of a path, each with the place that it is in a list."""
    return tuple(
        (name, int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else None)
        for name in path.split(".")
    )


def value_at(data: Any, path: str, missing: Any = None) -> Any:
    """The value at a dotted path; ``missing`` where there is none.

    A marker of the caller's own as ``missing`` tells a null from nothing.
    """
    for name, place in _steps(path):
        # three to twenty look-ups an event: types that are compared are found sooner
        if type(data) is dict:
            data = data.get(name, missing)
        elif type(data) is Object:
            data = _last(data, name, missing)
        elif place is not None and type(data) in ARRAYS and place < len(data):
            data = data[place]
        else:
            return missing
    return data


def _last(data: Any, name: str, missing: Any) -> Any:
    """What an object has by a name; of several the last, as where it is converted."""
    # simdjson finds the first of several, and takes 10 µs to say that there is none
    times = list(data).count(name)
    if times == 1:
        return data[name]
    return data.as_dict()[name] if times else missing


def text_at(data: Any, path: str) -> str:
    """The text at a dotted path; "" where there is none."""
    value = value_at(data, path)
    return value if isinstance(value, str) else ""


def word_at(data: Any, path: str) -> str:
    """A text or a whole number at a dotted path, as text; "" where there is neither."""
    value = value_at(data, path)
    if value is None or type(value) is str:
        return value or ""
    return str(value) if type(value) is int else ""
