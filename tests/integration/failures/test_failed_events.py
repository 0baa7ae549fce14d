"""Retries, dead letters, held keys and circuit breakers, with a stage that can be made to fail."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from hookstream.app import embedded
from hookstream.app.redis import keys
from tests.support.fragile import Fragile
from tests.support.stack import Stack, eventually


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Fragile(tmp_path_factory.mktemp("fragile")) as running:
        yield running


@pytest.fixture
async def tool(fragile: Fragile, name: str) -> str:
    await fragile.context(name, {"provider": "none"})
    return name


async def ids(stack: Stack, context: str, count: int) -> list[str]:
    return [update["event_id"] for update in await stack.updates(context, count)]


async def test_failed_event_is_retried_and_delays_no_other(fragile: Fragile, tool: str) -> None:
    bad = await fragile.post(tool, 0, tool)
    good = [await fragile.post(tool, n) for n in range(1, 6)]
    assert await ids(fragile, tool, 5) == good
    await fragile.becomes(bad, "retrying")
    fragile.heal(tool)
    assert await ids(fragile, tool, 6) == [*good, bad]
    await fragile.becomes(bad, "delivered")
    # resolved: there is no letter any more
    assert await fragile.call("GET", f"/dead-letters/{bad}") == 404


async def test_one_poison_event_in_256_delays_no_other(fragile: Fragile, tool: str) -> None:
    posts = [fragile.post(tool, n, tool if n == 100 else "") for n in range(256)]
    accepted = await asyncio.gather(*posts)
    delivered = await ids(fragile, tool, 255)
    assert set(accepted) - set(delivered) == {accepted[100]}
    await fragile.becomes(accepted[100], "dead")


async def test_dead_letter_keeps_its_history_through_retries(fragile: Fragile, tool: str) -> None:
    bad = await fragile.post(tool, 7, tool)
    await fragile.becomes(bad, "dead")
    failed_event = await fragile.failed_event(bad)
    assert (failed_event["state"], failed_event["attempts"], failed_event["stage"]) == (
        "dead",
        3,
        "fragile",
    )
    assert failed_event["error"] == "ValueError: poison 7"
    assert failed_event["payload"] == {"n": 7, "poison": tool}
    assert [attempt["attempt"] for attempt in failed_event["history"]] == [1, 2, 3]
    assert failed_event["first_failed_at"] < failed_event["last_failed_at"]
    listed = (await fragile.get("/dead-letters", tool=tool))["letters"]
    assert [row["letter_id"] for row in listed] == [bad]
    # tried again by hand, it fails again: the same letter, one attempt more
    assert await fragile.call("POST", f"/dead-letters/{bad}/retry") == 202

    async def fourth() -> bool:
        return bool((await fragile.failed_event(bad))["attempts"] == 4)

    await eventually(fourth, "the fourth attempt has failed")
    failed_event = await fragile.failed_event(bad)
    assert failed_event["state"] == "dead"
    assert [attempt["attempt"] for attempt in failed_event["history"]] == [1, 2, 3, 4]
    fragile.heal(tool)
    assert await fragile.call("POST", "/dead-letters/retry", tool=tool) == 202
    assert await ids(fragile, tool, 1) == [bad]
    await fragile.becomes(bad, "delivered")
    assert (await fragile.get("/dead-letters", tool=tool))["letters"] == []


async def test_discarded_letter_is_gone(fragile: Fragile, tool: str) -> None:
    bad = await fragile.post(tool, 1, tool)
    await fragile.becomes(bad, "dead")
    assert await fragile.call("DELETE", f"/dead-letters/{bad}") == 204
    assert await fragile.call("GET", f"/dead-letters/{bad}") == 404
    assert await fragile.call("POST", f"/dead-letters/{bad}/retry") == 404
    assert await fragile.status(bad) == "dead"


async def test_a_purged_tool_takes_dead_letters_refusals_and_dictionary_along(
    fragile: Fragile, tool: str
) -> None:
    other = f"{tool}-other"
    await fragile.context(other, {"provider": "none"})
    for n, name in enumerate((tool, tool, other)):
        await fragile.becomes(await fragile.post(name, n, tool), "dead")
    url = embedded.find_valkey(fragile.state_dir / "state")
    with redis.Redis.from_url(url, protocol=2) as client:
        client.hset(keys.DICTIONARIES, mapping={tool: 7, other: 7})
        # as of one that asks for a signature
        refused = [keys.refusals("default", name) for name in (tool, other)]
        for key in refused:
            client.xadd(key, {"f": "{}"})
        assert await fragile.call("DELETE", f"/tools/{tool}?purge=perhaps") == 400
        assert await fragile.call("DELETE", f"/tools/{tool}-none?purge=true") == 404
        assert await fragile.call("DELETE", f"/tools/{tool}?purge=true") == 204
        assert client.hkeys(keys.DICTIONARIES) == [other.encode()]
        assert [client.exists(key) for key in refused] == [0, 1]
        client.delete(*refused)
        client.hdel(keys.DICTIONARIES, other)
    left = (await fragile.get("/dead-letters"))["letters"]
    assert tool not in {one["tool_id"] for one in left}
    assert other in {one["tool_id"] for one in left}


async def test_hold_keeps_order_behind_a_failure(fragile: Fragile, name: str) -> None:
    await fragile.context(name, {"provider": "none", "ordering": {"on_error": "hold"}})
    accepted = [await fragile.post(name, n, name if n in (3, 10) else "") for n in range(40)]
    assert await ids(fragile, name, 3) == accepted[:3]
    await fragile.becomes(accepted[3], "dead")
    # everything behind waits until a person decides
    accepted += [await fragile.post(name, n) for n in range(40, 50)]
    await fragile.becomes(accepted[49], "retrying")
    assert (await fragile.get(f"/contexts/{name}"))["last_seq"] == 3
    # thrown away, the next ones come, as far as the next failure
    assert await fragile.call("DELETE", f"/dead-letters/{accepted[3]}") == 204
    assert await ids(fragile, name, 9) == accepted[:3] + accepted[4:10]
    await fragile.becomes(accepted[10], "dead")
    fragile.heal(name)
    assert await fragile.call("POST", f"/dead-letters/{accepted[10]}/retry") == 202
    assert await ids(fragile, name, 49) == accepted[:3] + accepted[4:]


async def test_two_failures_of_one_batch_keep_their_order(fragile: Fragile, name: str) -> None:
    await fragile.context(name, {"provider": "none", "ordering": {"on_error": "hold"}})
    worker = fragile.find("worker")
    worker.suspend()
    try:
        # all of them are read as one batch
        accepted = [await fragile.post(name, n, name if n in (1, 3) else "") for n in range(6)]
    finally:
        worker.resume()
    await fragile.becomes(accepted[1], "dead")
    second = await fragile.failed_event(accepted[3])
    assert (second["state"], second["attempts"]) == ("held", 0)
    fragile.heal(name)
    assert await fragile.call("POST", f"/dead-letters/{accepted[1]}/retry") == 202
    assert await ids(fragile, name, 6) == accepted


async def test_breaker_parks_what_keeps_failing_and_probes(fragile: Fragile, tool: str) -> None:
    bad = [await fragile.post(tool, n, tool) for n in range(10)]

    async def parked() -> bool:
        # the last ones may not have come to the worker yet
        return "parked" in [await fragile.state(event_id) for event_id in bad]

    await eventually(parked, "the breaker has opened")
    # parked too, with no attempt of its own
    late = await fragile.post(tool, 99)
    await fragile.becomes(late, "retrying")
    assert (await fragile.failed_event(late))["attempts"] == 0
    fragile.heal(tool)

    async def delivered() -> bool:
        return bool((await fragile.status(late)) == "delivered")

    await eventually(delivered, "a probe has closed the breaker")
    left = (await fragile.get("/dead-letters", tool=tool))["letters"]
    assert await fragile.call("POST", "/dead-letters/retry", tool=tool) == 202
    assert len(left) < len(bad)
    assert set(await ids(fragile, tool, 11)) == {*bad, late}


async def test_retries_outlive_a_killed_worker(tmp_path: Path) -> None:
    with Fragile(tmp_path) as stack:
        await stack.context("crash", {"provider": "none"})
        bad = await stack.post("crash", 1, "crash")
        await stack.becomes(bad, "retrying")
        stack.find("worker").kill()
        stack.heal("crash")
        assert await ids(stack, "crash", 1) == [bad]


async def test_partitions_say_who_owns_them(fragile: Fragile) -> None:
    shown = await fragile.get("/partitions")
    [worker] = shown["workers"]
    assert [row["owner"] for row in shown["partitions"]] == [worker] * 8
    assert all(row["lease_seconds"] > 0 for row in shown["partitions"])
    streams = shown["partitions"][0]["streams"]
    assert set(streams) == set(Stack.STREAMS)


async def test_dead_letters_from_a_shell(fragile: Fragile, tool: str) -> None:
    bad = [await fragile.post(tool, n, tool) for n in range(3)]
    for event_id in bad:
        await fragile.becomes(event_id, "dead")

    async def hookstream(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *fragile.command(*arguments),
            env=fragile.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    status, listed = await hookstream("dead", "list", "--tool", tool)
    assert (status, listed.count("ValueError: poison")) == (0, 3)
    status, shown = await hookstream("dead", "show", bad[0])
    assert (status, json.loads(shown)["payload"]["n"]) == (0, 0)
    assert (await hookstream("dead", "discard", bad[0]))[0] == 0
    fragile.heal(tool)
    status, said = await hookstream("dead", "retry", "--tool", tool)
    assert (status, said) == (0, "retry: 2 dead letters\n")
    assert set(await ids(fragile, tool, 2)) == set(bad[1:])
    status, said = await hookstream("dead", "retry")
    assert (status, "--all" in said) == (2, True)
    status, said = await hookstream("dead", "show", bad[0])
    assert (status, f"there is no dead letter {bad[0]}" in said) == (2, True)
    status, table = await hookstream("partitions")
    assert (status, "1 workers alive" in table, len(table.splitlines())) == (0, True, 10)


async def test_what_waits_comes_once_its_tool_holds_back_no_more(
    fragile: Fragile, name: str
) -> None:
    """The event that failed stays what it is; the others need not wait for a person."""
    held = {"provider": "none", "ordering": {"on_error": "hold"}}
    await fragile.context(name, held)
    first = await fragile.post(name, 0, poison=name)
    await fragile.becomes(first, "dead")
    rest = [await fragile.post(name, n) for n in range(1, 4)]
    for event_id in rest:
        await fragile.becomes(event_id, "retrying")
    await fragile.put(f"/tools/{name}", {**held, "ordering": {"on_error": "skip"}})
    updates = await fragile.updates(name, 3)
    assert [update["event_id"] for update in updates] == rest
    assert await fragile.state(first) == "dead"
