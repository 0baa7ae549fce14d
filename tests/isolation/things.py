"""What tenant A has: one of everything, with words in it that nobody else may ever see."""

import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.isolation.tenants import Tenant
from tests.support.stack import Stack, eventually

__all__ = ["Things", "make_things"]


@dataclass(slots=True)
class Things:
    """Ids by the name that parameters have for them, and what must never be in an answer."""

    tenant: str
    #: Stands in whatever A has written itself, ids and contents.
    marker: str
    ids: dict[str, str] = field(default_factory=dict)
    #: Ids that were given by Hookstream, and secrets.
    also: set[str] = field(default_factory=set)

    @property
    def canaries(self) -> set[str]:
        return {self.marker, self.tenant, *self.also}


class Client:
    """Calls the API with one key."""

    def __init__(self, stack: Stack, key: str) -> None:
        self._stack = stack
        self._headers = {"Authorization": f"Bearer {key}"}

    async def call(self, method: str, path: str, body: Any = None, *statuses: int) -> Any:
        async with (
            aiohttp.ClientSession(self._stack.url, headers=self._headers) as session,
            session.request(method, path, json=body) as response,
        ):
            text = await response.text()
            assert response.status in (statuses or (200, 201, 202, 204)), (path, text)
            return json.loads(text) if text.startswith(("{", "[")) else text


async def make_things(stack: Stack, tenant: Tenant, marker: str) -> Things:
    """Make everything of a tenant, wait until it is at rest, and collect its ids."""
    found = Things(tenant.name, marker)
    own = Client(stack, tenant.key)
    api = "/api/v1"
    tool, context, schema = f"{marker}-tool", f"{marker}-context", f"{marker}-schema"
    secret = f"{marker}-{'s' * 32}"
    rule = {"type": "object", "required": ["n"], "title": f"{marker} schema"}
    registered = await own.call(
        "POST",
        f"/registry/subjects/{schema}/versions",
        {"schemaType": "JSON", "schema": json.dumps(rule)},
    )
    await own.call("PUT", f"/registry/config/{schema}", {"compatibility": "FULL"})
    dead = {"provider": "none", "schema": {"subject": schema, "on_violation": "dead-letter"}}
    await own.call("PUT", f"{api}/tools/{tool}", dead)
    signed = f"{marker}-signed"
    await own.call("PUT", f"{api}/tools/{signed}", {"provider": "github", "secrets": [secret]})
    await own.call("PUT", f"{api}/contexts/{context}", {"name": f"{marker} context"})
    await own.call(
        "PUT",
        f"{api}/contexts/{context}/subscriptions/{marker}-subscription",
        {"tool": tool, "types": ["*"], "where": f"payload.n != '{marker} condition'"},
    )
    template = f"{marker}-template"
    words = {"provider": "none", "types": "*", "template": f"{marker} says {{{{ payload.n }}}}"}
    await own.call("PUT", f"{api}/templates/{template}", words)
    agent = await own.call(
        "POST", f"{api}/keys", {"contexts": [context], "name": f"{marker} agent"}
    )
    key = await own.call(
        "POST", f"{api}/api-keys", {"role": "developer", "name": f"{marker} program"}
    )
    door = f"{tenant.name}/{tool}"
    events = [
        await stack.hook(door, json.dumps({"n": f"{marker} payload {n}"}).encode())
        for n in range(2)
    ]
    letter = await stack.hook(door, json.dumps({"x": f"{marker} breaks its schema"}).encode())
    async with aiohttp.ClientSession(stack.url) as stranger:
        body = f'{{"n": "{marker} refused"}}'.encode()
        async with stranger.post(f"/hooks/{tenant.name}/{signed}", data=body) as response:
            assert response.status == 401

    async def refused() -> Any:
        return (await own.call("GET", f"{api}/tools/{signed}/refusals"))["refusals"]

    async def delivered() -> Any:
        page = await own.call("GET", f"{api}/contexts/{context}/updates")
        return len(page["updates"]) == 2 and page["updates"]

    async def is_dead() -> Any:
        return (await own.call("GET", f"{api}/dead-letters"))["letters"]

    async def recorded() -> Any:
        rows = (await own.call("GET", f"{api}/events"))["events"]
        return len(rows) == 3 and {row["status"] for row in rows} == {"delivered", "dead"}

    refusals = await eventually(refused, "a refusal")
    updates = await eventually(delivered, "two updates")
    letters = await eventually(is_dead, "a dead letter")
    await eventually(recorded, "three events in the log")
    replay = await own.call("POST", f"{api}/replays", {"event_id": events[0]})

    async def replayed() -> bool:
        path = f"{api}/replays/{replay['replay_id']}"
        done = (await own.call("GET", path))["status"] == "done"
        page = await own.call("GET", f"{api}/contexts/{context}/updates")
        return bool(done and len(page["updates"]) == 3)

    await eventually(replayed, "the replay is done")
    rows = (await own.call("GET", f"{api}/events"))["events"]
    because = f"{marker} because"
    erasure = await own.call(
        "POST", f"{api}/erasures", {"events": events[:1], "dry_run": True, "reason": because}
    )
    brought = await own.call("POST", f"{api}/imports", {"tool": tool, "source": f"{marker} source"})
    hold = await own.call("POST", f"{api}/holds", {"tool": tool, "reason": because})
    policy = f"{marker}-policy"
    await own.call(
        "PUT",
        f"{api}/retention-policies/{policy}",
        {"tool": tool, "delete_after": "3650d", "reason": because},
    )

    async def looked() -> bool:
        path = f"{api}/erasures/{erasure['erasure_id']}"
        return bool((await own.call("GET", path))["status"] == "done")

    await eventually(looked, "the dry run is through")
    found.ids = {
        "tenant": tenant.name,
        "tool_id": tool,
        "signed_tool_id": signed,
        "context_id": context,
        "event_id": events[0],
        "letter_id": letters[0]["letter_id"],
        "replay_id": replay["replay_id"],
        "refusal_id": refusals[0]["refusal_id"],
        "key_id": key["key_id"],
        "agent_key_id": agent["key_id"],
        "erasure_id": erasure["erasure_id"],
        "hold_id": hold["hold_id"],
        "import_id": brought["import_id"],
        "policy_id": policy,
        "subscription": f"{marker}-subscription",
        "template": template,
        "subject": schema,
        "schema_id": str(registered["id"]),
        "seq": str(updates[0]["seq"]),
    }
    found.also = {
        *events,
        letter,
        *(row["message_id"] for row in rows),
        replay["replay_id"],
        erasure["erasure_id"],
        hold["hold_id"],
        brought["import_id"],
        refusals[0]["refusal_id"],
        key["key_id"],
        agent["key_id"],
        key["key"],
        agent["key"],
        tenant.key,
        secret,
    }
    return found
