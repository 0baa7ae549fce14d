"""Data keys for tests that have no database: those they add, and no others can be had."""

import os
from types import SimpleNamespace
from typing import Any, cast

from hookstream.app.errors import UnavailableError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.wrapping import LocalKey
from hookstream.app.postgres.pool import Postgres
from hookstream.codecs.sealed import KEYS, MonthKey

__all__ = ["Away", "new_key", "sealing"]


class Away:
    """A PostgreSQL that has had all migrations, and is away."""

    schema = SimpleNamespace(known=SimpleNamespace(has=lambda name: True))

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        raise UnavailableError("PostgreSQL is away")

    fetchrow = execute = fetch


class _Ring:
    def wrapping_keys(self) -> list[LocalKey]:
        return [LocalKey(bytes(range(32)))]


def sealing(now_ms: int, **kwargs: Any) -> DataKeys:
    """Data keys of a process that seals, and has none yet; ``now_ms`` is its time."""
    ring = KeyRing([_Ring()])
    return DataKeys(ring, cast(Postgres, Away()), wanted=True, now_ms=lambda: now_ms, **kwargs)


def new_key(tenant: str = "default", month: str = "2026-11", *, known: bool = True) -> MonthKey:
    """A new key; in the book of this process unless it is not ``known``."""
    number = int.from_bytes(os.urandom(8), "big") >> 1
    key = MonthKey(number, tenant, month, os.urandom(32))
    if known:
        KEYS.add(key)
    return key
