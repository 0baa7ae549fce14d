"""Whatever is kept has a rule in docs/retention.md: what a busy system leaves is looked through."""

import json
import os
import re
from pathlib import Path
from typing import Any

import asyncpg
import redis

from hookstream.app import embedded
from hookstream.app.redis import keys
from tests.support import ROOT
from tests.support.fragile import Fragile
from tests.support.stack import eventually

_TOKEN = re.compile(r"`([^`]+)`")
_TAGGED = re.compile(r"\{hs:(?:\d+|p)\}:([a-z-]+)")


def kind_of(key: str) -> str:
    """What a key is one of: its name without partition, context, tool and number.

    >>> [kind_of(key) for key in ("{hs:3}:feed:t/c", "{hs:alerts}:failures:x", "hs:refusals:t/x")]
    ['{hs:p}:feed', '{hs:alerts}:failures', 'hs:refusals']
    """
    if tagged := _TAGGED.match(key):
        return f"{{hs:p}}:{tagged[1]}"
    return ":".join(key.split(":")[: 3 if key.startswith("{") else 2])


def rows() -> list[list[str]]:
    """Cells of all tables of the page."""
    text = (ROOT / "docs/retention.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def ruled() -> set[str]:
    """Kinds of keys, and tables, that have a rule: what stands in the first cell of a row."""
    named = {name for cells in rows() for name in _TOKEN.findall(cells[0])}
    return {kind_of(name) if "hs:" in name else name for name in named}


def test_every_key_that_there_can_be_has_a_rule() -> None:
    made: set[str] = set()
    for name in keys.__all__:
        found: Any = getattr(keys, name)
        if isinstance(found, str):
            made.add(found)
        elif callable(found) and name not in ("stream", "barrier_of", "feed_channel", "feed_field"):
            count = found.__code__.co_argcount - len(found.__defaults__ or ())
            values = {"stream_key": "{hs:1}:events"}
            wanted = found.__code__.co_varnames[:count]
            made.add(found(*(values.get(argument, 1) for argument in wanted)))
    made.remove(keys.GROUP)
    assert len(made) > 40
    assert sorted({kind_of(key) for key in made} - ruled()) == []


def test_rows_say_how_long() -> None:
    kept = [cells for cells in rows() if kind_of(cells[0].strip("`")) and len(cells) >= 4]
    for cells in kept:
        assert all(cells[:3]), cells


async def test_a_busy_system_keeps_nothing_without_a_rule(tmp_path: Path) -> None:
    with Fragile(tmp_path, HOOKSTREAM_COMPRESSION="dictionary") as stack:
        await busy(stack)
        state = stack.state_dir / "state"
        with redis.Redis.from_url(embedded.find_valkey(state), protocol=2) as client:
            found = {key.decode() for key in client.scan_iter(count=1000)}
        connection = await asyncpg.connect(str(embedded.find_postgres(state)))
        try:
            tables = {
                row["table_name"]
                for row in await connection.fetch(
                    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
                )
            }
        finally:
            await connection.close()
    kinds = {kind_of(key) for key in found}
    # it has been busy: else this says nothing
    assert {
        "{hs:p}:feed", "{hs:p}:folded", "{hs:p}:withheld", "{hs:p}:blob", "{hs:p}:dead-letters",
        "{hs:p}:letter", "{hs:p}:holds", "{hs:p}:trimmed", "{hs:p}:ack-times", "{hs:p}:seqs",
        "{hs:p}:acks", "{hs:p}:feed-marks", "hs:refusals", "hs:workers",
    } <= kinds  # fmt: skip
    assert sorted(kinds - ruled()) == []
    assert sorted(tables - ruled()) == []


async def busy(stack: Fragile) -> None:
    """A little of everything."""
    await stack.put("/tools/plain", {"provider": "none"})
    await stack.put(
        "/tools/holds", {"provider": "none", "ordering": {"by": "tool", "on_error": "hold"}}
    )
    for name, context in (
        ("few", {"retention": {"updates": 3}, "daily": {"at": "00:00"}}),
        ("slow", {"rate": {"updates_per_second": 0.5, "burst": 1}}),
        ("gone", {}),
    ):
        await stack.put(f"/contexts/{name}", context)
        await stack.put(f"/contexts/{name}/subscriptions/all", {"tool": "plain", "types": ["*"]})
    await stack.put("/contexts/few/subscriptions/holds", {"tool": "holds", "types": ["*"]})
    for n in range(8):
        await stack.post("plain", n)
    await stack.hook("plain", json.dumps({"n": 9, "large": os.urandom(500_000).hex()}).encode())
    bad = await stack.post("holds", 1, "poison")
    await stack.post("holds", 2)
    await stack.becomes(bad, "dead")
    assert await stack.call("POST", "/contexts/few/ack", seq=2) == 200
    assert await stack.call("POST", "/replays", tool="plain") in (201, 202)
    async with stack.session() as session:
        await session.post("/hooks/nobody", data=b"{}")

    async def refused() -> bool:
        return bool((await stack.get("/unknown-tools/refusals"))["refusals"])

    await eventually(refused, "what was refused is kept")
    assert await stack.call("DELETE", "/contexts/gone") == 204

    async def digested() -> bool:
        page = await stack.get("/contexts/slow/updates")
        return "digest" in [update["kind"] for update in page["updates"]]

    await eventually(digested, "a digest stands for many")
    await stack.put("/contexts/slow", {"rate": {"updates_per_second": 0.001, "burst": 1}})
    for n in range(3):
        await stack.post("plain", 100 + n)

    async def trimmed() -> bool:
        return "truncated" in await stack.get("/contexts/few/updates")

    # one's own rule counts at once; the round over all feeds comes within the minute
    await stack.put("/contexts/few", {"retention": {"updates": 2}})
    await eventually(trimmed, "a feed is trimmed", 60)
