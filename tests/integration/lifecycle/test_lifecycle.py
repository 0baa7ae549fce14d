"""Events go through all tiers of the whole system, and are found in each of them."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from hookstream.app import embedded
from tests.support.stack import Stack, eventually


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("lifecycle")) as running:
        yield running


async def command(stack: Stack, *arguments: str, expect: int = 0) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        stack.command(*arguments),
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


async def in_tier(stack: Stack, event_ids: list[str], tier: str) -> bool:
    await command(stack, "lifecycle", "run")
    return all([(await stack.get(f"/events/{one}"))["tier"] == tier for one in event_ids])


async def test_an_event_goes_through_all_tiers_and_is_found_in_each(own: Stack, name: str) -> None:
    ttl = {"hot": "365d", "warm": "365d", "cold": "365d"}
    tool: dict[str, Any] = {"provider": "none", "ttl": ttl}
    await own.context(name, tool)
    # the last one is beside its stream
    bodies = [{"n": n} for n in range(20)] + [{"large": "lorem ipsum " * 60_000}]
    sent = [await own.hook(name, json.dumps(body).encode()) for body in bodies]
    await own.updates(name, len(sent))

    async def recorded() -> bool:
        found = await own.get("/events", tool=name, limit="50")
        return [event["event_id"] for event in found["events"]] == sent[::-1]

    await eventually(recorded, "all are on record")

    async def check(tier: str) -> None:
        for event_id, body in zip(sent, bodies, strict=True):
            event = await own.get(f"/events/{event_id}")
            assert (event["tier"], event["payload"]) == (tier, body)
        page = await own.get("/events", tool=name, limit="50")
        assert {event["tier"] for event in page["events"]} == {tier}

    assert not await in_tier(own, sent, "warm")
    await check("hot")
    await own.put(f"/tools/{name}", {**tool, "ttl": {**ttl, "hot": "1s"}})
    await eventually(lambda: in_tier(own, sent, "warm"), "all are warm")
    await check("warm")
    await own.put(f"/tools/{name}", {**tool, "ttl": {**ttl, "hot": "1s", "warm": "1s"}})
    await eventually(lambda: in_tier(own, sent, "cold"), "all are cold")
    await check("cold")
    said = json.loads(await command(own, "lifecycle", "status", "--json"))
    assert said["cold"]["events"] >= len(sent)
    assert said["cold"]["objects"] >= 1
    assert "0 differences" in await command(own, "lifecycle", "verify")

    # a replay finds them there
    async with (
        own.session() as session,
        session.post("/api/v1/replays", json={"tool": name, "rate": 500}) as response,
    ):
        assert response.status == 202, await response.text()
        replay = (await response.json())["replay_id"]

    async def through() -> bool:
        return (await own.get(f"/replays/{replay}"))["status"] == "done"

    await eventually(through, "the replay is through")
    assert (await own.get(f"/replays/{replay}"))["missing"] == 0
    again = await own.updates(name, 2 * len(sent))
    assert [update["event_id"] for update in again[len(sent) :]] == sent

    await own.put(f"/tools/{name}", {**tool, "ttl": {"hot": "1s", "warm": "1s", "cold": "1s"}})
    await eventually(lambda: in_tier(own, sent, "gone"), "all are gone")
    event = await own.get(f"/events/{sent[0]}")
    assert "payload" not in event
    assert event["status"] == "delivered"
    assert "0 differences" in await command(own, "lifecycle", "verify")


async def test_verify_names_each_kind_of_damage(own: Stack, name: str) -> None:
    ttl = {"hot": "1s", "warm": "365d", "cold": "365d"}
    tool: dict[str, Any] = {"provider": "none", "ttl": ttl, "dedup": {"strategy": "none"}}
    await own.put(f"/tools/{name}", {**tool, "ttl": {**ttl, "hot": "365d"}})
    sent = [await own.hook(name, json.dumps({"n": n}).encode()) for n in range(5)]

    async def recorded() -> bool:
        found = await own.get("/events", tool=name, limit="50")
        return len(found["events"]) == len(sent)

    async def verify(*options: str) -> list[str]:
        done = await asyncio.to_thread(
            subprocess.run,
            own.command("lifecycle", "verify", "--json", *options),
            env=own.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        found = list(json.loads(done.stdout)["differences"])
        assert done.returncode == bool(found)
        return found

    await eventually(recorded, "all are on record")
    assert await verify() == []
    state = own.state_dir / "state"
    redis = Redis.from_url(str(embedded.find_valkey(state)), protocol=2)
    connection = await asyncpg.connect(str(embedded.find_postgres(state)))
    try:
        rows = await connection.fetch(
            "SELECT partition, entry_id FROM events WHERE tool_id = $1 ORDER BY event_id", name
        )
        partition, lost = rows[2]["partition"], rows[2]["entry_id"]
        # an entry that is in the stream no more, and later within what became of the others
        assert await redis.xdel(f"{{hs:{partition}}}:events", lost) == 1
        [difference] = await verify()
        assert sent[2] in difference
        assert "no tier" in difference
        others = sent[:2] + sent[3:]
        await own.put(f"/tools/{name}", tool)
        await eventually(lambda: in_tier(own, others, "warm"), "the others are warm")
        [difference] = await verify()
        assert sent[2] in difference
        assert "no warm block" in difference
        assert (await own.get(f"/events/{sent[2]}"))["tier"] == "gone"
        await own.put(f"/tools/{name}", {**tool, "ttl": {**ttl, "warm": "1s"}})
        await eventually(lambda: in_tier(own, others, "cold"), "the others are cold")
        [difference] = await verify("--read")
        assert sent[2] in difference
        assert "no object" in difference

        # the manifest without its object, and the object without its row in the manifest
        [archived] = (state / "archive").glob(f"*/tool={name}/**/*.parquet")
        data = archived.read_bytes()
        archived.write_bytes(data[:-200] + bytes([data[-200] ^ 1]) + data[-199:])
        assert any(archived.name in one for one in await verify("--read"))
        archived.unlink()
        [difference] = await verify()
        assert archived.name in difference
        archived.write_bytes(data)
        await connection.execute("DELETE FROM archive_objects WHERE tool_id = $1", name)
        differences = await verify()
        assert {one.split()[1] for one in differences} == set(sent)
        assert all("no object" in one for one in differences)
    finally:
        await connection.close()
        await redis.aclose()
        await own.put(f"/tools/{name}", {**tool, "ttl": {"hot": "1s", "warm": "1s", "cold": "1s"}})
        await command(own, "lifecycle", "run")
