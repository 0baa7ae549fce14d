"""A history comes in by the command, is kept, known to dedup, and goes out again as it was."""

import asyncio
import gzip
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hookstream.app import embedded
from hookstream.app.commands.client import ApiClient
from hookstream.app.settings import Settings
from tests.integration.web.test_agent_keys import call
from tests.support.s3 import BUCKET, S3
from tests.support.stack import Stack, eventually

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    server.empty()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("history"), **s3.environ) as stack:
        yield stack


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An empty installation, with another number of partitions."""
    with Stack(tmp_path_factory.mktemp("other"), HOOKSTREAM_PARTITIONS="4") as stack:
        yield stack


def command(stack: Stack, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        stack.command("--quiet", *arguments),
        env=stack.environment(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def run(stack: Stack, *arguments: str, cwd: Path, status: int = 0) -> tuple[str, str]:
    """A command to its end: what it said on both streams."""
    process = command(stack, *arguments, cwd=cwd)
    said = await asyncio.to_thread(process.communicate)
    assert process.returncode == status, said
    return said


async def imported(stack: Stack, *arguments: str, cwd: Path, status: int = 0) -> dict[str, Any]:
    out, _ = await run(stack, "import", "--json", "--rate", "0", *arguments, cwd=cwd, status=status)
    return dict(json.loads(out))


def past(number: int, **more: Any) -> dict[str, Any]:
    """A line: a day apart each, the newest a day old."""
    at = NOW - timedelta(days=number + 1)
    return {
        "received_at": at.isoformat(),
        "type": f"order.{number}",
        "delivery_id": f"d-{number}",
        "payload": {"n": number, "key": f"k{number % 5}"},
        **more,
    }


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def counts(shown: dict[str, Any]) -> tuple[int, ...]:
    names = ("imported", "duplicates", "known", "expired", "erased", "rejected")
    return tuple(shown[name] for name in names)


async def events(stack: Stack, tool: str) -> list[dict[str, Any]]:
    """All events of a tool, the newest first, each with its payload."""
    found = (await stack.get("/events", tool=tool, limit="1000"))["events"]
    return [await stack.get(f"/events/{one['event_id']}") for one in found]


async def test_lines_become_events_of_then_that_nobody_is_told_of(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.context(name, {"provider": "none"})
    path = write(tmp_path / "events.jsonl.gz", [past(n) for n in range(40)])
    shown = await imported(own, str(path), "--tool", name, cwd=tmp_path)
    assert (shown["status"], *counts(shown)) == ("done", 40, 0, 0, 0, 0, 0)
    found = await events(own, name)
    assert [one["payload"]["n"] for one in found] == list(range(40))
    for n, one in enumerate(found):
        assert one["received_at"] == past(n)["received_at"]
        assert (one["imported"], one["status"], one["stage"]) == (True, "unrouted", "imported")
        assert (one["tier"], one["type"]) == ("cold", f"order.{n}")
        assert one["delivery_id"] == f"d-{n}"
        assert one["deliveries"] == []
    # a search by time is one by when they were received
    since = (NOW - timedelta(days=3, hours=1)).isoformat()
    newest = (await own.get("/events", tool=name, since=since))["events"]
    assert [one["type"] for one in newest] == ["order.0", "order.1", "order.2"]
    # what comes now comes behind them, and is the only thing that was told
    event = await own.hook(name, b'{"n": "now"}')
    assert [one["event_id"] for one in await own.updates(name, 1)] == [event]
    assert (await own.get(f"/events/{event}"))["imported"] is False
    # the archive has them at their time: a folder an hour
    folders = sorted((own.state_dir / "state" / "archive").rglob("*.parquet"))
    assert sum(f"tool={name}" in str(folder) for folder in folders) == 40
    rows = (await own.get("/audit", kind="import", object=shown["import_id"]))["rows"]
    assert [row["record"]["action"] for row in rows] == ["import.changed", "import.begun"]
    assert rows[0]["record"]["after"]["imported"] == 40


async def test_times_without_a_zone_are_those_of_utc_and_that_is_said(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.put(f"/tools/{name}", {"provider": "none"})
    lines = [past(n) for n in range(3)]
    for one in lines[:2]:
        one["received_at"] = one["received_at"].removesuffix("+00:00")
    arguments = ("import", str(write(tmp_path / "e.jsonl", lines)), "--tool", name)
    out, _ = await run(own, *arguments, cwd=tmp_path)
    assert "times without a zone, taken as UTC: 2 of this run" in out
    found = await events(own, name)
    assert [one["received_at"] for one in found] == [past(n)["received_at"] for n in range(3)]
    out, _ = await run(own, *arguments, "--restart", "--json", cwd=tmp_path)
    assert json.loads(out)["no_zone"] == 2


async def test_what_all_tiers_have_fits_and_stays_so(own: Stack, name: str, tmp_path: Path) -> None:
    await own.put(f"/tools/{name}", {"provider": "none", "dedup": {"history": "7d"}})
    path = write(tmp_path / "events.jsonl", [past(n) for n in range(20)])
    await imported(own, str(path), "--tool", name, cwd=tmp_path)
    await own.hook(name, b'{"n": "now"}')
    out, _ = await run(own, "lifecycle", "verify", "--read", "--json", cwd=tmp_path)
    assert json.loads(out)["differences"] == []


async def test_the_same_lines_again_are_known_from_whichever_file(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.put(f"/tools/{name}", {"provider": "none"})
    path = write(tmp_path / "events.jsonl", [past(n) for n in range(10)])
    first = await imported(own, str(path), "--tool", name, cwd=tmp_path)
    assert counts(first) == (10, 0, 0, 0, 0, 0)
    # nothing new in it: it is read from where it was
    again = await imported(own, str(path), "--tool", name, cwd=tmp_path)
    assert (again["import_id"], counts(again)) == (first["import_id"], counts(first))
    with path.open("a") as file:
        file.write(json.dumps(past(10)) + "\n")
    other = write(tmp_path / "other.jsonl.gz", [past(n) for n in range(12)])
    shown = await imported(own, str(other), "--tool", name, cwd=tmp_path)
    assert counts(shown) == (2, 0, 10, 0, 0, 0)
    restarted = await imported(own, str(path), "--tool", name, "--restart", cwd=tmp_path)
    assert counts(restarted) == (10, 0, 11, 0, 0, 0)
    out, _ = await run(own, "import", "--list", cwd=tmp_path)
    assert re.search(rf"{first['import_id']}  {name} +done +10 +0 +11 ", out), out
    assert len(await events(own, name)) == 12


async def test_stopped_by_ctrl_c_it_goes_on_where_it_was(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.put(f"/tools/{name}", {"provider": "none"})
    lines = [past(0, payload={"n": n}, id=n) for n in range(400)]
    path = write(tmp_path / "events.jsonl.gz", lines)
    arguments = ("import", str(path), "--tool", name, "--rate", "40")
    process = command(own, *arguments, cwd=tmp_path)

    async def some() -> bool:
        found = (await own.get("/imports"))["imports"]
        return any(one["tool_id"] == name and one["imported"] for one in found)

    await eventually(some, "a page is in")
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    [before] = [one for one in (await own.get("/imports"))["imports"] if one["tool_id"] == name]
    assert 0 < before["imported"] < 400
    assert before["place"]["line"] == before["imported"]
    # and once more without warning
    process = command(own, *arguments, cwd=tmp_path)
    await asyncio.sleep(2)
    process.kill()
    await asyncio.to_thread(process.communicate)
    out, said = await run(own, *arguments[:-1], "0", "--json", cwd=tmp_path)
    assert "going on behind" in said
    shown = json.loads(out)
    assert shown["imported"] == 400
    assert shown["known"] <= 200
    found = (await own.get("/events", tool=name, limit="1000"))["events"]
    assert len({one["event_id"] for one in found}) == len(found) == 400


async def test_a_redelivery_of_an_old_event_is_known_as_one(
    own: Stack, name: str, tmp_path: Path
) -> None:
    """Within the tool's window by its mark, within its history by filter and event log."""
    tool = {"provider": "none", "dedup": {"window": "6h", "history": "7d"}}
    await own.context(name, tool)
    ages = {"hour": timedelta(hours=1), "days": timedelta(days=3), "long": timedelta(days=9)}
    lines = [
        {"received_at": (NOW - age).isoformat(), "payload": {"what": what}}
        for what, age in ages.items()
    ]
    path = write(tmp_path / "events.jsonl", lines)
    shown = await imported(own, str(path), "--tool", name, cwd=tmp_path)
    assert shown["imported"] == 3
    olds = {one["payload"]["what"]: one["event_id"] for one in await events(own, name)}
    sent = {what: await own.hook(name, json.dumps({"what": what}).encode()) for what in ages}
    updates = await own.updates(name, 1)
    assert [one["event_id"] for one in updates] == [sent["long"]]

    async def judged() -> list[dict[str, Any]]:
        found = [await own.get(f"/events/{event}") for event in sent.values()]
        return found if all(one["status"] in ("duplicate", "delivered") for one in found) else []

    found = dict(zip(ages, await eventually(judged, "all are recorded"), strict=True))
    assert [found[what]["status"] for what in ages] == ["duplicate", "duplicate", "delivered"]
    assert [found[what]["dedup"] for what in ages] == ["window", "history", None]
    assert found["hour"]["duplicate_of"] == olds["hour"]
    assert found["days"]["duplicate_of"] == olds["days"]
    # they are notes and no events: nothing but what came now moves to other tiers
    assert len((await own.get("/events", tool=name))["events"]) == 6


async def test_what_is_on_both_sides_is_one(own: Stack, name: str, tmp_path: Path) -> None:
    """Where old and new ran beside each other, and where a history has redeliveries."""
    await own.put(f"/tools/{name}", {"provider": "none"})
    here = await own.hook(name, b'{"n": 1}')

    async def recorded() -> bool:
        return bool((await own.get("/events", tool=name))["events"])

    await eventually(recorded, "it is recorded")
    # not when this file was read, which is long ago by now
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    lines = [
        {"received_at": (now - minute).isoformat(), "payload_text": '{"n": 1}'},
        {"received_at": (now - timedelta(days=40)).isoformat(), "payload_text": '{"n": 1}'},
        {
            "received_at": (now - timedelta(days=40) + minute).isoformat(),
            "payload_text": '{"n": 1}',
        },
    ]
    shown = await imported(
        own, str(write(tmp_path / "e.jsonl", lines)), "--tool", name, cwd=tmp_path
    )
    assert counts(shown) == (3, 2, 0, 0, 0, 0)
    newest, *rest = sorted(await events(own, name), key=lambda one: one["received_at"])[::-1]
    assert newest["event_id"] == here
    recent, late, first = rest
    assert (recent["status"], recent["duplicate_of"]) == ("duplicate", here)
    assert (late["status"], late["duplicate_of"]) == ("duplicate", first["event_id"])
    assert first["status"] == "unrouted"


async def test_lines_that_are_no_events_are_told_and_kept_and_others_go_on(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.put(f"/tools/{name}", {"provider": "none"})
    path = tmp_path / "events.jsonl"
    good = [json.dumps(past(n)) for n in range(4)]
    old = json.dumps(past(600))
    wrong = ["no json", json.dumps({"payload": 1}), '{"received_at": "2999-01-01", "payload": 1}']
    path.write_text("\n".join([good[0], wrong[0], "", good[1], old, *wrong[1:], *good[2:]]) + "\n")
    out, said = await run(
        own, "import", str(path), "--tool", name, "--json", cwd=tmp_path, status=1
    )
    assert counts(json.loads(out)) == (4, 0, 0, 1, 0, 3)
    assert re.findall(r"events\.jsonl:(\d+): (.{,29})", said) == [
        ("2", "is no JSON object"),
        ("6", "has no received_at: a time fr"),
        ("7", "received_at: lies in the futu"),
    ]
    kept = tmp_path / f"import-{name}.rejects.jsonl"
    assert [json.loads(line)["line"] for line in kept.read_text().splitlines()] == wrong
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_what_was_erased_stays_away(own: Stack, name: str, tmp_path: Path) -> None:
    await own.put(f"/tools/{name}", {"provider": "none"})
    mail = f"{name}@example.com"
    lines = [past(0, payload={"mail": mail}), past(1), past(2)]
    path = write(tmp_path / "events.jsonl", lines)
    await imported(own, str(path), "--tool", name, cwd=tmp_path)
    await run(own, "erase", "subject", mail, "--yes", cwd=tmp_path)
    found = await events(own, name)
    assert [one["status"] for one in found] == ["erased", "unrouted", "unrouted"]
    assert mail not in json.dumps(found)
    # the same again is known; from elsewhere, or of somebody else's file, it does not come back
    again = write(tmp_path / "again.jsonl", [*lines, past(3, payload={"to": [mail]})])
    shown = await imported(own, str(again), "--tool", name, cwd=tmp_path)
    assert counts(shown) == (0, 0, 3, 0, 1, 0)
    # what is new since then is of no erasure's
    later = {"received_at": datetime.now(UTC).isoformat(), "payload": {"mail": mail}}
    shown = await imported(
        own, str(write(tmp_path / "later.jsonl", [later])), "--tool", name, cwd=tmp_path
    )
    assert counts(shown) == (1, 0, 0, 0, 0, 0)
    out, _ = await run(own, "lifecycle", "verify", "--read", "--json", cwd=tmp_path)
    assert json.loads(out)["differences"] == []


async def test_nothing_but_what_is_masked_is_kept_where_a_tool_says_so(
    own: Stack, name: str, tmp_path: Path
) -> None:
    masking = {"agents": {"email": "mask"}, "keep": "masked"}
    await own.put(f"/tools/{name}", {"provider": "none", "masking": masking})
    line = past(0, payload={"mail": "jane@example.com"})
    await imported(own, str(write(tmp_path / "e.jsonl", [line])), "--tool", name, cwd=tmp_path)
    [found] = await events(own, name)
    assert found["payload_kept"] == "masked"
    assert "jane" not in json.dumps(found["payload"])
    for path in (own.state_dir / "state" / "archive").rglob("*.parquet"):
        if f"tool={name}" in str(path):
            assert b"jane@example.com" not in path.read_bytes()


async def test_an_import_is_delivered_when_that_is_asked_for(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.context(name, {"provider": "none"})
    path = write(tmp_path / "events.jsonl", [past(n) for n in range(5)])
    await imported(own, str(path), "--tool", name, cwd=tmp_path)
    second = write(tmp_path / "more.jsonl", [past(n) for n in range(5, 8)])
    out, said = await run(
        own, "import", str(second), "--tool", name, "--deliver", "--json", cwd=tmp_path
    )
    assert "delivers 3 events" in said
    updates = await own.updates(name, 3)
    # in the order of time, and only those of this import
    assert [one["event_type"] for one in updates] == ["order.7", "order.6", "order.5"]
    assert json.loads(out)["imported"] == 3
    assert {one["provenance"]["source"] for one in updates} == {"import"}

    async def recorded() -> list[dict[str, Any]]:
        shown = await own.get(f"/events/{updates[0]['event_id']}")
        return list(shown["deliveries"])

    [delivery] = await eventually(recorded, "the delivery is recorded")
    assert delivery["replay_id"]
    # an event's id is none of an import
    unknown = updates[0]["event_id"]
    out, said = await run(own, "replay", "--imported", unknown, cwd=tmp_path, status=2)
    assert f"there is no import {unknown}" in said
    assert out == ""


async def test_from_a_table_of_the_predecessor_s(own: Stack, name: str, tmp_path: Path) -> None:
    tool = {"provider": "github", "secrets": ["s" * 32], "dedup": {"strategy": "delivery"}}
    await own.put(f"/tools/{name}", tool)
    dsn = str(embedded.find_postgres(own.state_dir / "state"))
    connection = await asyncpg.connect(dsn)
    table = f"old_{name}"
    await connection.execute(
        f"CREATE TABLE {table} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), created_at "
        "timestamptz, event_type text, delivery_id text, payload jsonb)"
    )
    body = {"action": "opened", "number": 1, "pull_request": {}, "sender": {}, "repository": {}}
    rows = [
        # many of one time: the place is time and id
        (NOW - timedelta(days=1 + n // 50), "pull_request", f"d-{n}", json.dumps(body))
        for n in range(120)
    ]
    await connection.executemany(
        f"INSERT INTO {table} (created_at, event_type, delivery_id, payload) "
        "VALUES ($1, $2, $3, $4)",
        rows,
    )
    arguments = ("import", dsn, "--table", table, "--tool", name, "--json")
    process = command(own, *arguments, "--rate", "6", cwd=tmp_path)

    async def some() -> bool:
        found = (await own.get("/imports"))["imports"]
        return any(one["tool_id"] == name and one["imported"] for one in found)

    await eventually(some, "a page is in")
    process.send_signal(signal.SIGINT)
    out, said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 130, said
    assert "hookstream:hookstream@" not in said + out
    shown = await imported(own, *arguments[1:-1], cwd=tmp_path)
    assert (shown["status"], shown["imported"], shown["known"]) == ("done", 120, 0)
    assert shown["source"].startswith("postgresql://")
    assert "@" not in shown["source"]
    found = (await own.get("/events", tool=name, limit="1000"))["events"]
    assert {one["type"] for one in found} == {"pull_request.opened"}
    assert {one["delivery_id"] for one in found} == {f"d-{n}" for n in range(120)}
    # rows that came since, and a query of one's own
    await connection.executemany(
        f"INSERT INTO {table} (created_at, event_type, delivery_id, payload) "
        "VALUES ($1, $2, $3, $4)",
        [(NOW, "pull_request", "d-120", json.dumps(body))],
    )
    assert (await imported(own, *arguments[1:-1], cwd=tmp_path))["imported"] == 121
    query = (
        "SELECT created_at AS received_at, event_type, delivery_id, payload::text AS payload "
        f"FROM {table};"
    )
    shown = await imported(own, dsn, "--query", query, "--tool", name, cwd=tmp_path)
    assert shown["imported"] + shown["known"] == 121
    # columns that are nothing of an event
    query = query.replace("SELECT ", "SELECT 1 AS zone, ")
    arguments = ("import", dsn, "--query", query, "--tool", name)
    _, said = await run(own, *arguments, cwd=tmp_path, status=2)
    assert "a column zone: call them" in said
    assert "`--ignore zone` leaves it out" in said
    shown = await imported(own, *arguments[1:], "--ignore", "zone", cwd=tmp_path)
    assert shown["imported"] + shown["known"] == 121
    await connection.execute(f"DROP TABLE {table}")
    await connection.close()


async def test_there_and_back_by_a_bucket_they_are_the_same(
    own: Stack, other: Stack, s3: S3, name: str, tmp_path: Path
) -> None:
    """Events of all tiers, imported ones and duplicates among them, in an empty installation."""
    ttl = {"hot": "1s", "warm": "1s", "cold": "365d"}
    await own.put(f"/tools/{name}", {"provider": "none", "ttl": ttl})
    lines = [past(n, headers={"traceparent": "x"}) for n in range(30)]
    lines.append(past(3, payload_base64="//4=", payload=None))
    lines[-1].pop("payload")
    path = write(tmp_path / "events.jsonl", lines)
    await imported(own, str(path), "--tool", name, cwd=tmp_path)
    bodies = [b'{"n": 1.10}', b"no json\n", b'{"n": 1.10}', "größer".encode()]
    for body in bodies:
        await own.hook(name, body)

    async def recorded() -> bool:
        return len((await own.get("/events", tool=name, limit="1000"))["events"]) == 35

    await eventually(recorded, "all are recorded")
    await run(own, "lifecycle", "run", cwd=tmp_path)
    await own.hook(name, b'{"hot": true}')

    async def hot() -> bool:
        return len((await own.get("/events", tool=name, limit="1000"))["events"]) == 36

    await eventually(hot, "the last one is recorded")
    out = f"s3://{BUCKET}/{name}"
    await run(own, "export", "--tool", name, "--out", out, cwd=tmp_path)
    # nothing new: nothing is written
    objects = [one["Key"] for one in s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]]
    _, said = await run(own, "export", "--tool", name, "--out", out, cwd=tmp_path)
    assert "going on behind" in said
    assert objects == [one["Key"] for one in s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]]
    await own.hook(name, b'{"later": true}')

    async def later() -> bool:
        return len((await own.get("/events", tool=name, limit="1000"))["events"]) == 37

    await eventually(later, "a later one is recorded")
    await run(own, "export", "--tool", name, "--out", out, cwd=tmp_path)
    await other.put(f"/tools/{name}", {"provider": "none"})
    environment, other.settings = other.settings, {**other.settings, **s3.environ}
    shown = await imported(other, out, "--tool", name, cwd=tmp_path)
    other.settings = environment
    assert (shown["imported"], shown["rejected"]) == (37, 0)
    there, here = await events(own, name), await events(other, name)
    assert [comparable(one) for one in here] == [comparable(one) for one in there]
    # and back again it is known, whatever its partition is called there
    out2, _ = await run(other, "export", "--tool", name, cwd=tmp_path)
    back = tmp_path / "back.jsonl"
    back.write_text(out2)
    shown = await imported(own, str(back), "--tool", name, cwd=tmp_path)
    assert counts(shown) == (0, 0, 37, 0, 0, 0)


def comparable(event: dict[str, Any]) -> dict[str, Any]:
    """What is the same wherever an event is: not where it is kept, nor whom it has reached."""
    names = (
        "received_at", "provider", "type", "message_id", "delivery_id", "payload", "content_type",
        "payload_encoding", "payload_bytes", "headers", "enrichment", "batch_id",
    )  # fmt: skip
    # but for the partition in it
    found = {name: event[name] for name in names}
    found["id"] = event["event_id"][:14], event["event_id"][18:]
    found["duplicate"] = event["status"] == "duplicate"
    return found


async def test_the_way_back_in_the_predecessor_s_format(
    own: Stack, name: str, tmp_path: Path
) -> None:
    await own.put(f"/tools/{name}", {"provider": "none"})
    await imported(
        own, str(write(tmp_path / "e.jsonl", [past(n) for n in range(3)])), "--tool", name,
        cwd=tmp_path,
    )  # fmt: skip
    since = (NOW - timedelta(days=2, hours=1)).isoformat()
    file = tmp_path / "out.jsonl.gz"
    arguments = ("export", "--tool", name, "--format", "predecessor", "--since", since)
    await run(own, *arguments, "--out", str(file), cwd=tmp_path)
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert [line["delivery_id"] for line in lines] == ["d-1", "d-0"]
    assert lines[0]["payload"] == past(1)["payload"]
    assert lines[0]["event_type"] == "order.1"
    # a file is not written over
    _, said = await run(own, *arguments, "--out", str(file), cwd=tmp_path, status=2)
    assert "is there already" in said
    again = f"{name}-again"
    await own.put(f"/tools/{again}", {"provider": "none"})
    shown = await imported(own, str(file), "--tool", again, "--format", "predecessor", cwd=tmp_path)
    assert shown["imported"] == 2
    read = (await own.get("/audit", action="event.exported"))["rows"]
    assert read


async def test_tenants_have_quotas_and_their_own_imports(
    own: Stack, name: str, tmp_path: Path
) -> None:
    status, made = await call(
        own, own.key, "POST", "/tenants", tenant_id=name, quotas={"events_per_day": 100}
    )
    assert status in (200, 201), made
    headers = {"Hookstream-Tenant": name}
    async with own.session() as session:
        session.headers.update(headers)
        async with session.put(f"/api/v1/tools/{name}", json={"provider": "none"}) as response:
            assert response.status in (200, 201)
        async with session.post("/api/v1/api-keys", json={"role": "operator"}) as response:
            key = (await response.json())["key"]
    settings = Settings(admin_key=key, state_dir=str(tmp_path / "s"))
    async with ApiClient(settings, own.url) as api:
        begun = await api.call("POST", "/imports", body={"tool": name, "source": "x"})
        path = f"/imports/{begun['import_id']}/page"
        lines = [json.dumps(past(n % 300, id=n)).encode() for n in range(100)]
        head = json.dumps({"place": {"at": 1}}).encode()
        assert (await api.send(path, b"\n".join([head, *lines])))["imported"] == 100
        with pytest.raises(Exception, match="events_per_day"):
            await api.send(path, b"\n".join([head, *lines]))
        assert (await api.call("GET", f"/imports/{begun['import_id']}"))["place"] == {"at": 1}
    # not for the tenant of the key that runs the installation
    assert begun["import_id"] not in json.dumps(await own.get("/imports"))
    await own.get(f"/imports/{begun['import_id']}", expect=404)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("x.jsonl",), "there is no file"),
        ((), "say from where"),
        (("{file}",), "--tool TOOL"),
        (("{file}", "--tool", "none-such"), "no such tool"),
        (("{file}", "--tool", "t", "--format", "x"), "--format"),
        (("{file}", "--tool", "t", "--table", "x"), "are for postgresql"),
        (("postgresql://nobody@127.0.0.1:9/x", "--tool", "t"), "--table NAME, or --query"),
        (("{file}", "--tool", "t", "--rate", "-1"), "--rate"),
        (("--list", "{file}"), "--list lists all imports"),
        (("--list", "--tool", "t"), "--list lists all imports"),
    ],
)
async def test_what_is_wrong_with_a_command_is_said(
    own: Stack, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    path = write(tmp_path / "e.jsonl", [past(0)])
    given = [part.format(file=path) for part in arguments]
    _, said = await run(own, "import", *given, cwd=tmp_path, status=2)
    assert says in said


async def test_json_is_said_before_a_command_s_name_as_well(own: Stack, tmp_path: Path) -> None:
    for arguments in (("--json", "import", "--list"), ("import", "--list", "--json")):
        out, _ = await run(own, *arguments, cwd=tmp_path)
        assert isinstance(json.loads(out), list)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"place": 1}', 400),
        (b'{"place": {}, "rejected": -1}', 400),
        (b'{"place": {"a": "\\u0000"}}', 400),
        (b'{"place": {}}' + b"\n{}" * 2001, 413),
        (b'{"place": {}}\n\xff\n\n{}', 200),
        (b'{"place": {}}', 200),
    ],
)
async def test_pages_that_are_none_are_refused(own: Stack, body: bytes, status: int) -> None:
    tool = "pages"
    await own.put(f"/tools/{tool}", {"provider": "none"})
    _, begun = await call(own, own.key, "POST", "/imports", tool=tool, source="s")
    async with (
        own.session() as session,
        session.post(f"/api/v1/imports/{begun['import_id']}/page", data=body) as response,
    ):
        assert response.status == status, await response.text()
        if status == 200:
            assert (await response.json())["imported"] == 0


async def test_a_tool_that_there_is_not_is_no_empty_export(
    own: Stack, name: str, tmp_path: Path
) -> None:
    _, said = await run(own, "export", "--tool", name, cwd=tmp_path, status=2)
    assert "there is no such tool" in said
    await own.put(f"/tools/{name}", {"provider": "none"})
    assert (await run(own, "export", "--tool", name, cwd=tmp_path))[0] == ""


async def test_what_overlaps_in_time_comes_in_page_by_page(
    own: Stack, name: str, tmp_path: Path
) -> None:
    """Not in the order of time, twice over the same hours: each page looks for all that it has."""
    await own.put(f"/tools/{name}", {"provider": "none"})
    for number in range(2):
        lines = [past(n % 25, delivery_id=f"{number}-{n}", type=f"t{n % 7}") for n in range(3000)]
        file = str(write(tmp_path / f"e{number}.jsonl", lines))
        out, said = await run(
            own, "import", "--json", "--rate", "0", "--tool", name, file, cwd=tmp_path
        )
        assert "waiting" not in said
        assert json.loads(out)["imported"] == 3000
