"""What reaches a context: one thing followed across tools, every tool at once, the dry run."""

import json
from typing import Any

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.stack import Stack, eventually

PULL = {"number": 5, "title": "OPS-7: mend the disk"}
REPO = {"full_name": "acme/app"}


async def tools(stack: Stack, name: str) -> tuple[str, str]:
    """A code host and a tracker, without signatures to sign."""
    code, tracker = f"{name}-code", f"{name}-tracker"
    await stack.put(f"/tools/{code}", {"provider": "github", "secrets": ["s" * 20]})
    await stack.put(f"/tools/{tracker}", {"provider": "jira", "secrets": ["s" * 20]})
    return code, tracker


async def github(stack: Stack, tool: str, event: str, **payload: Any) -> str:
    body = json.dumps({"repository": REPO, **payload}).encode()
    headers = PROVIDERS["github"].sign(
        body, "s" * 20, SignatureOptions(), now=0.0, event_type=event, delivery_id="", url=""
    )
    return await stack.hook(tool, body, headers)


async def jira(stack: Stack, tool: str, key: str) -> str:
    body = json.dumps({"webhookEvent": "jira:issue_updated", "issue": {"key": key}}).encode()
    headers = PROVIDERS["jira"].sign(
        body, "s" * 20, SignatureOptions(), now=0.0, event_type="", delivery_id="", url=""
    )
    return await stack.hook(tool, body, headers)


async def test_a_context_follows_one_ticket_across_tools(stack: Stack, name: str) -> None:
    code, tracker = await tools(stack, name)
    await stack.put(f"/contexts/{name}", {"name": name})
    path = f"/contexts/{name}/subscriptions/ops-7"
    saved = await stack.put(path, {"tool": "*", "follow": "ticket:OPS-7"})
    assert (saved["tool"], saved["follow"]) == ("*", "ticket:OPS-7")
    wanted = [
        await github(stack, code, "pull_request", action="opened", pull_request=PULL),
        await jira(stack, tracker, "OPS-7"),
    ]
    await github(stack, code, "pull_request", action="opened", pull_request={"number": 6})
    await jira(stack, tracker, "OPS-8")
    wanted.append(await github(stack, code, "pull_request", action="closed", pull_request=PULL))
    updates = await stack.updates(name, 3)
    # order is kept within a tool
    assert {update["event_id"] for update in updates} == set(wanted)
    assert all("ticket:OPS-7" in update["keys"] for update in updates)
    [opened] = [update for update in updates if update["event_id"] == wanted[0]]
    assert opened["keys"][0] == "github:acme/app#5"
    assert opened["provenance"]["signature"] == "verified"
    assert opened["provenance"]["source"] == "webhook"
    assert (await stack.get(f"/events/{wanted[0]}"))["source"] == "webhook"
    assert opened["untrusted"] == [
        "summary",
        "data",
        "event_type",
        "keys",
        "provenance.author",
    ]

    # a tool that comes later is one of "every tool", too
    await stack.put(f"/tools/{name}-late", {"provider": "jira", "secrets": ["s" * 20]})
    late = await jira(stack, f"{name}-late", "OPS-7")
    [update] = await stack.updates(name, 1, after=3)
    assert update["event_id"] == late


async def test_the_highest_priority_of_a_context_counts(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"}, priority="low")
    subscriptions = f"/contexts/{name}/subscriptions"
    urgent = {"tool": name, "where": "payload.n == 2", "priority": "critical"}
    await stack.put(f"{subscriptions}/zz-urgent", urgent)
    for n in (1, 2):
        await stack.hook(name, b'{"n": %d}' % n)
    updates = await stack.updates(name, 2)
    assert [update["priority"] for update in updates] == ["low", "critical"]


async def test_a_condition_sees_the_keys(stack: Stack, name: str) -> None:
    code, _ = await tools(stack, name)
    await stack.put(f"/contexts/{name}", {"name": name})
    where = '"github:acme/app#5" in event.keys'
    await stack.put(f"/contexts/{name}/subscriptions/a", {"tool": code, "where": where})
    await github(stack, code, "issues", action="opened", issue={"number": 4})
    event_id = await github(stack, code, "pull_request", action="opened", pull_request=PULL)
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == event_id


async def test_dry_run_shows_what_would_have_matched(stack: Stack, name: str) -> None:
    code, _ = await tools(stack, name)
    first = await github(stack, code, "pull_request", action="opened", pull_request=PULL)
    await github(stack, code, "issues", action="opened", issue={"number": 4})
    last = await github(stack, code, "pull_request", action="closed", pull_request=PULL)

    async def dry_run(expect: int = 200, **wanted: Any) -> dict[str, Any]:
        async with (
            stack.session() as session,
            session.post("/api/v1/subscriptions/dry-run", json=wanted) as response,
        ):
            assert response.status == expect, await response.text()
            return dict(await response.json())

    async def recorded() -> bool:
        return bool((await dry_run(tool=code))["examined"] == 3)

    await eventually(recorded, "the events are recorded")
    found = await dry_run(tool=code, types=["pull_request.*"], follow="ticket:OPS-7")
    assert (found["examined"], found["matched"], found["unreadable"]) == (3, 2, 0)
    assert [event["event_id"] for event in found["events"]] == [last, first]
    assert "acme/app#5 pull request opened" in found["events"][1]["summary"]
    assert (await dry_run(tool=code, where="payload.issue.number == 4"))["matched"] == 1
    assert (await dry_run(tool=code, until="2020-01-01T00:00:00Z"))["examined"] == 0
    assert (await dry_run(tool=code, limit=1))["examined"] == 1
    assert "not valid CEL" in (await dry_run(400, tool=code, where="payload."))["detail"]
    await dry_run(404, tool="nothing-here")
