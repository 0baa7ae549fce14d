"""Who is it that changes something: what a transaction tells the triggers of the audit trail."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Acting", "acting", "acting_now"]


@dataclass(frozen=True, slots=True)
class Acting:
    """A caller of the API in one call. ``call`` is a random id of ours, which all its rows have.

    ``id`` is that of the key, never the key; ``request_id`` may be one of the client's choice.
    """

    kind: str
    id: str
    name: str
    role: str
    address: str
    request_id: str
    call: str

    def out(self) -> dict[str, Any]:
        """As a record of the audit trail begins."""
        return {
            "actor": {"kind": self.kind, "id": self.id, "name": self.name},
            "role": self.role,
            "address": self.address,
            "request_id": self.request_id,
            "call": self.call,
        }


_ACTING: ContextVar[str] = ContextVar("acting", default="")


@contextmanager
def acting(who: Acting) -> Iterator[None]:
    """Within this block, and tasks that it begins, transactions are those of ``who``."""
    token = _ACTING.set(orjson.dumps(who.out()).decode())
    try:
        yield
    finally:
        _ACTING.reset(token)


def acting_now() -> str:
    """What transactions are to say; "" for nothing."""
    return _ACTING.get()
