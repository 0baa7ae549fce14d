"""Summary templates of a tenant's own: tried, set, versioned, taken away."""

import json
import time
from typing import Any

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.stack import Stack, eventually


async def linear(stack: Stack, tool: str, title: str, action: str = "create") -> str:
    data = {"identifier": "ENG-1", "title": title}
    stamp = {"webhookTimestamp": time.time_ns() // 1_000_000}
    body = json.dumps({"type": "Issue", "action": action, "data": data, **stamp}).encode()
    headers = PROVIDERS["linear"].sign(
        body, "s" * 20, SignatureOptions(), now=0.0, event_type="", delivery_id="", url=""
    )
    return await stack.hook(tool, body, headers)


async def call(stack: Stack, method: str, path: str, expect: int, **body: Any) -> dict[str, Any]:
    async with (
        stack.session() as session,
        session.request(method, f"/api/v1{path}", json=body or None) as response,
    ):
        text = await response.text()
        assert response.status == expect, text
        return dict(json.loads(text)) if text else {}


async def summary(stack: Stack, name: str, after: int) -> dict[str, Any]:
    [update] = await stack.updates(name, 1, after=after)
    return update


async def test_template_is_tried_set_changed_and_taken_away(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "linear", "secrets": ["s" * 20]})
    path = f"/templates/{name}"
    mine = {"provider": "linear", "types": "Issue.create", "template": "New: {{ facts.title }}"}
    event_id = await linear(stack, name, "one")
    assert (await summary(stack, name, 0))["summary"].startswith("Linear ENG-1 created")

    async def previewed() -> dict[str, Any]:
        shown = await call(stack, "POST", "/templates/preview", 200, **mine)
        return {line["event_id"]: line for line in shown["events"]}

    async def recorded() -> bool:
        return event_id in await previewed()

    await eventually(recorded, "the event is recorded")
    assert (await previewed())[event_id]["summary"] == "New: one"

    assert (await call(stack, "PUT", path, 201, **mine))["version"] == 1
    await linear(stack, name, "two")
    update = await summary(stack, name, 1)
    assert update["summary"] == "New: two"
    assert update["template"].startswith("linear/Issue.create@")

    assert (await call(stack, "PUT", path, 200, **mine))["version"] == 1
    changed = {**mine, "template": "Newer: {{ facts.title }}"}
    assert (await call(stack, "PUT", path, 200, **changed))["version"] == 2
    await linear(stack, name, "three")
    assert (await summary(stack, name, 2))["summary"] == "Newer: three"
    shown = await call(stack, "GET", path, 200)
    assert [version["template"] for version in shown["versions"]] == [
        changed["template"],
        mine["template"],
    ]
    listed = await call(stack, "GET", "/templates?limit=1000", 200)
    assert name in [template["name"] for template in listed["templates"]]
    assert len(listed["builtin"]) > 90

    await call(stack, "DELETE", path, 204)
    await linear(stack, name, "four")
    assert (await summary(stack, name, 3))["summary"].startswith("Linear ENG-1 created")
    await call(stack, "GET", path, 404)
    await call(stack, "DELETE", path, 404)


async def test_template_that_may_not_be_is_refused(stack: Stack, name: str) -> None:
    for given, says in (
        ({"provider": "linear", "template": "{{ payload."}, "not valid (line 1)"),
        ({"provider": "linear", "template": "{% set a = 1 %}"}, "assign is not for templates"),
        ({"provider": "nobody", "template": "x"}, "there is no provider"),
        ({"provider": "linear", "template": ""}, "template"),
    ):
        for method, path in (("PUT", f"/templates/{name}"), ("POST", "/templates/preview")):
            problem = await call(stack, method, path, 400, **given)
            assert says in json.dumps(problem)
    await call(stack, "GET", f"/templates/{name}", 404)
