"""Whose rows statements see: of one tenant, within a call of the API; else those of all.

A context variable says so, which the one place sets that every view behind a key passes
(``Access.require_key``); the pool makes each transaction that of the tenant. What reads or writes
for the whole installation although a call has asked for it (the catalog, the archive, the audit
trail) says :func:`whole`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["ROLE", "of_tenant", "tenant_now", "whole"]

#: The role that row-level security holds; migration 0033 makes it.
ROLE: Final = "hookstream_tenant"

_TENANT: ContextVar[str] = ContextVar("tenant", default="")


@contextmanager
def of_tenant(tenant: str) -> Iterator[None]:
    """Within this block, and tasks that it begins, statements see this tenant's rows only."""
    token = _TENANT.set(tenant)
    try:
        yield
    finally:
        _TENANT.reset(token)


@contextmanager
def whole() -> Iterator[None]:
    """Within this block statements see the rows of all tenants."""
    with of_tenant(""):
        yield


def tenant_now() -> str:
    """The tenant whose rows statements see; "" for all."""
    return _TENANT.get()
