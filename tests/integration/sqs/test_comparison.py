"""What old workers say they have done is compared with what Hookstream has done, by event."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sqs.test_end_to_end import taken
from tests.integration.sqs.test_migration import confirm, heard, shift
from tests.integration.web.test_agent_keys import call
from tests.support.sqs import SqsServer
from tests.support.stack import Stack, eventually

Say = Callable[..., Any]


@pytest.fixture
async def queue(own: Stack, sqs_server: SqsServer, name: str) -> str:
    """The queue of a tool in mode `shadow`, whose context wants all but what is quiet."""
    url = sqs_server.queue(f"{name}.fifo", MaximumMessageSize="2048")
    tool = {
        "provider": "none",
        "dedup": {"strategy": "fields", "fields": ["n"]},
        "ordering": {"by": "field", "field": "key"},
        "forward": {"sqs": {"queue_url": url, "shadow": True}},
    }
    await own.context(name, tool, where="!has(payload.quiet)")
    await shift(own, name, "shadow")
    return url


async def send(own: Stack, name: str, number: int, key: str = "a", **more: Any) -> str:
    return await own.hook(name, json.dumps({"n": number, "key": key, **more}).encode())


async def copied(own: Stack, sqs: SqsServer, url: str, count: int) -> list[str]:
    """Ids of the events that the queue has, once it has so many; marks are confirmed."""
    found: list[str] = []

    async def all_of_them() -> bool:
        for message in await asyncio.to_thread(taken, sqs, url):
            attributes = message["MessageAttributes"]
            if mark := attributes.get("hookstream_hand_over"):
                tool = attributes["hookstream_tool_id"]["StringValue"]
                await confirm(own, tool, marks=[mark["StringValue"]])
            else:
                found.append(attributes["hookstream_event_id"]["StringValue"])
        return len(found) >= count

    await eventually(all_of_them, f"{count} events are copied")
    return found


async def report(own: Stack, name: str, *results: dict[str, Any]) -> dict[str, Any]:
    path = f"/tools/{name}/migration/results"
    status, said = await call(own, own.key, "POST", path, results=list(results))
    assert status == 200, said
    return said


async def comparison(own: Stack, name: str, **query: str) -> tuple[Counter[str], dict[Any, Any]]:
    """Counts of all hours, and events by kind and cause."""
    found = await own.get(f"/tools/{name}/migration/comparison", limit="100", **query)
    assert found["cursor"] is None
    counts: Counter[str] = Counter()
    for hour in found["hours"]:
        counts.update({key: n for key, n in hour.items() if isinstance(n, int)})
    causes = {
        (one["kind"], one["cause"]): [event["event_id"] for event in one["events"]]
        for one in found["causes"]
    }
    return counts, causes


async def recorded(own: Stack, name: str, count: int) -> None:
    async def all_of_them() -> bool:
        return len((await own.get("/events", tool=name, limit="1000"))["events"]) >= count

    await eventually(all_of_them, "all events are recorded")


def done(event_id: str, after_ms: int = 100, **more: Any) -> dict[str, Any]:
    at = BEGAN + timedelta(milliseconds=after_ms)
    return {"event_id": event_id, "finished_at": at.isoformat(), **more}


BEGAN = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old workers are done with things of this test, not of those before it."""
    monkeypatch.setattr(sys.modules[__name__], "BEGAN", datetime.now(UTC))


async def test_paths_are_compared_by_event_and_differences_have_their_causes(
    own: Stack, sqs_server: SqsServer, queue: str, name: str, tmp_path: Path
) -> None:
    def run(*arguments: str) -> str:
        said = subprocess.run(
            own.command("migrate", "compare", name, *arguments),
            env=own.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert said.returncode == 0, said.stderr
        return said.stdout + said.stderr

    ids = [await send(own, name, number, key=f"k{number}") for number in range(5)]
    ids += [await send(own, name, 5, key="same"), await send(own, name, 6, key="same")]
    quiet = await send(own, name, 7, quiet=True)
    large = await send(own, name, 8, text="x" * 4000)
    again = await send(own, name, 0, key="k0")
    late = await send(own, name, 9)
    assert set(await copied(own, sqs_server, queue, 9)) == {*ids, quiet, late}
    await recorded(own, name, 11)

    # nothing is said yet, and it may come; what cannot come is a difference at once
    counts, causes = await comparison(own, name)
    assert causes == {("only-ours", "not copied: too-large"): [large]}
    assert (counts["events"], counts["under_way"], counts["only_ours"]) == (10, 9, 1)

    mine = [name]
    said = await report(
        own,
        name,
        {**done("", contexts=mine), "event_id": None, "delivery_id": ids[0]},
        done(ids[1], error="Timeout"),
        done(ids[2], contexts=[name, "another"]),
        done(ids[3], contexts=mine),
        done(ids[3], 150, contexts=mine),
        done(quiet, contexts=mine),
        done(again, contexts=mine),
    )
    assert said == {"taken": 7, "known": 0}
    file = tmp_path / "done.jsonl"
    lines = [
        done(ids[4], contexts=mine),
        done(ids[5], 300, contexts=mine),
        done(ids[6], 200, contexts=mine),
        done("01900000-0000-7000-8000-000000000000", 100),
        # it was said before
        done(ids[3], contexts=mine),
    ]
    file.write_text("\n".join(json.dumps(one) for one in lines))
    page = tmp_path / "report.md"
    text = await asyncio.to_thread(run, "--results", str(file), "--markdown", str(page))
    assert "4 results taken, 1 were known" in text
    assert "8 differences" in text

    counts, causes = await comparison(own, name)
    assert causes.pop(("only-old", _found(causes, "taken for a duplicate"))) == [again]
    assert causes.pop(("only-old", _found(causes, "not received here"))) == [lines[3]["event_id"]]
    assert causes.pop(("only-old", "no subscription here wants it")) == [quiet]
    assert causes.pop(("only-ours", "error Timeout")) == [ids[1]]
    assert causes.pop(("only-ours", "not copied: too-large")) == [large]
    assert causes.pop(("contexts", "subscriptions here are narrower")) == [ids[2]]
    assert causes.pop(("order", _found(causes, "one after the other"))) == [ids[5]]
    assert causes.pop(("old-twice", _found(causes, "given it again"))) == [ids[3]]
    assert causes == {}
    wanted = {
        "events": 12, "both": 6, "only_old": 3, "only_ours": 2, "under_way": 1, "neither": 0,
        "contexts_equal": 5, "contexts_other": 1, "errors_old": 1, "errors_ours": 0,
        "out_of_order": 1, "old_twice": 1,
    }  # fmt: skip
    assert {field: counts[field] for field in wanted} == wanted
    assert counts["p50_ours_ms"] > 0
    shown = await own.get(f"/tools/{name}/migration/comparison")
    assert all(hour["cost_ours"] > 0 for hour in shown["hours"] if hour["events_here"])
    markdown = page.read_text()
    assert f"# {name}: old workers and Hookstream" in markdown
    assert f"- **Only old workers**, 1: no subscription here wants it\n  - `{quiet}`" in markdown
    found = json.loads(await asyncio.to_thread(run, "--json", "--limit", "1"))
    assert sum(one["count"] for one in found["causes"]) == 8


def _found(causes: dict[Any, Any], words: str) -> str:
    return next(cause for _, cause in causes if words in cause)


async def test_what_is_ours_is_compared_with_what_old_workers_would_have_done(
    own: Stack, sqs_server: SqsServer, queue: str, name: str
) -> None:
    await shift(own, name, "redis")
    shown = await send(own, name, 1)
    assert await copied(own, sqs_server, queue, 1) == [shown]
    await own.updates(name, 1)
    await shift(own, name, "only")
    alone = await send(own, name, 2)
    await own.updates(name, 2)
    await recorded(own, name, 2)
    await report(own, name, done(shown, contexts=[name]))

    async def compared() -> bool:
        counts, causes = await comparison(own, name)
        assert causes == {}
        return (counts["both"], counts["contexts_equal"], counts["ours_alone"]) == (1, 1, 1)

    await eventually(compared, "both are compared")
    # what is erased is in no comparison any more
    status, began = await call(own, own.key, "POST", "/erasures", events=[shown, alone])
    assert status == 202, began

    async def erased() -> bool:
        return (await own.get(f"/erasures/{began['erasure_id']}"))["status"] == "done"

    await eventually(erased, "it is erased")
    counts, causes = await comparison(own, name)
    assert (counts["events"], causes) == (0, {})


async def test_what_fails_here_in_shadow_says_why(
    own: Stack, sqs_server: SqsServer, queue: str, name: str
) -> None:
    tool = await own.get(f"/tools/{name}")
    kept = {field: tool[field] for field in ("provider", "ordering", "dedup", "forward")}
    subject = f"{name}-shape"
    shape = {"schemaType": "JSON", "schema": '{"type": "object", "required": ["must"]}'}
    async with own.session() as session:
        path = f"/registry/subjects/{subject}/versions"
        async with session.post(path, json=shape) as response:
            assert response.status == 200, await response.text()
    await own.put(
        f"/tools/{name}", {**kept, "schema": {"subject": subject, "on_violation": "dead-letter"}}
    )
    event = await send(own, name, 1)
    await copied(own, sqs_server, queue, 1)
    await recorded(own, name, 1)
    await report(own, name, done(event, contexts=[name]))
    counts, causes = await comparison(own, name)
    [(kind, cause)] = causes
    assert (kind, cause) == ("only-old", "fails in stage schema: SchemaViolationError")
    assert (counts["errors_ours"], counts["both"]) == (1, 0)
    shown = await own.get(f"/events/{event}")
    assert (shown["status"], shown["stage"]) == ("unrouted", "old-path:schema")
    assert "the payload breaks #/required" in shown["error"]


async def test_what_cannot_be_taken_or_compared_says_what_to_do(
    own: Stack, queue: str, name: str
) -> None:
    path = f"/tools/{name}/migration"
    good = done("01900000-0000-7000-8000-000000000000")
    for results, said in (
        ([{"finished_at": good["finished_at"]}], "either `event_id` or `delivery_id`"),
        ([{**good, "delivery_id": "x"}], "either `event_id` or `delivery_id`"),
        ([{**good, "finished_at": "2026-11-30T12:00:00"}], "finished_at"),
        ([{**good, "finished_at": "0001-01-01T00:00:00+14:00"}], f"{good['event_id']} was done"),
        ([{**good, "finished_at": "9999-12-31T23:59:59-14:00"}], f"{good['event_id']} is done"),
        ([{**good, "error": "it said: no"}], "error"),
        ([{**good, "contexts": ["`x`"]}], "contexts"),
        ([good] * 501, "500"),
    ):
        status, problem = await call(own, own.key, "POST", f"{path}/results", results=results)
        assert (status, said in problem["detail"]) == (400, True), problem
    assert await report(own, name, good, good) == {"taken": 1, "known": 1}
    for query, said in (
        ({"since": "x"}, "since"),
        ({"until": "0001-01-01T00:00:00Z"}, "until"),
        ({"cursor": "x"}, "cursor"),
        ({"request_price": "-1"}, "request_price"),
        ({"cpu_price": "nan"}, "cpu_price"),
        ({"limit": "101"}, "limit"),
        ({"since": "2026-11-30T12:00:00Z", "until": "2026-11-30T11:00:00Z"}, "since"),
        ({"since": "2100-01-01T00:00:00Z"}, "since: a time before `until`"),
    ):
        problem = await own.get(f"{path}/comparison", 400, **query)
        assert said in problem["detail"], problem
    before = await own.get(f"{path}/comparison", until="2020-01-01T00:00:00Z")
    assert before["hours"] == []
    await own.put(f"/tools/{name}-plain", {"provider": "none"})
    plain = f"/tools/{name}-plain/migration/results"
    status, problem = await call(own, own.key, "POST", plain, results=[good])
    assert (status, "no old workers" in problem["detail"]) == (409, True)
    await own.get(f"/tools/{name}-none/migration/comparison", 404)


async def test_an_answer_ends_with_an_hour_and_says_where_to_go_on(
    own: Stack, sqs_server: SqsServer, name: str
) -> None:
    # of a tool without `forward` results are taken for as long as they are kept
    url = sqs_server.queue(f"{name}.fifo")
    source = {"sqs": {"queue_url": url, "region": "us-east-1", "format": "raw"}}
    await own.put(f"/tools/{name}", {"provider": "none", "source": source})
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for back in (1, 2, 30):
        at = (hour - timedelta(hours=back)).isoformat()
        await report(own, name, {"delivery_id": f"d{back}", "finished_at": at})
    since = (hour - timedelta(days=40)).isoformat()
    found = await own.get(f"/tools/{name}/migration/comparison", since=since)
    # not longer than it is kept, and so many hours an answer
    assert found["since"] >= (datetime.now(UTC) - timedelta(days=8)).isoformat()
    assert [one["only_old"] for one in found["hours"]] == [1, 1, 1]
    assert found["hours"][0]["hour"] == (hour - timedelta(hours=30)).isoformat()


async def test_events_from_before_there_was_a_queue_and_imported_ones_are_no_differences(
    own: Stack, sqs_server: SqsServer, name: str, tmp_path: Path
) -> None:
    tool = {"provider": "none", "dedup": {"strategy": "none"}, "ordering": {"by": "tool"}}
    await own.context(name, tool)
    shown = await own.get(f"/tools/{name}")
    assert (shown["forward"], shown["forwarded_since"]) == (None, None)
    await send(own, name, 1)
    await recorded(own, name, 1)
    url = sqs_server.queue(f"{name}.fifo")
    tool["forward"] = {"sqs": {"queue_url": url}}
    shown = await own.put(f"/tools/{name}", tool)
    since = datetime.fromisoformat(shown["forwarded_since"])
    # the queue is the same one, whatever else is changed
    shown = await own.put(f"/tools/{name}", {**tool, "ttl": {"hot": "3h"}})
    assert datetime.fromisoformat(shown["forwarded_since"]) == since
    file = tmp_path / "old.jsonl"
    file.write_text(json.dumps({"received_at": since.isoformat(), "id": "7", "payload": {"n": 7}}))
    ended = await asyncio.to_thread(
        subprocess.run,
        own.command("import", "--tool", name, str(file)),
        env=own.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    await heard(own)
    late = await send(own, name, 2)
    assert await copied(own, sqs_server, url, 1) == [late]
    await own.updates(name, 2)
    # with the one that was imported
    await recorded(own, name, 3)
    await report(own, name, done(late, contexts=[name]))

    async def compared() -> bool:
        counts, causes = await comparison(own, name)
        return (counts["events"], counts["ours_alone"], counts["both"], causes) == (2, 1, 1, {})

    await eventually(compared, "both are compared, and the imported one is not")
