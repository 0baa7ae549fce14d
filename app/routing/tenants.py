"""Tenants, and how much each may have and send: pure values, kept with the catalog."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

__all__ = ["ACTIVE", "DELETING", "SUSPENDED", "Tenant", "TenantQuotas"]

#: States of a tenant.
ACTIVE: Final = "active"
SUSPENDED: Final = "suspended"
DELETING: Final = "deleting"


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """How much a tenant may have and send; None: as in the whole installation, or any number.

    The first three are of accepted webhooks, over all receivers; a day is one of UTC. ``sockets``
    are WebSockets over all receivers, ``replays`` those that run at a time.
    """

    events_per_second: float | None = None
    events_per_day: int | None = None
    bytes_per_day: int | None = None
    tools: int | None = None
    contexts: int | None = None
    keys: int | None = None
    subscriptions: int | None = None
    sockets: int | None = None
    replays: int | None = None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "TenantQuotas":
        """Of a row; names that this release does not know are passed over.

        Raises:
            ValueError: one of them is no number above 0.
        """
        known = {one.name for one in fields(cls)}
        found = {name: value for name, value in given.items() if name in known}
        for name, value in found.items():
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise ValueError(f"quota {name} is {value!r}")
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Those that are set, as a row has them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who owns tools, contexts and subscriptions."""

    tenant_id: str
    name: str = ""
    state: str = ACTIVE
    #: Why it is suspended, as the operator said.
    reason: str = ""
    quotas: TenantQuotas = field(default_factory=TenantQuotas)

    @property
    def trouble(self) -> str:
        """Why nothing is taken from it or given to it now; "" where nothing is the matter."""
        if self.state == SUSPENDED:
            why = f" ({self.reason})" if self.reason else ""
            return f"the tenant {self.tenant_id} is suspended{why}: ask the operator"
        if self.state == DELETING:
            return f"the tenant {self.tenant_id} is being deleted"
        return ""
