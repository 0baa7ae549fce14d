"""From what an identity token says of a person to tenant and role."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hookstream.app.roles import KEY_ROLES, Role

__all__ = ["PEOPLE", "Mapped", "RoleMapping", "parse_roles"]

#: What a person can be, from the most to the least; agents have keys.
PEOPLE: Final = tuple(role for role in KEY_ROLES if role != Role.AGENT)
#: As an id of the API.
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MOST_VALUES: Final = 1000


def parse_roles(text: str) -> dict[str, Role]:
    """Values of a claim, each with the role that it stands for: ``admins=owner,devs=developer``.

    Raises:
        ValueError: it is written otherwise, or names what no person can be.
    """
    found: dict[str, Role] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        value, equals, role = part.rpartition("=")
        if not equals or not value or role not in PEOPLE:
            raise ValueError(
                f"{part!r}: VALUE=ROLE, by commas; a role is one of {', '.join(PEOPLE)}"
            )
        found[value] = Role(role)
    return found


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a person may, and where."""

    tenant: str
    role: Role


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """``claim``: whose values name roles; ``tenant_claim``: "" where everybody is of ``tenant``."""

    claim: str
    roles: Mapping[str, Role]
    tenant_claim: str = ""
    tenant: str = "default"

    def of(self, claims: Mapping[str, Any]) -> Mapped | None:
        """The highest role that a person's claims give; None where they give none."""
        values = _values(claims.get(self.claim))
        given = {self.roles[value] for value in values if value in self.roles}
        role = next((role for role in PEOPLE if role in given), None)
        tenant = claims.get(self.tenant_claim) if self.tenant_claim else self.tenant
        if role is None or not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            return None
        return Mapped(tenant, role)


def _values(claim: Any) -> list[str]:
    """One text, or several; of anything else none."""
    several = claim if isinstance(claim, list) else [claim]
    return [value for value in several[:MOST_VALUES] if isinstance(value, str)]
