"""Who asks."""

from typing import Literal

from hookstream.app.web.models.fields import Model

__all__ = ["MeOut"]


class MeOut(Model):
    """Whose key or session it is, and what it may; ``contexts``: null for all of the tenant's."""

    kind: Literal["admin", "key", "agent", "person"]
    id: str
    name: str
    role: Literal["admin", "owner", "operator", "developer", "auditor", "agent"]
    tenant: str
    contexts: list[str] | None
