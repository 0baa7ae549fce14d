"""With payloads sealed, what webhooks say lies in the clear nowhere, and is read everywhere.

A word that is in every payload is looked for in every byte that Redis, PostgreSQL, spool and
archive hold, also within what zstd has compressed.
"""

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.asyncio
import zstandard

from hookstream.app import embedded
from hookstream.codecs.envelope import decode_event
from hookstream.codecs.sealed import is_sealed, key_ids
from tests.integration.lifecycle.test_lifecycle import command
from tests.support.canary import holds
from tests.support.servers import Node
from tests.support.stack import Stack, eventually, own_stages

WORD = f"canary{secrets.token_hex(8)}"
#: One that a stage quotes when it fails: it is in the log, too.
QUOTED = f"quoted{secrets.token_hex(8)}"
FAILING = """
from hookstream.app.main import app
from hookstream.codecs.envelope import Event


@app.stage(after="check")
async def breaks(event: Event) -> Event:
    if event.tool_id in ("failing", "waiting"):
        raise ValueError(f"it always does {event.data().get('quoted')}")
    return event
"""


def test_the_search_finds_what_is_packed() -> None:
    packed = zstandard.ZstdCompressor().compress(b"x" * 500 + WORD.encode() + b"x" * 500)
    assert holds(b"head" + packed + b"tail", WORD)
    assert holds(WORD.encode().hex().encode(), WORD)
    assert not holds(b"head" + packed[::-1], WORD)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    server = Node(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def stack(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("sealed")
    settings = own_stages(folder, "sealed_own", FAILING)
    with Stack(
        folder,
        **settings,
        HOOKSTREAM_SEAL_PAYLOADS="on",
        HOOKSTREAM_REDIS_URL=node.url,
        HOOKSTREAM_CLAIM_CHECK_BYTES="4096",
        HOOKSTREAM_DICTIONARY_MIN_EVENTS="32",
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        yield running


@pytest.fixture
async def client(node: Node) -> AsyncIterator["redis.asyncio.Redis"]:
    async with redis.asyncio.Redis.from_url(node.url, protocol=2) as found:
        yield found


async def in_redis(client: "redis.asyncio.Redis", word: str = WORD) -> list[str]:
    """Keys with a word in what they hold."""
    found = []
    reads = {
        b"string": lambda key: client.get(key),
        # it has ended meanwhile
        b"none": lambda key: client.get(key),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": lambda key: client.hgetall(key),
        b"set": lambda key: client.smembers(key),
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": lambda key: client.xrange(key),
    }
    async for key in client.scan_iter(count=1000):
        value = await reads[await client.type(key)](key)
        if any(holds(one, word) for one in _flat(value)) or holds(key, word):
            found.append(key.decode())
    return found


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _flat(pair)
    elif isinstance(value, (list, tuple, set)):
        for one in value:
            yield from _flat(one)


async def in_postgres(stack: Stack, word: str = WORD) -> list[str]:
    """Tables with a word in one of their rows."""
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%' "
            "AND schemaname <> 'information_schema'"
        )
        found = []
        for (table,) in tables:
            rows = await connection.fetch(f'SELECT t::text AS row FROM "{table}" AS t')
            values = await connection.fetch(f'SELECT * FROM "{table}"')
            raw = [one for row in values for one in row.values() if isinstance(one, bytes)]
            if any(holds(row["row"].encode(), word) for row in rows) or any(
                holds(one, word) for one in raw
            ):
                found.append(table)
        return found
    finally:
        await connection.close()


def on_disk(*folders: Path, postgres: bool = False) -> list[str]:
    """Files with the word in them: spool, archive, AOF, logs; PostgreSQL's own, if asked for."""
    return [
        str(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and holds_file(path, postgres)
    ]


def holds_file(path: Path, postgres: bool) -> bool:
    of_postgres = "postgres" in path.parts
    if of_postgres and not postgres:
        return False
    try:
        data = path.read_bytes()
    except (FileNotFoundError, PermissionError):
        return False
    # frames in its tables have been looked for row by row
    return WORD.encode() in data if of_postgres else holds(data, WORD)


#: What all payloads have in common and none repeats: so a dictionary is worth while.
_FORM = {f"{name}_url": f"https://example.com/{name[::-1]}{{/{name}_id}}" for name in dir(str)}


def body(n: int, words: int = 2) -> bytes:
    text = " ".join(f"{WORD} says hello {n + i}" for i in range(words))
    return json.dumps({"n": n, "title": f"{WORD} {n}", "text": text, **_FORM}).encode()


async def nowhere(stack: Stack, client: "redis.asyncio.Redis", node: Node) -> None:
    assert await in_redis(client) == []
    assert await in_postgres(stack) == []
    assert await asyncio.to_thread(on_disk, node.folder, stack.state_dir) == []


async def in_tier(stack: Stack, event_ids: list[str], tier: str) -> bool:
    """Whether all events are in a tier, or on their way there from now on."""
    async with stack.session() as session:
        assert (await session.post("/api/v1/lifecycle/run")).status == 202
    found = await stack.get("/events", tool="plain", limit="100")
    tiers = {one["event_id"]: one["tier"] for one in found["events"]}
    return all(tiers[one] == tier for one in event_ids)


async def test_a_word_of_payloads_is_nowhere_in_the_clear_and_everywhere_to_be_read(
    stack: Stack, client: "redis.asyncio.Redis", node: Node
) -> None:
    ttl = {"hot": "365d", "warm": "365d", "cold": "365d"}
    plain: dict[str, Any] = {"provider": "none", "ttl": ttl}
    await stack.context("plain", plain)
    # of a rate that throttles, so that there are lists and digests
    await stack.put("/contexts/slow", {"rate": {"updates_per_second": 1, "burst": 1}})
    await stack.put(
        "/contexts/slow/subscriptions/s", {"tool": "plain", "types": ["*"], "priority": "normal"}
    )
    for tool in ("failing", "waiting"):
        await stack.put(f"/tools/{tool}", {"provider": "none"})
    await stack.put("/tools/signed", {"provider": "github", "secrets": ["x" * 40]})
    health = (await stack.health())["parts"]["sealing"]
    assert (health["payloads"], health["detail"]) == ("sealed", "")

    sent = {await stack.hook("plain", body(n)): n for n in range(48)}
    # beside its stream; and one that is too short to be compressed
    sent[await stack.hook("plain", body(100, 3000))] = 100
    short = json.dumps({"n": 200, "w": WORD}).encode()
    short_id = await stack.hook("plain", short)
    quoting = {**json.loads(body(300)), "quoted": QUOTED}
    failed = await stack.hook("failing", json.dumps(quoting).encode())
    async with aiohttp.ClientSession(stack.url) as session:
        answer = await session.post(
            f"/hooks/signed?q={WORD}", data=body(400), headers={"X-GitHub-Event": WORD}
        )
        assert answer.status == 401
    updates = await stack.updates("plain", len(sent) + 1)
    assert any(WORD in json.dumps(update) for update in updates)

    async def letter() -> Any:
        async with stack.session() as session:
            found = await session.get(f"/api/v1/dead-letters/{failed}")
            return await found.json() if found.status == 200 else None

    dead = await eventually(letter, "a dead letter")
    assert WORD in json.dumps(dead["payload"])
    # what is said of it may quote it
    assert QUOTED in dead["error"]
    assert QUOTED in dead["history"][0]["error"]
    assert "breaks" in dead["traceback"]
    listed = await stack.get("/dead-letters", tool="failing")
    assert [one["error"] for one in listed["letters"]] == [dead["error"]]

    async def noted() -> bool:
        found = await stack.get("/events", tool="failing")
        return [one["error"] for one in found["events"]] == [dead["error"]]

    await eventually(noted, "the event log has it")
    assert (await stack.get(f"/events/{failed}"))["error"] == dead["error"]
    assert await in_redis(client, QUOTED) == await in_postgres(stack, QUOTED) == []

    async def refused() -> Any:
        return (await stack.get("/tools/signed/refusals"))["refusals"]

    [refusal] = await eventually(refused, "a refusal")
    assert refusal["tool_id"] == "signed"

    async def digest() -> Any:
        found = await stack.get("/contexts/slow/updates")
        return next((one for one in found["updates"] if one["kind"] == "digest"), None)

    folded = await eventually(digest, "a digest")
    inside = (await stack.get(f"/contexts/slow/updates/{folded['seq']}/folded"))["updates"]
    assert any(WORD in json.dumps(one) for one in inside)

    async def trained() -> Any:
        return await client.hgetall("hs:dictionaries")

    await eventually(trained, "a dictionary")
    for n in range(48, 60):
        sent[await stack.hook("plain", body(n))] = n

    async def recorded() -> bool:
        found = await stack.get("/events", tool="plain", limit="100")
        return len(found["events"]) == len(sent) + 1

    await eventually(recorded, "all are on record")

    async def check() -> None:
        for event_id, n in sent.items():
            event = await stack.get(f"/events/{event_id}")
            assert event["payload"]["title"] == f"{WORD} {n}", event
        assert (await stack.get(f"/events/{short_id}"))["payload"] == json.loads(short)

    await check()
    await nowhere(stack, client, node)

    # Redis away: the spool
    node.kill()
    spooled = await stack.hook("plain", body(500))
    assert (await stack.health())["parts"]["spool"]["entries"] == 1
    assert await asyncio.to_thread(on_disk, node.folder, stack.state_dir) == []
    node.start()
    await eventually(lambda: _delivered(stack, spooled), "what was spooled is delivered")
    sent[spooled] = 500

    everything = [*sent, short_id]
    for tier, moved in (("warm", {"hot": "1s"}), ("cold", {"hot": "1s", "warm": "1s"})):
        await stack.put("/tools/plain", {**plain, "ttl": {**ttl, **moved}})
        await eventually(
            lambda tier=tier: in_tier(stack, everything, tier),  # type: ignore[misc]
            f"all are {tier}",
        )
        await check()
        assert await in_redis(client) == []
        assert await asyncio.to_thread(on_disk, node.folder, stack.state_dir) == []
    assert "0 differences" in await command(stack, "lifecycle", "verify", "--read")

    async with (
        stack.session() as session,
        session.post("/api/v1/replays", json={"tool": "plain", "rate": 500}) as response,
    ):
        assert response.status == 202, await response.text()
        replay = (await response.json())["replay_id"]

    async def through() -> bool:
        return (await stack.get(f"/replays/{replay}"))["status"] == "done"

    await eventually(through, "the replay is through")
    assert (await stack.get(f"/replays/{replay}"))["missing"] == 0
    await nowhere(stack, client, node)
    files = await asyncio.to_thread(on_disk, stack.state_dir / "state" / "postgres", postgres=True)
    assert files == []


async def _delivered(stack: Stack, event_id: str) -> bool:
    async with stack.session() as session:
        found = await session.get(f"/api/v1/events/{event_id}")
        return found.status == 200 and (await found.json())["status"] == "delivered"


async def test_keys_are_shown_and_a_month_that_is_not_over_is_not_destroyed(stack: Stack) -> None:
    found = await stack.get("/data-keys")
    assert (found["tenant"], found["payloads"]) == ("default", "sealed")
    month = found["data_keys"][-1]["month"]
    shown = await command(stack, "keys", "status")
    assert found["data_keys"][-1]["key_id"] in shown
    await command(stack, "keys", "shred", "--month", month, "--yes", expect=2)
    async with stack.session() as session:
        for query, status in (("", 400), (f"?confirm=default/{month}", 409)):
            answer = await session.delete(f"/api/v1/data-keys/{month}{query}")
            assert answer.status == status
        answer = await session.delete("/api/v1/data-keys/2020-01?confirm=default/2020-01")
        assert answer.status == 404


async def test_all_of_a_tenant_is_erased_with_the_keys_it_had(
    stack: Stack, client: "redis.asyncio.Redis"
) -> None:
    """What was copied before opens for nobody; what came since is there, sealed by another key."""
    tenant = "acme"
    async with stack.session() as session:
        made = await session.post("/api/v1/tenants", json={"tenant_id": tenant})
        assert made.status == 201
    headers = {**stack.headers, "Hookstream-Tenant": tenant}
    async with aiohttp.ClientSession(stack.url, headers=headers) as session:

        async def call(method: str, path: str, value: Any = None, **query: str) -> Any:
            async with session.request(
                method, f"/api/v1{path}", json=value, params=query
            ) as answer:
                text = await answer.text()
                assert answer.status < 300, text
                return json.loads(text) if text else None

        await call("PUT", "/tools/hooks", {"provider": "none"})
        await call("PUT", "/contexts/all", {})
        await call("PUT", "/contexts/all/subscriptions/all", {"tool": "hooks", "types": ["*"]})

        async def send(n: int, words: int = 2) -> str:
            return await stack.hook(f"{tenant}/hooks", body(n, words))

        async def recorded(count: int) -> None:
            async def there() -> bool:
                return len((await call("GET", "/events", limit="100"))["events"]) == count

            await eventually(there, f"{count} events are on record")

        first = [await send(n) for n in range(1, 6)] + [await send(6, 3000)]
        await recorded(6)
        copy = await sealed_values(client, tenant)
        assert len(copy) > 6
        had = {int(one["key_id"]) for one in (await call("GET", "/data-keys"))["data_keys"]}
        assert key_ids(copy) <= had

        begun = await call("POST", "/erasures", {"tenant": True})
        since = {await send(n, 3000 if n == 12 else 2): n for n in range(10, 15)}

        async def done() -> Any:
            shown = await call("GET", f"/erasures/{begun['erasure_id']}")
            return shown if shown["status"] == "done" else None

        shown = await eventually(done, "all of it is erased", 90)
        [keys] = [one for one in shown["places"] if one["place"] == "data keys"]
        assert (keys["found"], keys["erased"], keys["left"]) == (len(had), len(had), 0)
        assert "cannot be opened any more" in keys["detail"]
        await recorded(11)
        listed = (await call("GET", "/data-keys"))["data_keys"]
        destroyed = {int(one["key_id"]) for one in listed if one["shredded_at"]}
        left = {int(one["key_id"]) for one in listed} - destroyed
        assert destroyed == had
        assert left
        # in no row there is anything that would open the copy
        connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
        rows = await connection.fetch("SELECT key_id FROM data_keys WHERE wrapped IS NOT NULL")
        await connection.close()
        assert had.isdisjoint(row["key_id"] for row in rows)
        assert key_ids(await sealed_values(client, tenant)) <= left
        for event_id in first:
            assert (await call("GET", f"/events/{event_id}"))["status"] == "erased"
        for event_id, n in since.items():
            assert (await call("GET", f"/events/{event_id}"))["payload"]["title"] == f"{WORD} {n}"
        feed = (await call("GET", "/contexts/all/updates"))["updates"]
        assert [one["seq"] for one in feed] == list(range(1, 12))
        assert [one["kind"] for one in feed] == ["erased"] * 6 + ["update"] * 5


async def sealed_values(client: "redis.asyncio.Redis", tenant: str) -> list[bytes]:
    """What is sealed of a tenant in its feeds and beside and in its streams."""
    found: list[bytes] = []
    async for name in client.scan_iter(match=f"{{hs:*}}:feed:{tenant}/*"):
        found += [fields[b"d"] for _, fields in await client.xrange(name)]
    async for name in client.scan_iter(match="{hs:*}:events"):
        for _, fields in await client.xrange(name):
            event = decode_event(fields[b"d"])
            if event.tenant == tenant and event.stored is not None:
                found.append(event.stored.data or await client.get(event.stored.blob))
    assert all(map(is_sealed, found))
    return found


async def test_without_its_key_the_system_waits_says_which_and_goes_on_when_it_is_back(
    stack: Stack,
) -> None:
    """Started again while the key file is away: nothing is kept in the clear, nothing is lost."""
    key = stack.state_dir / "state" / "sealing.key"
    found = await stack.get("/data-keys")
    numbers = {one["key_id"] for one in found["data_keys"]}
    waiting = await stack.hook("plain", body(600))
    worker = stack.find("worker")
    worker.send_signal(signal.SIGSTOP)
    late = await stack.hook("plain", body(601))
    worker.kill()
    # a file of another key: its own one would be made anew
    kept = key.read_bytes()
    key.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    await asyncio.to_thread(stack.stop)
    await asyncio.to_thread(stack.start)
    async with aiohttp.ClientSession(stack.url) as session:
        answer = await session.post("/hooks/plain", data=body(602))
        text = await answer.text()
        assert (answer.status, "sealing-key" in text) == (503, True), text

    async def told() -> bool:
        # with several tenants names are for who has a key
        async with aiohttp.ClientSession(headers=stack.headers) as session:
            url = f"http://127.0.0.1:{stack.worker_port}/health"
            async with session.get(url) as response:
                part = (await response.json())["parts"].get("sealing", {})
        return bool(part.get("missing_keys", {}).keys() & numbers)

    await eventually(told, "the worker says which key is missing")
    assert any(number in stack.log.read_text() for number in numbers)
    said = await command(stack, "doctor", expect=1)
    assert any(f"data key {number} is missing" in said for number in numbers)
    event = await stack.get(f"/events/{waiting}", expect=503)
    assert event["type"].endswith("sealing-key")
    key.write_bytes(kept)
    await eventually(lambda: _delivered(stack, late), "what waited is delivered")
    assert (await stack.get(f"/events/{late}"))["payload"]["n"] == 601
    assert await stack.hook("plain", body(603))
