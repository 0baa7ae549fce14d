"""Dictionaries trained from real traffic, and payloads beside their stream, on real servers."""

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import redis.asyncio

from hookstream.app import embedded
from hookstream.app.ids import partition_of_event
from hookstream.app.redis import keys
from hookstream.codecs.dictionaries import Dictionary
from hookstream.codecs.training import train
from hookstream.proto.envelope_pb2 import Envelope, PayloadEncoding
from tests.support.fixtures import github_examples
from tests.support.servers import ClusterSet, Node
from tests.support.stack import Stack, eventually, free_port, fresh

#: Five stand twice among the examples: those would be duplicates.
BODIES = list(dict.fromkeys(example.body for example in github_examples()))
MIN_EVENTS = 64
BIG = 1_000_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("codecs")
    with Stack(folder, HOOKSTREAM_DICTIONARY_MIN_EVENTS=str(MIN_EVENTS)) as running:
        yield running


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator["redis.asyncio.Redis"]:
    url = str(embedded.find_valkey(stack.state_dir / "state"))
    async with redis.asyncio.Redis.from_url(url, protocol=2) as found:
        yield found


async def postgres(stack: Stack) -> Any:
    return await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))


async def entry(client: "redis.asyncio.Redis", event_id: str) -> tuple[bytes, Envelope]:
    """The stream entry of an event, and the envelope in it."""
    for _, fields in await client.xrange(keys.events(partition_of_event(event_id))):
        if event_id.encode() in fields[b"d"]:
            return fields[b"d"], Envelope.FromString(fields[b"d"])
    raise AssertionError(f"no entry of {event_id}")


async def send(stack: Stack, tool: str, bodies: list[bytes]) -> list[str]:
    return list(await asyncio.gather(*(stack.hook(tool, body) for body in bodies)))


async def trained(stack: Stack, client: "redis.asyncio.Redis", tool: str) -> int:
    """The tool's current dictionary, once there is one and the receiver uses it."""

    async def named() -> int:
        return int(await client.hget(keys.DICTIONARIES, tool) or 0)

    number = int(await eventually(named, f"{tool} has a dictionary"))

    async def used() -> bool:
        async with stack.session() as session, fresh(session, "/metrics") as answer:
            return f'hookstream_dictionary_id{{tool="{tool}"}}' in await answer.text()

    await eventually(used, "the receiver knows it")
    return number


async def kill_worker(stack: Stack) -> None:
    """kill -9, as soon as there is a worker."""

    async def found() -> bool:
        try:
            stack.find("worker").kill()
        except AssertionError:
            return False
        return True

    await eventually(found, "a worker runs")


async def find_letter(stack: Stack, failed_event_id: str) -> dict[str, Any]:
    """A letter; one of nothing where there is none yet."""
    async with (
        stack.session() as session,
        session.get(f"/api/v1/dead-letters/{failed_event_id}") as answer,
    ):
        return dict(await answer.json()) if answer.status == 200 else {"state": "", "error": ""}


async def post(stack: Stack, path: str, **body: Any) -> None:
    async with (
        stack.session() as session,
        session.post(f"/api/v1{path}", json=body or None) as answer,
    ):
        assert answer.status == 202, await answer.text()


async def shown(stack: Stack, event_id: str) -> Any:
    return (await stack.get(f"/events/{event_id}"))["payload"]


async def test_traffic_trains_a_dictionary_that_new_events_use(
    stack: Stack, client: "redis.asyncio.Redis", name: str, tmp_path: Path
) -> None:
    await stack.context(name, {"provider": "none"})
    before = await send(stack, name, BODIES[:150])
    number = await trained(stack, client, name)
    after = await send(stack, name, BODIES[150:300])
    plain, with_dictionary = 0, 0
    for event_id in before:
        data, envelope = await entry(client, event_id)
        assert envelope.payload_encoding == PayloadEncoding.PAYLOAD_ENCODING_ZSTD
        plain += len(data)
    for event_id in after:
        data, envelope = await entry(client, event_id)
        assert number.to_bytes(4, "little") in envelope.payload[:12]
        with_dictionary += len(data)
    # whole entries, metadata and all, of payloads that the dictionary was not trained on
    assert with_dictionary * 5 < sum(map(len, BODIES[150:300]))
    assert with_dictionary * 1.5 < plain
    # what was written before and after is read back equal, and has been delivered
    for event_id, body in zip([*before, *after], BODIES, strict=False):
        assert await shown(stack, event_id) == orjson.loads(body)
    updates = await stack.updates(name, 300)
    assert {update["event_id"] for update in updates} == {*before, *after}
    # it is in both stores, the same
    connection = await postgres(stack)
    try:
        row = await connection.fetchrow(
            "SELECT * FROM dictionaries WHERE dictionary_id = $1", number
        )
    finally:
        await connection.close()
    assert (row["tool_id"], row["version"], row["ratio"] > 5) == (name, 1, True)
    assert row["content"] == await client.get(keys.dictionary(number))
    assert Dictionary.of(row["content"]).dictionary_id == number

    # a receiver that starts afresh uses it too; one without dictionaries is read as well
    for mode in ("dictionary", "none"):
        port = free_port()
        receiver = stack.another(
            tmp_path / mode,
            "receive",
            HOOKSTREAM_WEB_PORT=str(port),
            HOOKSTREAM_COMPRESSION=mode,
        )
        try:
            fresh = Stack(tmp_path)
            fresh.port = port
            await asyncio.to_thread(fresh.wait_receiver)
            event_id = await fresh.hook(name, BODIES[310] + (b" " if mode == "none" else b""))
        finally:
            receiver.terminate()
            receiver.wait(30)
        _, envelope = await entry(client, event_id)
        if mode == "dictionary":
            # by now there may be a second one, which this traffic has trained
            current = int(await client.hget(keys.DICTIONARIES, name) or 0)
            ids = [one.to_bytes(4, "little") for one in (number, current)]
            assert any(one in envelope.payload[:12] for one in ids)
        else:
            assert envelope.payload.strip() == BODIES[310]
            assert envelope.schema_version == 1
        assert await shown(stack, event_id) == orjson.loads(BODIES[310])


async def test_dictionary_lost_in_redis_comes_from_postgres(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    await send(stack, name, BODIES[:100])
    number = await trained(stack, client, name)
    worker = stack.find("worker")
    worker.suspend()
    try:
        event_id = await stack.hook(name, BODIES[200])
        await client.delete(keys.dictionary(number))
    finally:
        worker.kill()
    # the worker that comes knows no dictionary yet
    await stack.updates(name, 101)
    assert await shown(stack, event_id) == orjson.loads(BODIES[200])
    assert Dictionary.of(await client.get(keys.dictionary(number)) or b"")


async def test_entry_waits_for_a_dictionary_that_nobody_has(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    await send(stack, name, BODIES[:100])
    number = await trained(stack, client, name)
    content = await client.get(keys.dictionary(number))
    worker = stack.find("worker")
    worker.suspend()
    connection = await postgres(stack)
    try:
        event_id = await stack.hook(name, BODIES[200])
        # a second pair of eyes that has seen neither: no process may have it in memory
        await client.hdel(keys.DICTIONARIES, name)
        await client.delete(keys.dictionary(number))
        await connection.execute(
            "UPDATE dictionaries SET dictionary_id = -1 WHERE dictionary_id = $1", number
        )
        worker.kill()

        async def retrying() -> bool:
            failed_event = await find_letter(stack, event_id)
            return (
                failed_event["state"] == "retrying"
                and f"dictionary {number}" in failed_event["error"]
            )

        await eventually(retrying, "the event waits, and says for what")
        later = await stack.hook(name, b'{"later": 1}')
        updates = await stack.updates(name, 101)
        assert (updates[-1]["event_id"], event_id in str(updates)) == (later, False)
        assert content is not None
        await client.set(keys.dictionary(number), content)
        updates = await stack.updates(name, 102)
        assert updates[-1]["event_id"] == event_id
        assert await shown(stack, event_id) == orjson.loads(BODIES[200])
    finally:
        await connection.execute(
            "UPDATE dictionaries SET dictionary_id = $1 WHERE dictionary_id = -1", number
        )
        await connection.close()


async def test_payload_of_a_megabyte_goes_by_claim_check(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    await stack.context(
        name, {"provider": "none"}, where='payload.action == "opened" && size(payload.text) > 9'
    )
    body = json.dumps({"action": "opened", "text": secrets.token_hex(BIG // 2)}).encode()
    event_id = await stack.hook(name, body)
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == event_id
    data, envelope = await entry(client, event_id)
    assert (len(data) < 1000, envelope.payload) == (True, b"")
    assert envelope.payload_blob == keys.blob(keys.events(partition_of_event(event_id)), event_id)
    assert envelope.payload_bytes == len(body)
    assert await shown(stack, event_id) == json.loads(body)
    # replayed, it refers to the same blob
    await post(stack, "/replays", event_id=event_id)
    again = (await stack.updates(name, 2))[1]
    assert (again["event_id"], "replay_id" in again) == (event_id, True)
    blobs = [key async for key in client.scan_iter(match=f"*:blob:{event_id}*")]
    assert blobs == [envelope.payload_blob.encode()]
    # nowhere else is it kept
    for p in range(8):
        for stream in (keys.events(p), keys.updates(p)):
            assert all(len(f[b"d"]) < 100_000 for _, f in await client.xrange(stream))


async def test_missing_blob_is_a_dead_letter_that_says_so(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    worker = stack.find("worker")
    worker.suspend()
    try:
        event_id = await stack.hook(name, secrets.token_hex(BIG).encode())
        good = await stack.hook(name, b'{"good": 1}')
        blob = keys.blob(keys.events(partition_of_event(event_id)), event_id)
        payload = await client.get(blob)
        await client.delete(blob)
    finally:
        worker.resume()

    async def dead() -> bool:
        return bool((await stack.get(f"/events/{event_id}"))["status"] == "dead")

    await eventually(dead, "the event is a dead letter")
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == good
    failed_event = await stack.get(f"/dead-letters/{event_id}")
    assert (failed_event["stage"], failed_event["attempts"]) == ("decode", 1)
    assert blob in failed_event["error"]
    assert "payload" not in failed_event
    assert payload is not None
    await client.set(blob, payload)
    await post(stack, f"/dead-letters/{event_id}/retry")
    assert [u["event_id"] for u in await stack.updates(name, 2)] == [good, event_id]


async def test_damaged_payload_harms_no_other(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    # the worst place: ordering needs the payload of an event outside any stage
    await stack.context(
        name,
        {"provider": "none", "ordering": {"by": "field", "field": "n", "on_error": "hold"}},
        where="payload.n > 0",
    )
    good = await stack.hook(name, b'{"n": 1}')
    _, envelope = await entry(client, good)
    envelope.schema_version = 2
    envelope.payload_encoding = PayloadEncoding.PAYLOAD_ENCODING_ZSTD
    envelope.payload_bytes = 1000
    envelope.payload = b"\x28\xb5\x2f\xfd garbage"
    other = good[:-6] + "abcdef"
    envelope.event_id = other
    envelope.message_id = f"{name}:unknown:damaged"
    partition = partition_of_event(good)
    await client.xadd(keys.events(partition), {"d": envelope.SerializeToString()})

    async def dead() -> bool:
        return bool((await find_letter(stack, other))["state"] == "dead")

    await eventually(dead, "the damaged one is a dead letter")
    assert (await find_letter(stack, other))["tool_id"] == name
    # what its key blocks goes on once a person has thrown it away
    async with stack.session() as session:
        await session.delete(f"/api/v1/dead-letters/{other}")
    later = [await stack.hook(name, b'{"n": %d}' % n) for n in range(2, 20)]
    updates = await stack.updates(name, 19)
    assert {update["event_id"] for update in updates} == {good, *later}


async def test_worker_killed_while_it_trains_harms_nothing(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    sent: list[str] = []
    lock = keys.training(name)
    # a worker that died in the middle leaves its lock, and nothing else
    await client.set(lock, "dead worker", px=1500)
    sent += await send(stack, name, BODIES[:80])
    await kill_worker(stack)
    sent += await send(stack, name, BODIES[80:160])
    await stack.updates(name, 160)
    for number in range(3):
        # kill it wherever it is
        await asyncio.sleep(0.7 * number)
        await kill_worker(stack)
        sent += await send(stack, name, [b'{"kill": %d}' % number])
    sent += await send(stack, name, BODIES[160:300])
    await trained(stack, client, name)
    sent += await send(stack, name, BODIES[300:])
    updates = await stack.updates(name, len(sent))
    assert {update["event_id"] for update in updates} == set(sent)
    for event_id, body in zip(sent[:160], BODIES[:160], strict=True):
        assert await shown(stack, event_id) == orjson.loads(body)


async def test_dictionary_that_a_dead_worker_left_unnamed_is_named(
    stack: Stack, client: "redis.asyncio.Redis", name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    left = train(BODIES[:50])
    assert left is not None
    connection = await postgres(stack)
    try:
        await connection.execute(
            "INSERT INTO dictionaries VALUES ($1, 'default', $2, 1, $3, 50, 9.0)",
            left.dictionary_id,
            name,
            left.content,
        )
    finally:
        await connection.close()
    assert await client.get(keys.dictionary(left.dictionary_id)) is None
    await send(stack, name, BODIES[:MIN_EVENTS])
    assert await trained(stack, client, name) == left.dictionary_id
    assert await client.get(keys.dictionary(left.dictionary_id)) == left.content


async def test_dictionaries_and_blobs_in_a_cluster(tmp_path: Path) -> None:
    cluster = ClusterSet(tmp_path / "cluster")
    try:
        with Stack(
            tmp_path,
            HOOKSTREAM_REDIS_URL=cluster.url,
            HOOKSTREAM_DICTIONARY_MIN_EVENTS=str(MIN_EVENTS),
        ) as stack:
            await stack.context("c", {"provider": "none", "ordering": {"by": "none"}})
            sent = await send(stack, "c", BODIES[:150])
            client = redis.asyncio.RedisCluster.from_url(
                f"redis://127.0.0.1:{cluster.nodes[0].port}", protocol=2
            )
            try:
                number = await trained(stack, client, "c")
                big = json.dumps({"t": secrets.token_hex(BIG // 2)})
                sent += await send(stack, "c", [*BODIES[150:200], big.encode()])
                _, envelope = await entry(client, sent[160])
                assert number.to_bytes(4, "little") in envelope.payload[:12]
                _, envelope = await entry(client, sent[-1])
                assert await client.exists(envelope.payload_blob) == 1
            finally:
                await client.aclose()
            assert {u["event_id"] for u in await stack.updates("c", 201)} == set(sent)
            for event_id, body in zip(sent, [*BODIES[:200], big], strict=True):
                assert await shown(stack, event_id) == json.loads(body)
    finally:
        cluster.stop()


async def test_large_payload_waits_whole_in_the_spool(tmp_path: Path) -> None:
    server = Node(tmp_path / "redis").start()
    try:
        with Stack(tmp_path, HOOKSTREAM_REDIS_URL=server.url) as stack:
            await stack.context("spool", {"provider": "none"})
            bodies = [json.dumps({"n": n, "t": secrets.token_hex(BIG // 2)}) for n in range(3)]
            sent = [await stack.hook("spool", bodies[0].encode())]
            server.kill()
            sent.append(await stack.hook("spool", bodies[1].encode()))
            # the receiver dies as well: its disk alone knows
            stack.find("receive").send_signal(signal.SIGKILL)
            await asyncio.to_thread(stack.wait_receiver)
            sent.append(await stack.hook("spool", bodies[2].encode()))
            assert (await stack.health())["parts"]["spool"]["bytes"] > BIG // 2
            server.start()
            updates = await stack.updates("spool", 3)
            assert [update["event_id"] for update in updates] == sent
            async with redis.asyncio.Redis.from_url(server.url, protocol=2) as client:
                for event_id, body in zip(sent, bodies, strict=True):
                    data, envelope = await entry(client, event_id)
                    assert (len(data) < 1000, bool(envelope.payload_blob)) == (True, True)
                    assert await shown(stack, event_id) == json.loads(body)
    finally:
        server.kill()
