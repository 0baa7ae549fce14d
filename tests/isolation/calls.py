"""Every call that there is, made from the OpenAPI document and from the table of roles.

A route that is new is in it by itself. A parameter that nobody has said how to fill is an error
with a sentence: it may be one that names something of another tenant's.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hookstream.app.roles import ROUTES
from tests.isolation.things import Things

__all__ = ["APART", "Call", "CannotFillError", "absent", "calls"]

#: Routes that are no plain calls, and where they are tried.
APART = {
    "GET /contexts/{context_id}/updates": "a WebSocket: sockets.py",
    "* /mcp": "MCP: sockets.py",
    "POST /hooks/{tool_id}": "senders': signatures say who may",
    "POST /hooks/{tool_id}/": "senders': signatures say who may",
    "OPTIONS /hooks/{tool_id}": "senders': a provider's trial of the URL",
    "OPTIONS /hooks/{tool_id}/": "senders': a provider's trial of the URL",
    "POST /hooks/{tenant}/{tool_id}": "senders': signatures say who may",
    "POST /hooks/{tenant}/{tool_id}/": "senders': signatures say who may",
    "OPTIONS /hooks/{tenant}/{tool_id}": "senders': a provider's trial of the URL",
    "OPTIONS /hooks/{tenant}/{tool_id}/": "senders': a provider's trial of the URL",
}
SCHEMA = {"schemaType": "JSON", "schema": '{"type": "object"}'}
#: Bodies of the registry, which is in no OpenAPI document, by how the path begins.
REGISTRY_BODIES: Mapping[str, Any] = {
    "POST /registry/subjects": SCHEMA,
    "POST /registry/compatibility": SCHEMA,
    "PUT /registry/config": {"compatibility": "NONE"},
    "PUT /registry/mode": {"mode": "READWRITE"},
}
#: Query parameters of the registry that show more than otherwise.
REGISTRY_QUERIES = ({}, {"deleted": "true"})
#: Parameters and members of bodies that name nothing of anybody's, and what they are given.
PLAIN: Mapping[str, Any] = {
    "acknowledged": "keep", "action": "*", "after": "0", "age": "30d", "agents": {}, "alert": {},
    "allow_from": [], "at": "08:00", "budget": "1000", "daily": None, "dedup": {},
    "expires_at": None, "fields": {}, "follow": "", "generation": "0", "grace_seconds": 0,
    "keep": "original", "kind": "tool", "models": {},
    "limit": "100", "masking": None, "name": "of b", "options": {}, "ordering": {},
    "priority": "normal", "processes": "all", "provider": "none", "public_url": "",
    "purge": "true", "rate": None, "read": "1", "retention": None, "role": "agent",
    "secrets": [], "since": "2020-01-01T00:00:00Z", "stage": "check", "status": "delivered",
    "template": "{{ payload.n }}", "token_budget": None, "ttl": {}, "type": "*", "types": "*",
    "until": "2099-01-01T00:00:00Z", "webhooks_per_second": None, "where": "", "window": "24h",
    "expect": "1:" + "0" * 64, "seq": 1, "fold": "2", "quotas": {}, "reason": "of b",
    "format": "prometheus", "dry_run": True, "delete_after": "3650d", "data_class": "secret",
    "month": "2020-02", "source": None, "forward": None, "mode": "shadow", "percent": None,
    "marks": [], "all": True, "results": [], "request_price": "0.5", "cpu_price": "0.05",
    "restart": True, "form": "predecessor", "rollback": False,
}  # fmt: skip
#: Those that name something, and what of a tenant's things they are given.
NAMING: Mapping[str, str] = {
    "tenant": "tenant", "tenant_id": "tenant", "confirm": "tenant",
    "tool": "tool_id", "tool_id": "tool_id", "context": "context_id",
    "context_id": "context_id", "contexts": "context_id", "event": "event_id",
    "event_id": "event_id", "batch": "event_id", "letter_id": "letter_id",
    "replay_id": "replay_id", "import_id": "import_id", "imported": "import_id",
    "refusal_id": "refusal_id", "key_id": "key_id", "actor": "key_id",
    "erasure_id": "erasure_id", "hold_id": "hold_id", "policy_id": "policy_id",
    "events": "event_id", "first_event": "event_id", "last_event": "event_id",
    "object": "tool_id", "subject": "subject", "id": "schema_id", "seq": "seq",
}  # fmt: skip
#: Where a parameter of the same name is something else, by how the path begins.
ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("/api/v1/contexts/", "name"): "subscription",
    ("/api/v1/templates/", "name"): "template",
    ("/api/v1/keys", "key_id"): "agent_key_id",
    ("/api/v1/tools/{tool_id}/refusals", "tool_id"): "signed_tool_id",
}
#: What a page goes on behind.
CURSORS: Mapping[str, str] = {
    "/api/v1/events": "{event_id}",
    "/api/v1/losses/events": "{event_id}",
    "/api/v1/losses/deliveries": "1.{event_id}",
    "/api/v1/dead-letters": "9999999999999.{letter_id}",
    "/api/v1/tools/{tool_id}/migration/comparison": "2020-01-01T00:00:00Z",
    "/api/v1/replays": "9999999999999999.{replay_id}",
    "/api/v1/keys": "1.{agent_key_id}",
    "/api/v1/api-keys": "1.{key_id}",
    "/api/v1/audit": "1000000",
    "/api/v1/tenants": "{tenant}",
    "/api/v1/erasures": "{erasure_id}",
    "/api/v1/imports": "{import_id}",
    "/api/v1/tools/{tool_id}/export": "{event_id}",
    "/api/v1/holds": "{hold_id}",
    "/api/v1/retention-policies/{policy_id}/proof": "1000000",
    "/api/v1/audit/verify": "1:" + "0" * 64,
    "/api/v1/lifecycle/verify": "events:{event_id}",
}


class CannotFillError(AssertionError):
    """A parameter that is new."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``sent``: words of the other tenant's that are in it."""

    route: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    sent: frozenset[str] = frozenset()

    @property
    def lists(self) -> bool:
        """Whether it only reads, and names nothing."""
        return self.method == "GET" and not self.sent


def absent(things: Things) -> Things:
    """Ids of the same forms that nobody has."""
    number = uuid.uuid4().hex
    marker = f"nobody{number[:12]}"
    ids = {
        name: value.replace(things.marker, marker).replace(things.tenant, marker)
        for name, value in things.ids.items()
    }
    for name in ("event_id", "replay_id", "letter_id", "erasure_id", "hold_id", "import_id"):
        # of the same time and partition: only what is random is another
        ids[name] = things.ids[name][:24] + number[:12]
    return Things(
        marker,
        marker,
        {
            **ids,
            "refusal_id": "1764378000000-7",
            "key_id": f"key-{number[:12]}",
            "agent_key_id": f"key-{number[12:24]}",
            "schema_id": "1999999999",
            "seq": things.ids["seq"],
        },
    )


def calls(document: Mapping[str, Any], things: Things) -> Iterator[Call]:
    """Each route of the table, with one way to call it or several.

    Raises:
        CannotFillError: a parameter, or a member of a body, is not known here.
    """
    for route in ROUTES:
        if route in APART:
            continue
        method, path = route.split(" ", 1)
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is not None:
            yield from _described(route, operation, document, things)
        elif path.startswith("/registry"):
            yield from _of_registry(route, things)
        else:
            yield _call(route, things)


def _described(
    route: str, operation: Mapping[str, Any], document: Mapping[str, Any], things: Things
) -> Iterator[Call]:
    """A call with nothing that may be left out, and one with each that may."""
    wanted: dict[str, Any] = {}
    optional: list[tuple[str, Any]] = []
    path = route.split(" ", 1)[1]
    body = operation.get("requestBody")
    if body is not None:
        schema = body["content"]["application/json"]["schema"]
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for name, member in schema.get("properties", {}).items():
            value = _member(path, name, member, things)
            if name in schema.get("required", ()):
                wanted[name] = value
            else:
                optional.append((name, value))
    queries = [
        (parameter["name"], str(_value(path, parameter["name"], things)))
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    ]
    yield _call(route, things, body=wanted if body else None)
    for name, value in optional:
        yield _call(route, things, body={**wanted, name: value})
    if len(optional) > 1:
        naming = {name: value for name, value in optional if name in NAMING}
        if len(naming) > 1:
            yield _call(route, things, body={**wanted, **naming})
    for query in queries:
        yield _call(route, things, query=(query,), body=wanted if body else None)


def _of_registry(route: str, things: Things) -> Iterator[Call]:
    body = next((b for begins, b in REGISTRY_BODIES.items() if route.startswith(begins)), None)
    if body is None and not route.startswith(("GET ", "DELETE ")):
        raise CannotFillError(f"{route}: say in REGISTRY_BODIES what is sent there")
    for query in REGISTRY_QUERIES:
        yield _call(route, things, query=tuple(query.items()), body=body)


def _call(
    route: str, things: Things, query: tuple[tuple[str, str], ...] = (), body: Any = None
) -> Call:
    method, path = route.split(" ", 1)
    url = re.sub(r"{(\w+)}", lambda found: str(_value(path, found[1], things)), path)
    text = json.dumps([url, query, body])
    sent = frozenset(
        word for word in {*things.ids.values(), *things.also} if len(word) > 8 and word in text
    )
    return Call(route, method, url, query, body, sent)


def _member(path: str, name: str, member: Mapping[str, Any], things: Things) -> Any:
    if name == "schema":
        return {"subject": things.ids["subject"], "on_violation": "mark"}
    value = _value(path, name, things)
    kinds = [member, *member.get("anyOf", ())]
    if any(kind.get("type") == "array" for kind in kinds) and not isinstance(value, list):
        return [value]
    if any(kind.get("type") in ("integer", "number") for kind in kinds) and value is not None:
        return int(value)
    return value


def _value(path: str, name: str, things: Things) -> Any:
    """What a parameter is given. Raises CannotFillError."""
    if name == "cursor":
        begins = next((known for known in CURSORS if path == known), "")
        return CURSORS.get(begins, "{context_id}").format(**things.ids)
    if name == "version":
        return "1"
    if (path, name) == ("/api/v1/imports", "source"):
        return "of b"
    for (begins, known), which in ELSEWHERE.items():
        if known == name and path.startswith(begins) and f"{{{name}}}" in path:
            return things.ids[which]
    if name in NAMING:
        return things.ids[NAMING[name]]
    if name in PLAIN:
        return PLAIN[name]
    raise CannotFillError(
        f"{path}: tests/isolation/calls.py does not know what {name!r} is. Where it names "
        "something of a tenant's, put it into NAMING, else into PLAIN"
    )
