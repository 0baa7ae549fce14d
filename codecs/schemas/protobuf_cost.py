"""What it takes to read JSON values as a protobuf message, found out without doing it."""

from itertools import islice
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

__all__ = ["ENOUGH_SECONDS", "parse_seconds"]

#: Where the look ends: more is expensive, however much more.
ENOUGH_SECONDS: Final = 0.01
#: Nanoseconds at most, measured: a value; a field that its message may have, set or not; a name
#: that it has not; a byte of text; one of a well-known type, which may be a FieldMask.
_VALUE, _FIELD, _NAME, _BYTE, _KNOWN_BYTE = 5000.0, 350.0, 250.0, 35.0, 350.0
#: Elements of one list or object: so many are enough.
_LOOKED_AT: Final = int(ENOUGH_SECONDS * 1e9 / _VALUE)
_KNOWN: Final = "google.protobuf."


def parse_seconds(data: Any, message: Descriptor) -> float:
    """At most so long, about, protobuf's ``ParseDict`` takes; :data:`ENOUGH_SECONDS` or more where
    it is expensive. Takes a tenth of that at most.
    """
    most = ENOUGH_SECONDS * 1e9
    cost = 0.0
    fields: dict[str, dict[str, FieldDescriptor]] = {}
    waiting: list[tuple[Any, Descriptor | None]] = [(data, message)]
    while waiting and cost < most:
        value, kind = waiting.pop()
        cost += _VALUE
        if isinstance(value, str):
            cost += len(value) * (_BYTE if kind is None else _KNOWN_BYTE)
        elif isinstance(value, list):
            # what is not looked at any more counts by its number
            cost += len(value) * _NAME
            waiting += ((one, kind) for one in value[:_LOOKED_AT])
        elif isinstance(value, dict):
            cost += len(value) * _NAME
            if kind is None or kind.full_name.startswith(_KNOWN) or kind.GetOptions().map_entry:
                # an Any may be of any message that there is
                cost += _FIELD * 50
                is_map = kind is not None and kind.GetOptions().map_entry
                below = kind.fields_by_name["value"].message_type if kind and is_map else kind
                waiting += ((one, below) for one in islice(value.values(), _LOOKED_AT))
                continue
            known = fields.get(kind.full_name)
            if known is None:
                known = fields[kind.full_name] = _names(kind)
            cost += _FIELD * len(known) / 2
            for name in value.keys() & known.keys():
                waiting.append((value[name], known[name].message_type))
    return cost / 1e9


def _names(message: Descriptor) -> dict[str, FieldDescriptor]:
    """A message's fields by both names that JSON may have for them."""
    fields = message.fields
    return {f.json_name: f for f in fields} | {f.name: f for f in fields}
