"""Erasures, holds and retention policies over HTTP, on the shared system."""

import json
import uuid
from typing import Any

import aiohttp

from hookstream.app.stores.retention_policies import MOST_POLICIES
from tests.integration.commands.test_commands import run
from tests.support.stack import Stack, eventually

MAIL = "john.roe@example.com"


async def call(stack: Stack, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
    async with (
        aiohttp.ClientSession(stack.url, headers=stack.headers) as session,
        session.request(method, f"/api/v1{path}", json=body) as response,
    ):
        text = await response.text()
        assert response.status == expect, text
        return json.loads(text) if text else None


async def recorded(stack: Stack, tool: str, count: int) -> None:
    async def there() -> bool:
        return len((await stack.get("/events", tool=tool))["events"]) >= count

    await eventually(there, "events are recorded")


async def done(stack: Stack, erasure_id: str) -> dict[str, Any]:
    async def is_done() -> Any:
        shown = await stack.get(f"/erasures/{erasure_id}")
        return shown if shown["status"] == "done" else None

    found: dict[str, Any] = await eventually(is_done, "the erasure is done", 60)
    return found


async def test_a_hold_wins_over_an_erasure_until_it_is_released(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    event = await stack.hook(name, b'{"n": 1}')
    await stack.updates(name, 1)
    await recorded(stack, name, 1)
    hold = await call(stack, "POST", "/holds", {"tool": name, "reason": "a lawsuit"}, 201)
    problem = await call(stack, "DELETE", f"/tools/{name}", expect=409)
    assert hold["hold_id"] in problem["detail"]
    begun = await call(stack, "POST", "/erasures", {"events": [event]}, 202)

    async def waits() -> bool:
        shown = await stack.get(f"/erasures/{begun['erasure_id']}")
        return shown["status"] == "waiting" and hold["hold_id"] in shown["detail"]

    await eventually(waits, "it waits for the hold")
    assert (await stack.get(f"/events/{event}"))["payload"] == {"n": 1}
    released = f"/holds/{hold['hold_id']}/release"
    await call(stack, "POST", released, {"reason": "settled"})
    await call(stack, "POST", released, {"reason": "settled"}, 409)
    shown = await done(stack, begun["erasure_id"])
    assert {place["place"]: place["erased"] for place in shown["places"]}["feeds"] == 1
    gone = await stack.get(f"/events/{event}")
    assert (gone["status"], gone["tier"], "payload" in gone) == ("erased", "gone", False)
    assert gone["message_id"] == ""
    [update] = (await stack.get(f"/contexts/{name}/updates"))["updates"]
    assert (update["kind"], update["seq"], update["summary"]) == ("erased", 1, "")
    rows = (await stack.get("/audit", object=hold["hold_id"]))["rows"]
    assert [row["record"]["action"] for row in rows] == ["hold.released", "hold.placed"]
    rows = (await stack.get("/audit", object=begun["erasure_id"]))["rows"]
    assert [row["record"]["action"] for row in rows] == ["erasure.finished", "erasure.begun"]


async def test_a_trial_counts_and_takes_nothing_out(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    mail = f"{name}@example.com"
    event = await stack.hook(name, json.dumps({"mail": mail}).encode())
    await stack.updates(name, 1)
    await recorded(stack, name, 1)
    finished = run("erase", "subject", mail, "--dry-run", "--json", stack=stack)
    assert finished.returncode == 0, finished.stderr
    shown = json.loads(finished.stdout)
    found = {place["place"]: (place["found"], place["erased"]) for place in shown["places"]}
    assert found["events stream"] == (1, 0)
    assert found["feeds"] == (1, 0)
    assert (await stack.get(f"/events/{event}"))["payload"] == {"mail": mail}
    # for whom it was stands nowhere
    everything = json.dumps([await stack.get("/erasures"), await stack.get("/audit", limit="1000")])
    assert mail not in everything
    assert mail not in stack.log.read_text()
    finished = run("erase", "list", stack=stack)
    assert shown["erasure_id"] in finished.stdout


async def test_a_tool_and_a_context_are_erased_alone(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    other = f"{name}-other"
    await stack.put(f"/tools/{other}", {"provider": "none"})
    await stack.put(f"/contexts/{other}", {"name": other})
    await stack.put(f"/contexts/{other}/subscriptions/all", {"tool": name, "types": ["*"]})
    await stack.put(f"/contexts/{other}/subscriptions/more", {"tool": other, "types": ["*"]})
    mine, kept = await stack.hook(name, b'{"n": 1}'), await stack.hook(other, b'{"n": 2}')
    await stack.updates(other, 2)
    await recorded(stack, other, 1)
    await recorded(stack, name, 1)
    begun = await call(stack, "POST", "/erasures", {"context": name}, 202)
    await done(stack, begun["erasure_id"])
    kinds = [one["kind"] for one in (await stack.get(f"/contexts/{name}/updates"))["updates"]]
    assert kinds == ["erased"]
    assert (await stack.get(f"/events/{mine}"))["payload"] == {"n": 1}
    finished = run("erase", "tool", name, "--yes", stack=stack)
    assert finished.returncode == 0, finished.stderr + finished.stdout
    assert (await stack.get(f"/events/{mine}"))["status"] == "erased"
    assert (await stack.get(f"/events/{kept}"))["payload"] == {"n": 2}
    updates = (await stack.get(f"/contexts/{other}/updates"))["updates"]
    assert sorted(one["kind"] for one in updates) == ["erased", "update"]
    # what comes from now on is nobody's past
    later = await stack.hook(name, b'{"n": 3}')

    async def there() -> bool:
        return bool((await stack.get(f"/events/{later}"))["status"] == "delivered")

    await eventually(there, "a new event is delivered")


async def test_what_cannot_be_asked_for_is_refused_with_a_sentence(stack: Stack) -> None:
    for body, said in (
        ({}, "exactly one of"),
        ({"tool": "a", "context": "b"}, "exactly one of"),
        ({"subject": ["abc"]}, "fewer than 5 characters"),
        ({"subject": []}, "subject"),
        ({"events": [str(uuid.uuid4())]}, "UUIDv7"),
    ):
        assert said in (await call(stack, "POST", "/erasures", body, 400))["detail"], body
    for body, said in (
        ({}, "reason"),
        ({"reason": "x", "since": "2026-01-02T00:00:00Z", "first_event": str(uuid.UUID(int=1))},
         "either"),
        ({"reason": "x", "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
         "behind its beginning"),
    ):  # fmt: skip
        assert said in (await call(stack, "POST", "/holds", body, 400))["detail"], body
    path = "/retention-policies/p"
    assert "from 1h" in (await call(stack, "PUT", path, {"delete_after": "1m"}, 400))["detail"]
    bad = {"delete_after": "1d", "data_class": "colour"}
    assert "data_class" in (await call(stack, "PUT", path, bad, 400))["detail"]
    await call(stack, "GET", f"/erasures/{uuid.uuid4()}", expect=400)
    missing = "01890000-0000-7000-8000-000000000000"
    await call(stack, "GET", f"/erasures/{missing}", expect=404)
    await call(stack, "GET", f"/holds/{missing}", expect=404)


async def test_policies_and_holds_from_a_shell(stack: Stack, name: str) -> None:
    made = run(
        "retention", "set", name, "--tool", name, "--data-class", "payment",
        "--delete-after", "30d", "--reason", "PCI", stack=stack,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "720h" in made.stdout
    assert name in run("retention", "list", stack=stack).stdout
    assert "nothing has been deleted" in run("retention", "proof", name, stack=stack).stdout
    assert run("retention", "delete", name, stack=stack).returncode == 0
    assert run("retention", "delete", name, stack=stack).returncode != 0
    placed = run("holds", "place", "--tool", name, "--reason", "asked", "--json", stack=stack)
    hold_id = json.loads(placed.stdout)["hold_id"]
    assert hold_id in run("holds", "list", stack=stack).stdout
    assert run("holds", "release", hold_id, stack=stack).returncode != 0
    released = run("holds", "release", hold_id, "--reason", "over", stack=stack)
    assert released.returncode == 0, released.stderr


async def test_what_somebody_has_set_is_named_and_waited_for(stack: Stack, name: str) -> None:
    mail = f"{name}@example.org"
    await stack.put(f"/contexts/{name}", {"name": f"updates for {mail}"})
    begun = await call(stack, "POST", "/erasures", {"subject": [mail]}, 202)

    async def is_open() -> Any:
        shown = await stack.get(f"/erasures/{begun['erasure_id']}")
        return shown if shown["status"] == "open" and name in shown["detail"] else None

    shown = await eventually(is_open, "it says what is left", 60)
    assert f"the context {name} names the person" in shown["detail"]
    await stack.put(f"/contexts/{name}", {"name": "updates"})
    shown = await done(stack, begun["erasure_id"])
    left = {place["place"]: place["left"] for place in shown["places"] if place["left"]}
    # who has set it when stays, for its time
    assert list(left) == ["audit trail (kept for its time)"]


async def test_a_tenant_has_so_many_policies(stack: Stack, name: str) -> None:
    have = len((await stack.get("/retention-policies"))["policies"])
    policy = {"tool": name, "delete_after": "30d"}
    for n in range(have, MOST_POLICIES):
        await call(stack, "PUT", f"/retention-policies/{name}-{n}", policy)
    refused = await call(stack, "PUT", f"/retention-policies/{name}-more", policy, 409)
    assert "200 retention policies" in refused["detail"]
    # one that is there can be changed
    await call(stack, "PUT", f"/retention-policies/{name}-{have}", {**policy, "reason": "x"})
    for n in range(have, MOST_POLICIES):
        await call(stack, "DELETE", f"/retention-policies/{name}-{n}", expect=204)
