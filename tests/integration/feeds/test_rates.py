"""A context's rate: what exceeds it is folded, nothing is dropped, each event can be fetched."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.summaries.tokens import count_tokens
from tests.integration.web.test_agent_keys import call, make
from tests.support.stack import Stack, eventually, fresh


async def limited(stack: Stack, name: str, rate: dict[str, Any], **context: Any) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.put(f"/contexts/{name}", {"rate": rate, **context})


async def send(stack: Stack, name: str, numbers: range) -> list[str]:
    return [await stack.hook(name, b'{"n": %d, "title": "thing %d"}' % (n, n)) for n in numbers]


async def feed(stack: Stack, name: str) -> list[dict[str, Any]]:
    page = await stack.get(f"/contexts/{name}/updates", limit="1000")
    return list(page["updates"])


async def opened(stack: Stack, name: str) -> list[str]:
    """The events of a feed in its order, those behind a digest in its place."""
    found: list[str] = []
    for seq, update in enumerate(await feed(stack, name), 1):
        assert update["seq"] == seq
        if update["kind"] == "update":
            found.append(update["event_id"])
            continue
        after, inside = 0, list[str]()
        while page := (
            await stack.get(f"/contexts/{name}/updates/{seq}/folded", after=str(after), limit="7")
        )["updates"]:
            inside += [one["event_id"] for one in page]
            after = page[-1]["place"]
        assert len(inside) == update["folded"]["count"]
        assert update["folded"]["event_ids"] == inside[:100]
        found += inside
    return found


async def throttled(stack: Stack, name: str, count: int) -> None:
    """Wait until so many updates are held up, as the metrics say."""
    gauge = f'hookstream_context_throttled_updates{{context="{name}",tenant="default"}} {count}.0'

    async def held_up() -> bool:
        async with stack.session() as session, fresh(session, "/metrics") as response:
            return gauge in await response.text()

    await eventually(held_up, f"{count} are held up")


async def all_there(stack: Stack, name: str, sent: list[str]) -> None:
    async def delivered() -> bool:
        return len(await opened(stack, name)) == len(sent)

    await eventually(delivered, "everything is delivered")
    assert await opened(stack, name) == sent


async def test_flood_becomes_few_updates_and_every_event_can_be_fetched(
    stack: Stack, name: str
) -> None:
    rate = {"updates_per_second": 2, "burst": 3}
    await limited(stack, name, rate, token_budget=120)
    begun = time.monotonic()
    sent = await send(stack, name, range(60))
    await all_there(stack, name, sent)
    updates = await feed(stack, name)
    assert len(updates) <= 3 + 2 * (time.monotonic() - begun) + 1
    digests = [update for update in updates if update["kind"] == "digest"]
    assert digests
    for digest in digests:
        assert digest["tokens"] == count_tokens(digest["summary"]) <= 120
        assert digest["untrusted"] == ["summary"]
        assert digest["folded"]["first_at"] <= digest["folded"]["last_at"]
        assert str(digest["folded"]["count"]) in digest["summary"]

    async def recorded() -> Any:
        event = await stack.get(f"/events/{sent[40]}")
        return event["status"] == "delivered" and event["deliveries"]

    # throttled or not, an event says where it is
    [delivery] = await eventually(recorded, "the delivery is recorded")
    assert delivery["as"] == "digest"
    assert (await stack.get(f"/events/{sent[0]}"))["deliveries"][0]["as"] == "update"
    assert (await stack.get(f"/events/{sent[40]}"))["payload"]["n"] == 40
    # what is asked for over all of it sees the events, not the digests
    asked = await stack.get(f"/contexts/{name}/digest", budget="500")
    assert (asked["updates"], asked["events"]) == (len(updates), 60)
    inside = [i for g in [*asked["groups"], *asked["omitted"]] for i in g["event_ids"]]
    assert sorted(inside) == sorted(sent)
    await stack.get(f"/contexts/{name}/updates/1/folded", 404)
    await stack.get(f"/contexts/{name}/updates/x/folded", 400)


async def test_critical_passes_a_spent_rate_and_what_was_before_it_comes_first(
    stack: Stack, name: str
) -> None:
    await limited(stack, name, {"updates_per_second": 0.01, "burst": 2})
    urgent = {"tool": name, "where": "payload.n >= 100", "priority": "critical"}
    await stack.put(f"/contexts/{name}/subscriptions/urgent", urgent)
    sent = await send(stack, name, range(12))
    await throttled(stack, name, 10)
    sent += await send(stack, name, range(100, 101))
    await all_there(stack, name, sent)
    kinds = [(update["kind"], update["priority"]) for update in await feed(stack, name)]
    assert kinds == [*[("update", "normal")] * 2, ("digest", "normal"), ("update", "critical")]


async def test_rate_that_is_taken_away_lets_everything_go(stack: Stack, name: str) -> None:
    await limited(stack, name, {"updates_per_second": 0.001, "burst": 1})
    sent = await send(stack, name, range(5))
    await throttled(stack, name, 4)
    await stack.put(f"/contexts/{name}", {})
    await all_there(stack, name, sent)


async def test_rate_that_is_raised_counts_at_once(stack: Stack, name: str) -> None:
    await limited(stack, name, {"updates_per_second": 0.0001, "burst": 1})
    sent = await send(stack, name, range(5))
    await throttled(stack, name, 4)
    await stack.put(f"/contexts/{name}", {"rate": {"updates_per_second": 5, "burst": 1}})
    await all_there(stack, name, sent)


async def test_rate_that_cannot_be_reckoned_with_is_refused(stack: Stack, name: str) -> None:
    for slow in (1e-310, 5e-324, 1e-9):
        body = {"rate": {"updates_per_second": slow}}
        async with (
            stack.session() as session,
            session.put(f"/api/v1/contexts/{name}", json=body) as response,
        ):
            assert response.status == 400


async def test_budget_too_small_for_a_digest_is_kept_everywhere(stack: Stack, name: str) -> None:
    await limited(stack, name, {"updates_per_second": 5, "burst": 1}, token_budget=7)
    await all_there(stack, name, await send(stack, name, range(12)))
    for update in await feed(stack, name):
        assert update["tokens"] <= 7
    asked = await stack.get(f"/contexts/{name}/digest")
    assert (asked["budget"], asked["tokens"]) == (7, count_tokens(asked["text"]))
    assert asked["tokens"] <= 7
    async with (
        stack.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=0&fold=1") as client,
    ):
        frame = await client.receive_json(timeout=10)
        assert (frame["type"], frame["tokens"]) == ("digest", count_tokens(frame["summary"]))
        assert frame["tokens"] <= 7


async def test_number_past_the_end_does_not_silence_a_client(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.updates(name, 0)
    await all_there(stack, name, await send(stack, name, range(2)))
    async with (
        stack.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=999999999") as client,
    ):
        await asyncio.sleep(0.2)
        sent = await stack.hook(name, b'{"n": "new"}')
        reset = await client.receive_json(timeout=10)
        assert (reset["type"], reset["after"]) == ("reset", 2)
        update = await client.receive_json(timeout=10)
        assert (update["seq"], update["event_id"]) == (3, sent)


async def test_limit_of_a_page_is_a_limit(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.get(f"/contexts/{name}/updates", 400, limit="0000000019999999")


async def test_agents_key_opens_digests_of_its_own_contexts_only(stack: Stack, name: str) -> None:
    await limited(stack, name, {"updates_per_second": 1, "burst": 1})
    await all_there(stack, name, await send(stack, name, range(10)))
    key, other = (await make(stack, name))["key"], (await make(stack, f"{name}-x"))["key"]
    digest = next(u for u in await feed(stack, name) if u["kind"] == "digest")
    path = f"/contexts/{name}/updates/{digest['seq']}/folded"
    assert (await call(stack, key, "GET", path))[0] == 200
    assert (await call(stack, other, "GET", path))[0] == 403


@pytest.mark.parametrize("disk", ["kept", "lost"])
async def test_crash_neither_loses_what_is_held_up_nor_refills_the_bucket(
    tmp_path: Path, disk: str
) -> None:
    with Stack(
        tmp_path, HOOKSTREAM_LEASE_TTL_SECONDS="3", HOOKSTREAM_REDIS_TIMEOUT_SECONDS="1"
    ) as stack:
        await limited(stack, "c", {"updates_per_second": 0.02, "burst": 2})
        sent = await send(stack, "c", range(6))

        async def spent() -> bool:
            return len(await feed(stack, "c")) == 2

        await eventually(spent, "the burst is used up")
        worker = stack.find("worker")
        worker.kill()
        worker.wait(10)
        if disk == "lost":
            shutil.rmtree(stack.state_dir / "state" / "tables")
        sent += await send(stack, "c", range(6, 9))
        stack.wait_ready()

        async def held_up() -> bool:
            health = (await stack.health())["parts"]["streams"]
            return all(health[s]["lag"] == health[s]["pending"] == 0 for s in ("events", "updates"))

        await eventually(held_up, "the new worker has taken what came meanwhile")
        assert len(await feed(stack, "c")) == 2
        await stack.put("/contexts/c", {})
        await all_there(stack, "c", sent)
