"""One subscription's condition harms nobody: not by what it raises, not by what it costs."""

import json
import time
from typing import Any

from tests.support.stack import Stack, eventually

NESTED = "payload.files.exists(f, payload.reviewed.exists(r, r == f))"
#: Bounded by the child alone: one loop, whose element is looked for in a list of the event.
COSTLY = "payload.files.exists(f, f in payload.reviewed)"
EXPENSIVE = json.dumps({"files": list(range(20_000)), "reviewed": list(range(-20_000, 0))}).encode()


async def subscription(stack: Stack, name: str) -> dict[str, Any]:
    return await stack.get(f"/contexts/{name}/subscriptions/s")


async def sent(
    stack: Stack, method: str, path: str, body: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    async with (
        stack.session() as session,
        session.request(method, f"/api/v1{path}", json=body) as response,
    ):
        return response.status, dict(await response.json())


async def worker_health(stack: Stack) -> dict[str, Any]:
    url = f"http://127.0.0.1:{stack.worker_port}/health"
    async with stack.session() as session, session.get(url) as response:
        return dict(await response.json())


async def test_a_condition_that_raises_concerns_its_subscription_alone(
    stack: Stack, name: str
) -> None:
    await stack.put(f"/tools/{name}", {"provider": "none"})
    for context in (f"{name}-ratio", f"{name}-other"):
        await stack.put(f"/contexts/{context}", {})
    ratio = {"tool": name, "where": "payload.failed / payload.total > 0"}
    await stack.put(f"/contexts/{name}-ratio/subscriptions/s", ratio)
    await stack.put(f"/contexts/{name}-other/subscriptions/s", {"tool": name})
    # more in a row than open a circuit breaker
    for n in range(25):
        await stack.hook(name, b'{"failed": 1, "total": 0, "n": %d}' % n)
    good = await stack.hook(name, b'{"failed": 1, "total": 1}')
    [update] = await stack.updates(f"{name}-ratio", 1)
    assert update["event_id"] == good
    assert len(await stack.updates(f"{name}-other", 26)) == 26
    health = await worker_health(stack)
    assert name not in health["parts"]["breakers"]["tools"]
    assert f"default/{name}-ratio/s" in health["parts"]["conditions"]["failing"]

    async def counted() -> bool:
        return bool((await subscription(stack, f"{name}-ratio"))["errors"] == 25)

    await eventually(counted, "the owner sees the errors")
    shown = await subscription(stack, f"{name}-ratio")
    assert shown["last_error"].startswith("arithmetic: ")
    assert shown["last_error_at"]
    assert shown["switched_off"] == "", "a sender does not switch off a rule by a zero"
    assert (await subscription(stack, f"{name}-other"))["errors"] == 0

    async def recorded() -> Any:
        _, found = await sent(stack, "POST", "/subscriptions/dry-run", ratio)
        return found["examined"] == 26 and found

    dry = await eventually(recorded, "the event log has all of them")
    assert (dry["matched"], dry["errors"]) == (1, {"arithmetic": 25})


async def test_a_condition_over_its_bounds_is_switched_off_until_it_is_set_anew(
    stack: Stack, name: str
) -> None:
    for tool in (name, f"{name}-innocent"):
        await stack.context(tool, {"provider": "none"})
    await stack.put(f"/contexts/{name}-costly", {})
    path = f"/contexts/{name}-costly/subscriptions/s"
    status, refused = await sent(stack, "PUT", path, {"tool": name, "where": NESTED})
    assert status == 400
    assert "f in payload.reviewed" in refused["detail"]
    await stack.put(path, {"tool": name, "where": COSTLY})
    for n in range(6):
        await stack.hook(name, EXPENSIVE[:-1] + b', "n": %d}' % n)
        begun = time.monotonic()
        await stack.hook(f"{name}-innocent", b'{"n": %d}' % n)
        await stack.updates(f"{name}-innocent", n + 1)
        assert time.monotonic() - begun < 2

    async def off() -> bool:
        return bool((await subscription(stack, f"{name}-costly"))["switched_off"])

    await eventually(off, "it is switched off")
    health = await worker_health(stack)
    assert health["parts"]["conditions"]["status"] == "degraded"
    assert f"default/{name}-costly/s" in health["parts"]["conditions"]["switched_off"]
    # all other contexts have had every event
    assert len(await stack.updates(name, 6)) == 6
    trial = {"tool": name, "where": COSTLY}
    _, dry = await sent(stack, "POST", "/subscriptions/dry-run", trial)
    assert dry["matched"] == 0
    assert dry["errors"]["time"] >= 5

    anew = await stack.put(path, {"tool": name, "where": "payload.n == 7"})
    assert (anew["switched_off"], anew["errors"]) == ("", 0)
    event_id = await stack.hook(name, b'{"n": 7}')
    [update] = await stack.updates(f"{name}-costly", 1)
    assert update["event_id"] == event_id
