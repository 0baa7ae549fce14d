"""What each role may do: every route and method, and who may call it.

This is the one place that says so. A route that is not here is refused when a process starts, and
``docs/access.md`` shows what stands here. A new route is a new row: nothing else is to be edited.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["KEY_ROLES", "PAGES", "ROUTES", "May", "MissingRowError", "Role", "may", "may_give"]


class Role(StrEnum):
    """What a caller is. Each key has one; a person gets one by signing in."""

    #: The installation's API key: what concerns more than one tenant, too.
    ADMIN = "admin"
    #: Everything within a tenant.
    OWNER = "owner"
    #: Runs it: also replays, failed events, keys, and payloads as they were sent.
    OPERATOR = "operator"
    #: Sets up tools, contexts, subscriptions, templates and schemas; payloads are masked.
    DEVELOPER = "developer"
    #: Reads settings, lists and the audit trail; no payloads, and changes nothing.
    AUDITOR = "auditor"
    #: Reads the contexts that its key names.
    AGENT = "agent"


#: Those that a key, or a person who signs in, can have.
KEY_ROLES: Final = (Role.OWNER, Role.OPERATOR, Role.DEVELOPER, Role.AUDITOR, Role.AGENT)


@dataclass(frozen=True, slots=True)
class May:
    """Who may call a route. ``anybody``: it asks for no key."""

    roles: frozenset[Role] = frozenset()
    anybody: bool = False


class MissingRowError(LookupError):
    """A route that is served has no row here."""


def _of(*roles: Role) -> May:
    return May(frozenset({Role.ADMIN, *roles}))


#: No key is asked for: signatures, or nothing at all, say who may.
OPEN: Final = May(anybody=True)
#: Concerns more than one tenant.
INSTALLATION: Final = _of()
OWNERS: Final = _of(Role.OWNER)
OPERATORS: Final = _of(Role.OWNER, Role.OPERATOR)
BUILDERS: Final = _of(Role.OWNER, Role.OPERATOR, Role.DEVELOPER)
#: What has no payloads.
READERS: Final = _of(Role.OWNER, Role.OPERATOR, Role.DEVELOPER, Role.AUDITOR)
AUDITORS: Final = _of(Role.OWNER, Role.OPERATOR, Role.AUDITOR)
#: Feeds, and payloads as the tool's rules for personal data let them be seen.
FEEDS: Final = _of(Role.OWNER, Role.OPERATOR, Role.DEVELOPER, Role.AGENT)
ALL: Final = _of(*KEY_ROLES)

_TOOL = "/api/v1/tools/{tool_id}"
_CONTEXT = "/api/v1/contexts/{context_id}"
_LETTERS = "/api/v1/dead-letters"
_UNKNOWN = "/api/v1/unknown-tools/refusals"
_KEY = "/api/v1/api-keys/{key_id}"
_TENANT = "/api/v1/tenants/{tenant_id}"
_SUBJECT = "/registry/subjects/{subject}"
_SCHEMA = "/registry/schemas/ids/{id}"

#: By method and path, as the router has them. HEAD is as GET; ``*`` is any method.
ROUTES: Final[Mapping[str, May]] = {
    # tools
    "GET /api/v1/tools": READERS,
    f"PUT {_TOOL}": BUILDERS,
    f"GET {_TOOL}": READERS,
    f"DELETE {_TOOL}": BUILDERS,
    f"POST {_TOOL}/learnt-secret": OPERATORS,
    f"GET {_TOOL}/migration": READERS,
    f"PUT {_TOOL}/migration": OPERATORS,
    f"DELETE {_TOOL}/migration": OPERATORS,
    f"POST {_TOOL}/migration/confirm": BUILDERS,
    f"POST {_TOOL}/migration/results": BUILDERS,
    f"GET {_TOOL}/migration/comparison": READERS,
    f"GET {_TOOL}/refusals": READERS,
    f"GET {_TOOL}/refusals/{{refusal_id}}": OPERATORS,
    f"POST {_TOOL}/refusals/{{refusal_id}}/replay": OPERATORS,
    f"GET {_TOOL}/export": OPERATORS,
    f"GET {_UNKNOWN}": INSTALLATION,
    f"GET {_UNKNOWN}/{{refusal_id}}": INSTALLATION,
    f"POST {_UNKNOWN}/{{refusal_id}}/replay": INSTALLATION,
    # contexts, their feeds and subscriptions
    "GET /api/v1/contexts": READERS,
    f"PUT {_CONTEXT}": BUILDERS,
    f"GET {_CONTEXT}": ALL,
    f"DELETE {_CONTEXT}": BUILDERS,
    f"GET {_CONTEXT}/digest": FEEDS,
    f"POST {_CONTEXT}/ack": FEEDS,
    f"GET {_CONTEXT}/updates": FEEDS,
    f"GET {_CONTEXT}/updates/{{seq}}/folded": FEEDS,
    f"GET {_CONTEXT}/daily": FEEDS,
    f"GET {_CONTEXT}/subscriptions": READERS,
    f"PUT {_CONTEXT}/subscriptions/{{name}}": BUILDERS,
    f"GET {_CONTEXT}/subscriptions/{{name}}": READERS,
    f"DELETE {_CONTEXT}/subscriptions/{{name}}": BUILDERS,
    "POST /api/v1/subscriptions/dry-run": BUILDERS,
    # keys and quotas
    "POST /api/v1/keys": OPERATORS,
    "GET /api/v1/keys": READERS,
    "DELETE /api/v1/keys/{key_id}": OPERATORS,
    "POST /api/v1/api-keys": OPERATORS,
    "GET /api/v1/api-keys": READERS,
    f"GET {_KEY}": READERS,
    f"POST {_KEY}/rotate": OPERATORS,
    f"DELETE {_KEY}": OPERATORS,
    "GET /api/v1/quotas": READERS,
    # templates
    "GET /api/v1/templates": READERS,
    "POST /api/v1/templates/preview": BUILDERS,
    "PUT /api/v1/templates/{name}": BUILDERS,
    "GET /api/v1/templates/{name}": READERS,
    "DELETE /api/v1/templates/{name}": BUILDERS,
    # events, and what became of them
    "GET /api/v1/events": ALL,
    "GET /api/v1/events/{event_id}": FEEDS,
    "GET /api/v1/events/{event_id}/history": READERS,
    "POST /api/v1/replays": OPERATORS,
    "GET /api/v1/replays": READERS,
    "GET /api/v1/replays/{replay_id}": READERS,
    "POST /api/v1/replays/{replay_id}/cancel": OPERATORS,
    "POST /api/v1/imports": OPERATORS,
    "GET /api/v1/imports": READERS,
    "GET /api/v1/imports/{import_id}": READERS,
    "POST /api/v1/imports/{import_id}/page": OPERATORS,
    "POST /api/v1/imports/{import_id}/finish": OPERATORS,
    "POST /api/v1/imports/{import_id}/stop": OPERATORS,
    f"GET {_LETTERS}": READERS,
    f"POST {_LETTERS}/retry": OPERATORS,
    f"POST {_LETTERS}/discard": OPERATORS,
    f"GET {_LETTERS}/{{letter_id}}": OPERATORS,
    f"POST {_LETTERS}/{{letter_id}}/retry": OPERATORS,
    f"DELETE {_LETTERS}/{{letter_id}}": OPERATORS,
    "GET /api/v1/losses/deliveries": READERS,
    "GET /api/v1/losses/events": READERS,
    # the audit trail
    "GET /api/v1/audit": AUDITORS,
    "GET /api/v1/audit/export": AUDITORS,
    "GET /api/v1/audit/verify": AUDITORS,
    # erasures, legal holds, retention policies
    "POST /api/v1/erasures": OWNERS,
    "GET /api/v1/erasures": AUDITORS,
    "GET /api/v1/erasures/{erasure_id}": AUDITORS,
    "POST /api/v1/holds": OPERATORS,
    "GET /api/v1/holds": AUDITORS,
    "GET /api/v1/holds/{hold_id}": AUDITORS,
    "POST /api/v1/holds/{hold_id}/release": OWNERS,
    "GET /api/v1/retention-policies": READERS,
    "GET /api/v1/retention-policies/{policy_id}": READERS,
    "PUT /api/v1/retention-policies/{policy_id}": OWNERS,
    "DELETE /api/v1/retention-policies/{policy_id}": OWNERS,
    "GET /api/v1/retention-policies/{policy_id}/proof": AUDITORS,
    # keys by which content is sealed
    "GET /api/v1/data-keys": READERS,
    "POST /api/v1/data-keys/rewrap": INSTALLATION,
    "DELETE /api/v1/data-keys/{month}": OWNERS,
    # tenants
    "GET /api/v1/tenants": INSTALLATION,
    "POST /api/v1/tenants": INSTALLATION,
    f"GET {_TENANT}": READERS,
    f"PATCH {_TENANT}": INSTALLATION,
    f"POST {_TENANT}/suspend": INSTALLATION,
    f"POST {_TENANT}/resume": INSTALLATION,
    f"DELETE {_TENANT}": INSTALLATION,
    f"GET {_TENANT}/metrics": READERS,
    f"GET {_TENANT}/masking": READERS,
    f"PUT {_TENANT}/masking": OPERATORS,
    f"DELETE {_TENANT}/masking": OPERATORS,
    # the installation
    "GET /api/v1/partitions": INSTALLATION,
    "GET /api/v1/lifecycle": INSTALLATION,
    "POST /api/v1/lifecycle/run": INSTALLATION,
    "GET /api/v1/lifecycle/verify": INSTALLATION,
    "GET /api/v1/openapi.json": READERS,
    # the schema registry
    "GET /registry": READERS,
    "GET /registry/": READERS,
    "GET /registry/schemas/types": READERS,
    f"GET {_SCHEMA}": READERS,
    f"GET {_SCHEMA}/schema": READERS,
    f"GET {_SCHEMA}/versions": READERS,
    f"GET {_SCHEMA}/subjects": READERS,
    "GET /registry/subjects": READERS,
    f"POST {_SUBJECT}": READERS,
    f"DELETE {_SUBJECT}": BUILDERS,
    f"GET {_SUBJECT}/versions": READERS,
    f"POST {_SUBJECT}/versions": BUILDERS,
    f"GET {_SUBJECT}/versions/{{version}}": READERS,
    f"DELETE {_SUBJECT}/versions/{{version}}": BUILDERS,
    f"GET {_SUBJECT}/versions/{{version}}/schema": READERS,
    f"GET {_SUBJECT}/versions/{{version}}/referencedby": READERS,
    "POST /registry/compatibility/subjects/{subject}/versions": READERS,
    "POST /registry/compatibility/subjects/{subject}/versions/{version}": READERS,
    "GET /registry/mode": READERS,
    "GET /registry/mode/{subject}": READERS,
    "PUT /registry/mode": BUILDERS,
    "PUT /registry/mode/{subject}": BUILDERS,
    "GET /registry/config": READERS,
    "GET /registry/config/{subject}": READERS,
    "PUT /registry/config": BUILDERS,
    "PUT /registry/config/{subject}": BUILDERS,
    "DELETE /registry/config": BUILDERS,
    "DELETE /registry/config/{subject}": BUILDERS,
    # agents
    "GET /contexts/{context_id}/updates": FEEDS,
    "* /mcp": _of(Role.OWNER, Role.OPERATOR, Role.AGENT),
    "GET /api/v1/me": ALL,
    # without a key
    "GET /sign-in": OPEN,
    "GET /sign-in/callback": OPEN,
    "POST /sign-out": OPEN,
    "POST /hooks/{tool_id}": OPEN,
    "GET /hooks/{tool_id}": OPEN,
    "OPTIONS /hooks/{tool_id}": OPEN,
    "POST /hooks/{tool_id}/": OPEN,
    "GET /hooks/{tool_id}/": OPEN,
    "OPTIONS /hooks/{tool_id}/": OPEN,
    "POST /hooks/{tenant}/{tool_id}": OPEN,
    "GET /hooks/{tenant}/{tool_id}": OPEN,
    "OPTIONS /hooks/{tenant}/{tool_id}": OPEN,
    "POST /hooks/{tenant}/{tool_id}/": OPEN,
    "GET /hooks/{tenant}/{tool_id}/": OPEN,
    "OPTIONS /hooks/{tenant}/{tool_id}/": OPEN,
    "GET /health": OPEN,
    "GET /health/live": OPEN,
    "GET /health/ready": OPEN,
    "GET /metrics": OPEN,
    "GET /": OPEN,
    "GET /console.js": OPEN,
    "GET /console/style.css": OPEN,
    "GET /console/session.js": OPEN,
    "GET /console/erasures": OPEN,
    "GET /console/erasures.js": OPEN,
    "GET /console/migration": OPEN,
    "GET /console/migration.js": OPEN,
}

#: A page of a stage that does not say that it is public: it may show what is any tenant's.
PAGES: Final = INSTALLATION

#: Roles in the order of what they may; who gives one may all that it may.
_ABOVE: Final[Mapping[Role, frozenset[Role]]] = {
    Role.ADMIN: frozenset(KEY_ROLES),
    Role.OWNER: frozenset(KEY_ROLES),
    Role.OPERATOR: frozenset(KEY_ROLES) - {Role.OWNER},
}


def may(method: str, path: str) -> May:
    """Who may call a route; ``path`` as the router has it.

    Raises:
        MissingRowError: it has no row.
    """
    method = "GET" if method == "HEAD" else method
    found = ROUTES.get(f"{method} {path}") or ROUTES.get(f"* {path}")
    if found is None:
        raise MissingRowError(
            f"{method} {path} is served, and app/roles.py does not say who may call it: give it a "
            "row there"
        )
    return found


def may_give(own: Role, role: Role) -> bool:
    """Whether who has ``own`` may make, renew and revoke keys of ``role``: none above it."""
    return role in _ABOVE.get(own, ())
