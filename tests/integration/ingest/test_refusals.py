"""The door's black box in Redis: bounded for each tool, and no tool's flood is another's loss."""

import asyncio
import time
from dataclasses import replace
from typing import Any, cast

import pytest
import redis.asyncio
from prometheus_client import REGISTRY

from hookstream.app.ingest import refusals as module
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts, connect
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.stores.catalog import CatalogCache
from hookstream.codecs.sealed import KEYS, is_sealed, month_of
from tests.support.data_keys import new_key, sealing
from tests.support.refused import REFUSED
from tests.support.stack import eventually


def tool(name: str) -> Tool:
    return Tool(name, "t", "github", (), SignatureOptions(), "payload", (), 0, "tool", "")


A, B = tool("a"), tool("b")


class Snapshot:
    """A catalog of so many tools."""

    def __init__(self, tools: int = 2) -> None:
        self.current = Catalog(tools={str(number): A for number in range(tools)})


def box(client: Any, tools: int = 2) -> Refusals:
    return Refusals(client, Scripts(client), cast(CatalogCache, Snapshot(tools)))


@pytest.fixture
def kept(redis_client: "redis.asyncio.Redis") -> Refusals:
    return box(redis_client)


def not_kept() -> float:
    return REGISTRY.get_sample_value("hookstream_refusals_not_kept_total") or 0.0


async def test_what_was_refused_comes_back_as_it_was(kept: Refusals) -> None:
    kept.keep(A, REFUSED)
    await kept.write()
    [found] = await kept.page(A, 10)
    assert replace(found, refusal_id="") == REFUSED
    assert await kept.get(A, found.refusal_id) == found
    assert await kept.get(B, found.refusal_id) is None
    await kept.remove(A, found.refusal_id)
    assert await kept.page(A, 10) == []


async def test_where_payloads_are_sealed_all_of_a_refused_webhook_is(
    redis_client: "redis.asyncio.Redis",
) -> None:
    now_ms = time.time_ns() // 1_000_000
    kept = Refusals(
        redis_client,
        Scripts(redis_client),
        cast(CatalogCache, Snapshot()),
        sealing(now_ms),
        tenant="t",
    )
    # one that only looks sealed, and came before
    before = replace(REFUSED, body=b"\xffHS\x01" + bytes(40))
    early = box(redis_client)
    early.keep(A, before)
    await early.write()
    kept.keep(A, REFUSED)
    await kept.write()
    # without a key nothing is kept
    assert [replace(found, refusal_id="") for found in await kept.page(A, 10)] == [before]
    key = new_key("t", month_of(now_ms))
    for whose in (A, None):
        kept.keep(whose, REFUSED)
    await kept.write()
    for whose in (A, None):
        [(_, entry)] = await redis_client.xrevrange(module._key(whose), count=1)
        assert all(is_sealed(entry[name]) for name in (b"r", b"h", b"b"))
        found = (await kept.page(whose, 10))[0]
        assert replace(found, refusal_id="") == REFUSED
    KEYS.destroy(key.key_id)
    assert [replace(found, refusal_id="") for found in await kept.page(A, 10)] == [before]
    await redis_client.delete(module._key(None))


async def test_a_flood_of_one_tool_takes_nothing_of_another_or_of_unknown_ones(
    kept: Refusals,
) -> None:
    for whose in (A, None):
        kept.keep(whose, REFUSED)
    await kept.write()
    for _ in range(300):
        kept.keep(B, replace(REFUSED, body=b"x" * 50_000))
        await kept.write()
    assert len(await kept.page(A, 1000)) == len(await kept.page(None, 1000)) == 1
    assert 10 < len(await kept.page(B, 1000)) <= module.TOOL_REFUSALS


@pytest.mark.parametrize("tools", [1, 1000])
async def test_a_tool_has_its_share_of_bytes_and_no_more(
    redis_client: "redis.asyncio.Redis", tools: int
) -> None:
    kept = box(redis_client, tools)
    share = module.TOOL_BYTES if tools == 1 else module.TOTAL_BYTES // (tools + 1)
    large = replace(REFUSED, body=b"x" * 5_000_000, body_bytes=5_000_000)
    for number in range(60):
        kept.keep(A, replace(large, path=f"/{number}"))
        await kept.write()
    found = await kept.page(A, 1000)
    assert share / 2 < sum(len(refusal.body) for refusal in found) <= share
    assert found[0].path == "/59"
    assert not any(refusal.whole for refusal in found)
    assert await redis_client.memory_usage(keys.refusals("t", "a"), samples=0) < 2 * share
    for _ in range(module.TOOL_REFUSALS + 20):
        kept.keep(A, replace(REFUSED, body=b""))
        await kept.write()
    assert len(await kept.page(A, 1000)) <= module.TOOL_REFUSALS


async def test_headers_and_paths_without_end_are_cut_and_not_taken_for_whole(
    kept: Refusals,
) -> None:
    odd = {f"x-{number}": ("\udcff" * 1000,) for number in range(100)}
    for refusal in (replace(REFUSED, headers=odd), replace(REFUSED, path="/" + "p" * 100_000)):
        kept.keep(A, refusal)
    kept.keep(A, replace(REFUSED, detail="d" * 100_000, tool_id="i" * 100_000))
    await kept.write()
    long_detail, long_path, many_headers = await kept.page(A, 10)
    assert 5 < len(many_headers.headers) < 20
    assert (len(long_path.path), len(long_detail.detail)) == (2048, 500)
    assert [found.whole for found in (long_detail, long_path, many_headers)] == [True, False, False]


async def test_of_a_flood_a_few_at_a_time_are_kept_and_all_are_counted(kept: Refusals) -> None:
    label = {"tool": "a", "reason": "flood"}
    before = not_kept()
    for _ in range(20_000):
        if kept.count(A, "flood"):
            kept.keep(A, REFUSED)
    assert kept.count(B, "other")
    await kept.write()
    assert len(await kept.page(A, 1000)) == module.WRITE_REFUSALS
    assert REGISTRY.get_sample_value("hookstream_refusals_total", label) == 20_000
    assert not_kept() - before == 20_000 - module.WRITE_REFUSALS


async def test_unknown_tools_are_one_label(kept: Refusals) -> None:
    label = {"tool": "(unknown)", "reason": "not-found"}
    before = REGISTRY.get_sample_value("hookstream_refusals_total", label) or 0.0
    for number in range(10):
        if kept.count(None, "not-found"):
            kept.keep(None, replace(REFUSED, tool_id=f"nobody-{number}"))
    assert REGISTRY.get_sample_value("hookstream_refusals_total", label) == before + 10


async def test_while_redis_is_away_they_are_dropped_and_memory_stays_bounded() -> None:
    client = connect("redis://127.0.0.1:1/0", timeout_seconds=0.2)
    kept, before = box(client), not_kept()
    for _ in range(50):
        for whose in (A, B, None):
            if kept.count(whose, "away"):
                kept.keep(whose, REFUSED)
    await kept.write()
    assert not kept._waiting
    assert not_kept() - before == 150
    await client.aclose()


async def test_what_waits_is_bounded_in_all_and_each_leaves_a_trace(
    redis_client: "redis.asyncio.Redis",
) -> None:
    kept = box(redis_client)
    tools = [tool(f"t{number}") for number in range(400)]
    headers = {f"x-{number}": ("v" * 1000,) for number in range(10)}
    for each in tools:
        kept.keep(each, replace(REFUSED, headers=headers, body=b"x" * 60_000, body_bytes=60_000))
    held = sum(len(part) for parts in kept._waiting.values() for part in parts)
    assert held < module.WAITING_BYTES + len(tools) * 500
    await kept.write()
    for each in tools[::50]:
        assert len(await kept.page(each, 10)) == 1


async def test_pages_follow_each_other(kept: Refusals) -> None:
    for number in range(7):
        kept.keep(A, replace(REFUSED, path=f"/{number}"))
        await kept.write()
    paths, before = [], ""
    while page := await kept.page(A, 3, before):
        paths += [refusal.path for refusal in page]
        before = page[-1].refusal_id
    assert paths == [f"/{number}" for number in reversed(range(7))]


async def test_they_end_by_themselves(
    kept: Refusals, redis_client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep(A, REFUSED)
    await kept.write()
    left_ms = await redis_client.pttl(keys.refusals("t", "a"))
    assert 23 * 3_600_000 < left_ms <= 24 * 3_600_000
    monkeypatch.setattr(module, "KEPT_MS", 100)
    await asyncio.sleep(0.11)
    # not shown, although newer ones keep the stream; and gone with the next one
    assert await kept.page(A, 10) == []
    kept.keep(A, REFUSED)
    await kept.write()
    assert await redis_client.xlen(keys.refusals("t", "a")) == 1

    async def gone() -> bool:
        return not await redis_client.exists(keys.refusals("t", "a"))

    await eventually(gone, "the stream has ended")


async def test_the_log_says_it_once_for_many(
    kept: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        kept.count(A, "bad-signature")
    kept.count(None, "not-found")
    kept._say(1000.0)
    for _ in range(100):
        kept.count(A, "bad-signature")
        kept._say(1000.0 + module.SAID_SECONDS - 0.1)
    kept._say(1000.0 + module.SAID_SECONDS)
    first, second = [record.getMessage() for record in caplog.records]
    assert "101 webhooks were refused (a: bad-signature 100, (unknown): not-found 1)" in first
    assert "100 webhooks were refused" in second


async def test_who_floods_many_tools_has_no_more_kept_for_that(kept: Refusals) -> None:
    tools = [tool(f"of-{number}") for number in range(100)]
    for one in tools:
        if kept.has_room(one):
            kept.keep(one, REFUSED)
        else:
            kept.pass_over(one, "too-many")
    assert [kept.has_room(one) for one in tools] == [False] * 100
    assert kept.has_room(replace(A, tenant="another"))
    await kept.write()
    found = [len(await kept.page(one, 10)) for one in tools]
    assert sum(found) == module.TENANT_WRITE_REFUSALS
    assert kept.has_room(tools[99])
