"""The two tenants of one installation in these runs, and what is called how.

The second one has tools and contexts of the same ids, whose events have the same ids, keys and
delivery ids: what is looked up without the tenant finds the other one's. A ledger calls a tool,
and a context likewise, by its full id (`acme/held`).
"""

from collections.abc import Awaitable, Callable
from typing import Any

from hookstream.app.ids import DEFAULT_TENANT, full_tool_id, own_tool_id
from hookstream.app.web.access import TENANT_HEADER

__all__ = ["DEFAULT_TENANT", "SECOND", "TENANTS", "full", "new_tenant", "own", "tenant_of"]

SECOND = "acme"
TENANTS = (DEFAULT_TENANT, SECOND)

full, own = full_tool_id, own_tool_id


def tenant_of(name: str) -> str:
    """Whose a tool or a context is, by its full id."""
    return name.rpartition("/")[0] or DEFAULT_TENANT


async def new_tenant(call: Callable[..., Awaitable[Any]], tenant: str) -> str:
    """Make a tenant; the key of its owner.

    ``call`` asks with the installation's key: method, path below /api/v1, body, ``headers``.
    """
    await call("POST", "/tenants", {"tenant_id": tenant}, headers={})
    owner = {"name": "owner", "role": "owner"}
    made = await call("POST", "/api-keys", owner, headers={TENANT_HEADER: tenant})
    return str(made["key"])
