"""Dedup as a user has it: functions of one's own, and copies that come after the window."""

import asyncio
import json
import secrets
import shutil
from collections.abc import Iterator

import aiohttp
import pytest
import redis.asyncio

from hookstream.app import embedded
from hookstream.app.redis import keys
from tests.support import ROOT
from tests.support.fragile import Fragile
from tests.support.stack import eventually, fresh

MOODY = '''
"""A dedup function that fails on what says so, until a file says that it is healed."""
from pathlib import Path
from hookstream.app.main import app

@app.dedup("moody")
def moody(event):
    wish = event.data()
    if wish.get("poison") and not Path({folder!r}, wish["poison"]).exists():
        raise ValueError(f"poison {{wish['n']}}")
    return wish["n"] if wish.get("odd") else str(wish["n"])
'''


@pytest.fixture(scope="module")
def moody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    """A system with two dedup functions, in files beside its stages."""
    stack = Fragile(tmp_path_factory.mktemp("moody"))
    (stack.stages / "moody.py").write_text(MOODY.format(folder=str(stack.stages)))
    shutil.copy(ROOT / "examples" / "order_id.py", stack.stages)
    with stack:
        yield stack


async def shown(stack: Fragile, event_id: str) -> tuple[str, str | None, str | None]:
    event = await stack.get(f"/events/{event_id}")
    return event["status"], event["duplicate_of"], event["dedup"]


async def judged(stack: Fragile, event_id: str, *wanted: str | None) -> None:
    async def reached() -> bool:
        return await shown(stack, event_id) == wanted

    await eventually(reached, f"{event_id} is {wanted}")


async def test_a_function_of_ones_own_says_what_is_the_same(moody: Fragile, name: str) -> None:
    tool = {"provider": "none", "dedup": {"strategy": "custom", "name": "order_id"}}
    await moody.context(name, tool)
    assert (await moody.get(f"/tools/{name}"))["dedup"]["name"] == "order_id"
    paid = await moody.hook(name, b'{"order": {"id": 7, "status": "paid"}, "sent": 1}')
    again = await moody.hook(name, b'{"order": {"id": 7, "status": "paid"}, "sent": 2}')
    shipped = await moody.hook(name, b'{"order": {"id": 7, "status": "shipped"}}')
    # what the function says nothing of is never a duplicate
    others = [await moody.hook(name, b'{"hello": "world"}') for _ in range(2)]
    updates = await moody.updates(name, 4)
    assert [update["event_id"] for update in updates] == [paid, shipped, *others]
    await judged(moody, again, "duplicate", paid, "window")


async def test_an_unknown_function_is_refused_with_those_that_exist(moody: Fragile) -> None:
    body = {"provider": "none", "dedup": {"strategy": "custom", "name": "order"}}
    async with (
        moody.session() as session,
        session.put("/api/v1/tools/unknown-function", json=body) as response,
    ):
        assert response.status == 400
        assert "there are: moody, order_id" in (await response.json())["detail"]


async def test_an_event_whose_function_fails_is_kept_and_tried_again_alone(
    moody: Fragile, name: str
) -> None:
    await moody.context(
        name, {"provider": "none", "dedup": {"strategy": "custom", "name": "moody"}}
    )
    failing = await moody.post(name, 1, poison=name)
    fine = await moody.post(name, 2)
    assert [u["event_id"] for u in await moody.updates(name, 1)] == [fine]
    await moody.becomes(failing, "dead")
    failed_event = await moody.failed_event(failing)
    assert failed_event["stage"] == "dedupe"
    assert failed_event["error"] == "ValueError: poison 1"
    moody.heal(name)
    assert await moody.call("POST", f"/dead-letters/{failing}/retry") in (200, 202)
    await moody.becomes(failing, "delivered")
    # now that it has a message id a copy is known as one
    assert (await moody.get(f"/events/{failing}"))["message_id"].startswith(f"{name}:unknown:")
    copy = await moody.post(name, 1, poison=name)
    await judged(moody, copy, "duplicate", failing, "window")


async def test_a_function_that_returns_no_text_fails_its_event(moody: Fragile, name: str) -> None:
    await moody.context(
        name, {"provider": "none", "dedup": {"strategy": "custom", "name": "moody"}}
    )
    odd = await moody.hook(name, json.dumps({"n": 3, "odd": True}).encode())
    await moody.becomes(odd, "dead")
    assert "returned int: str or None is wanted" in (await moody.failed_event(odd))["error"]


async def test_function_claim_check_schema_and_retry_on_one_event(
    moody: Fragile, name: str
) -> None:
    schema = {"properties": {"text": {"maxLength": 3}}}
    body = {"schemaType": "JSON", "schema": json.dumps(schema)}
    async with (
        moody.session() as session,
        session.post(f"/registry/subjects/{name}/versions", json=body) as response,
    ):
        assert response.status == 200
    await moody.context(
        name,
        {
            "provider": "none",
            "dedup": {"strategy": "custom", "name": "moody"},
            "schema": {"subject": name, "on_violation": "mark"},
        },
        where="payload.n == 1",
    )
    sent = {"n": 1, "poison": name, "text": secrets.token_hex(500_000)}
    large = await moody.hook(name, json.dumps(sent).encode())
    await moody.becomes(large, "dead")
    moody.heal(name)
    assert await moody.call("POST", f"/dead-letters/{large}/retry") in (200, 202)
    [update] = await moody.updates(name, 1)
    wanted = ["/text breaks #/properties/text/maxLength"]
    assert (update["event_id"], update["schema_errors"]) == (large, wanted)
    await moody.becomes(large, "delivered")
    async with (
        moody.session() as session,
        session.post("/api/v1/replays", json={"event_id": large}) as response,
    ):
        assert response.status == 202
    replayed = (await moody.updates(name, 2))[1]
    assert (replayed["event_id"], replayed["schema_errors"]) == (large, wanted)
    copy = await moody.hook(name, json.dumps({**sent, "more": 1}).encode())
    await judged(moody, copy, "duplicate", large, "window")
    event = await moody.get(f"/events/{large}")
    assert (event["payload"], event["schema_errors"]) == (sent, wanted)
    assert event["payload_bytes"] == len(json.dumps(sent))
    # what a stage has changed beside the payload does not take the payload along
    url = str(embedded.find_valkey(moody.state_dir / "state"))
    async with redis.asyncio.Redis.from_url(url, protocol=2) as client:
        blobs = [key async for key in client.scan_iter(match=f"*:blob:{large}")]
        assert len(blobs) == 1
        for p in range(8):
            for _, fields in await client.xrange(keys.updates(p)):
                assert len(fields[b"d"]) < 10_000


SHORT = {"provider": "none", "dedup": {"window": "1s", "history": "2d"}}


async def test_a_copy_after_the_window_is_found_also_by_a_worker_that_begins_anew(
    moody: Fragile, name: str
) -> None:
    await moody.context(name, SHORT)
    first = await moody.post(name, 1)
    await moody.updates(name, 1)
    for _ in range(2):
        await asyncio.sleep(1.1)
        copy = await moody.post(name, 1)
        await judged(moody, copy, "duplicate", first, "history")
        moody.find("worker").kill()
    fresh = await moody.post(name, 2)
    assert [u["event_id"] for u in await moody.updates(name, 2)] == [first, fresh]


async def test_metrics_tell_layers_apart_and_how_full_the_filters_are(
    moody: Fragile, name: str
) -> None:
    await moody.context(name, SHORT)
    for pause in (0, 1.1, 0):
        await asyncio.sleep(pause)
        last = await moody.post(name, 1)
        await eventually(lambda event=last: moody.get(f"/events/{event}"), "it is there")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{moody.worker_port}") as session:

        async def counted() -> str:
            async with fresh(session, "/metrics") as response:
                text = await response.text()
            lines = [
                f'hookstream_dedup_duplicates_total{{layer="{layer}",tool="{name}"}} 1.0'
                for layer in ("window", "history")
            ]
            # filters are measured now and then
            metrics = (
                'hookstream_dedup_confirmations_total{result="duplicate"}',
                "hookstream_dedup_confirmation_seconds_count",
                "hookstream_dedup_history_fill_ratio",
                'hookstream_dedup_history_false_positive_ratio{kind="estimated"}',
                'hookstream_dedup_history_false_positive_ratio{kind="observed"}',
                "hookstream_dedup_history_bytes",
            )
            return text if all(line in text for line in (*lines, *metrics)) else ""

        await eventually(counted, "both layers are counted, and the filters measured")


async def test_while_postgresql_hangs_a_late_copy_passes_marked(moody: Fragile, name: str) -> None:
    await moody.context(name, SHORT)
    first = await moody.post(name, 1)
    await judged(moody, first, "delivered", None, None)
    await asyncio.sleep(1.1)
    [server] = [process for process in moody.processes() if process.name() == "postgres"]
    servers = [server, *server.children(recursive=True)]
    for process in servers:
        process.suspend()
    try:
        copy = await moody.post(name, 1)
        assert [u["event_id"] for u in await moody.updates(name, 2)] == [first, copy]
    finally:
        for process in servers:
            process.resume()
    await judged(moody, copy, "delivered", None, "unconfirmed")
