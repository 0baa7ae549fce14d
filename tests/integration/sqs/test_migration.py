"""A tool moves from old workers to here, and back, while events come: each works once, in order."""

import asyncio
import json
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from hookstream.app import embedded
from hookstream.app.redis import keys
from tests.integration.sqs.test_end_to_end import measured
from tests.integration.web.test_agent_keys import call
from tests.support.sqs import SqsServer, answers
from tests.support.stack import Stack, eventually

KEYS = "abcdefgh"


class OldWorkers:
    """As the predecessor's: they work on what comes, and confirm marks, or leave those alone."""

    def __init__(self, own: Stack, sqs: SqsServer, url: str, tool: str) -> None:
        self.own, self.sqs, self.url, self.tool = own, sqs, url, tool
        self.confirms = True
        #: By key what they have worked on, and when (Unix seconds).
        self.done: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.shadows: list[int] = []
        self.marks: list[str] = []

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._work())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            found = await asyncio.to_thread(self._receive)
            for message in found:
                await self._take(message)
            if not found:
                await asyncio.sleep(0.05)

    def _receive(self) -> list[dict[str, Any]]:
        found = self.sqs.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return list(found.get("Messages", []))

    async def _take(self, message: dict[str, Any]) -> None:
        attributes = message["MessageAttributes"]
        body = json.loads(message["Body"])
        if "hookstream_hand_over" in attributes:
            mark = attributes["hookstream_hand_over"]["StringValue"]
            assert body["event_type"] == "hookstream.hand_over"
            self.marks.append(mark)
            if self.confirms:
                await confirm(self.own, self.tool, marks=[mark])
        elif "hookstream_shadow" in attributes:
            self.shadows.append(body["payload"]["n"])
        else:
            now = datetime.now().timestamp()
            self.done[body["payload"]["key"]].append((body["payload"]["n"], now))
        await asyncio.to_thread(
            self.sqs.client.delete_message,
            QueueUrl=self.url,
            ReceiptHandle=message["ReceiptHandle"],
        )


async def confirm(own: Stack, tool: str, **body: Any) -> dict[str, Any]:
    path = f"/tools/{tool}/migration/confirm"
    status, found = await call(own, own.key, "POST", path, **body)
    assert status == 200, found
    return found


async def shift(own: Stack, tool: str, mode: str, **more: Any) -> None:
    """Shift a tool, and wait until the worker has heard of it."""
    await own.put(f"/tools/{tool}/migration", {"mode": mode, **more})
    await heard(own)


async def heard(own: Stack) -> None:
    """Wait until the worker knows of all tools what the receiver knows."""
    wanted = (await own.health())["parts"]["catalog"]["version"]

    async def has_heard() -> bool:
        url = f"http://127.0.0.1:{own.worker_port}/health"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return bool((await response.json())["parts"]["catalog"]["version"] >= wanted)

    await eventually(has_heard, "the worker has heard of it")


class Sender:
    """Sends events of all keys, one after the other of each."""

    def __init__(self, own: Stack, tool: str, keys: str = KEYS) -> None:
        self.own, self.tool, self.keys = own, tool, keys
        self.sent: dict[str, list[int]] = defaultdict(list)
        self.ids: dict[int, str] = {}

    async def round(self) -> None:
        for key in self.keys:
            number = len(self.ids)
            body = json.dumps({"key": key, "n": number}).encode()
            self.ids[number] = await self.own.hook(self.tool, body)
            self.sent[key].append(number)

    async def delivered(self) -> dict[int, float]:
        """Events that are in the context's feed, and when they came there (Unix seconds)."""
        found: dict[int, float] = {}
        for number, event_id in self.ids.items():
            _, event = await call(self.own, self.own.key, "GET", f"/events/{event_id}")
            for delivery in event.get("deliveries", []):
                assert number not in found, "delivered twice"
                found[number] = datetime.fromisoformat(delivery["delivered_at"]).timestamp()
        return found

    async def count(self) -> int:
        """How many events are in the context's feed."""
        page = await self.own.get("/events", context=self.tool, limit="1000")
        return len(page["events"])


@pytest.fixture
async def moving(own: Stack, sqs_server: SqsServer, name: str) -> tuple[Sender, OldWorkers]:
    """A tool in mode `sqs`, ordered by a field, with a context that wants all of it."""
    url = sqs_server.queue(f"{name}.fifo")
    tool = {
        "provider": "none",
        "dedup": {"strategy": "none"},
        "ordering": {"by": "field", "field": "key"},
        "forward": {"sqs": {"queue_url": url, "shadow": True}},
    }
    await own.context(name, tool)
    await shift(own, name, "sqs")
    return Sender(own, name), OldWorkers(own, sqs_server, url, name)


def faults(sender: Sender, old: OldWorkers, delivered: dict[int, float]) -> list[str]:
    """What is wrong with what was done."""
    found = []
    for key, sent in sender.sent.items():
        theirs = dict(old.done[key])
        if len(theirs) != len(old.done[key]):
            found.append(f"{key}: old workers had one twice")
        mine = {number: at for number, at in delivered.items() if number in sent}
        if both := set(theirs) & set(mine):
            found.append(f"{key}: both worked on {both}")
        if missing := set(sent) - set(theirs) - set(mine):
            found.append(f"{key}: nobody worked on {missing}")
        ends = [theirs.get(number) or mine.get(number) or 0.0 for number in sent]
        if any(one > other for one, other in pairwise(ends)):
            found.append(f"{key}: out of order: {ends}")
    return found


async def settled(sender: Sender, old: OldWorkers) -> dict[int, float]:
    """What was delivered, once all that was sent was worked on."""

    async def all_of_it() -> bool:
        return sum(map(len, old.done.values())) + await sender.count() >= len(sender.ids)

    await eventually(all_of_it, "everything is worked on")
    return await sender.delivered()


async def test_each_event_works_once_and_in_order_while_its_tool_moves_forth_and_back(
    own: Stack, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, old = moving
    async with old.working():
        for mode, percent in (
            ("sqs", None),
            ("shadow", None),
            ("split", 30),
            ("split", 70),
            ("redis", None),
            ("split", 30),
            ("sqs", None),
            ("redis", None),
            ("only", None),
        ):
            await shift(own, name, mode, **({} if percent is None else {"percent": percent}))
            for _ in range(2):
                await sender.round()
        delivered = await settled(sender, old)
        assert faults(sender, old, delivered) == []
        # each path has had its share of it
        assert len(delivered) > 20
        assert sum(map(len, old.done.values())) > 20
        # what was delivered here was shown to them, but in mode `only`
        assert set(old.shadows) <= set(delivered)
        assert len(delivered) - len(old.shadows) >= len(KEYS)
        shown = await own.get(f"/tools/{name}/migration")
    assert (shown["mode"], shown["generation"], shown["waiting_keys"]) == ("only", 10, 0)
    assert [one["mode"] for one in shown["history"]][-3:] == ["sqs", "redis", "only"]


async def test_what_waits_for_old_workers_goes_back_to_them_when_it_is_rolled_back(
    own: Stack, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, old = moving
    old.confirms = False
    async with old.working():
        await sender.round()
        await shift(own, name, "redis")
        await sender.round()
        await sender.round()

        async def waits() -> bool:
            shown = await own.get(f"/tools/{name}/migration")
            sent = [one["sent"] for one in shown["hand_overs"]]
            return shown["waiting_keys"] == len(KEYS) and all(sent) and len(sent) == len(KEYS)

        await eventually(waits, "all keys wait for old workers")
        assert await sender.delivered() == {}
        assert {key: len(done) for key, done in old.done.items()} == dict.fromkeys(KEYS, 1)
        await shift(own, name, "sqs")
        delivered = await settled(sender, old)
    assert delivered == {}
    assert faults(sender, old, delivered) == []
    assert len(old.marks) == len(KEYS)
    # a mark that is confirmed now is nothing to anybody
    found = await confirm(own, name, marks=[old.marks[0]])
    assert found == {"confirmed": 0, "unknown": [old.marks[0]], "not_sent": 0}


async def test_a_mark_that_is_sent_after_its_hand_over_was_cancelled_leaves_nothing(
    own: Stack, sqs_server: SqsServer, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, old = moving
    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        await shift(own, name, "redis")
        await sender.round()

        async def waits() -> bool:
            return bool((await own.get(f"/tools/{name}/migration"))["waiting_keys"] == len(KEYS))

        await eventually(waits, "all keys wait")
        await shift(own, name, "sqs")
        await asyncio.sleep(1)
    async with old.working():
        assert await settled(sender, old) == {}
    assert faults(sender, old, {}) == []
    assert len(old.marks) == len(KEYS)
    url = embedded.find_valkey(own.state_dir / "state")
    async with Redis.from_url(str(url)) as redis:
        left = [await redis.hgetall(keys.hand_overs(number)) for number in range(8)]
    mine = [one for one in old.marks for some in left if f"{one}:sent".encode() in some]
    assert mine == []


async def test_an_operator_confirms_for_workers_that_cannot_but_nothing_that_was_not_sent(
    own: Stack, sqs_server: SqsServer, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, old = moving
    old.confirms = False
    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        await shift(own, name, "redis")
        await sender.round()

        async def marked() -> Any:
            shown = await own.get(f"/tools/{name}/migration")
            return shown["hand_overs"] if shown["waiting_keys"] == len(KEYS) else None

        marks = await eventually(marked, "all keys wait")
        path = f"/tools/{name}/migration/confirm"
        status, problem = await call(own, own.key, "POST", path, marks=[marks[0]["mark"]])
        assert (status, "not in the queue yet" in problem["detail"]) == (409, True)
        found = await confirm(own, name, all=True)
        assert (found["confirmed"], found["not_sent"]) == (0, len(KEYS))
        command = own.command("migrate", "confirm", name, "--all")
        said = await asyncio.to_thread(
            subprocess.run, command, env=own.environment(), capture_output=True, text=True
        )
        assert said.stdout.startswith("0 hand-overs confirmed\n8 are not: their marks"), said
    async with old.working():

        async def all_sent() -> bool:
            shown = await own.get(f"/tools/{name}/migration")
            return all(one["sent"] for one in shown["hand_overs"])

        await eventually(all_sent, "all marks are in the queue")
        found = await confirm(own, name, all=True)
        assert (found["confirmed"], found["not_sent"]) == (len(KEYS), 0)
        trail = await own.get("/audit", action="migration.confirmed", object=name)
        row = trail["rows"][0]["record"]
        assert (row["object"], row["after"]["confirmed"]) == ({"kind": "tool", "id": name}, 8)
        assert set(row["after"]["marks"]) == {one["mark"] for one in marks}
        delivered = await settled(sender, old)
    assert faults(sender, old, delivered) == []
    assert len(delivered) == len(KEYS)
    assert await measured(own, "hookstream_hand_overs_total", tool=name, end="done") == len(KEYS)


async def test_a_worker_that_is_killed_while_keys_wait_leaves_them_to_the_next_one(
    own: Stack, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, old = moving
    old.confirms = False
    async with old.working():
        await sender.round()
        await shift(own, name, "redis")
        await sender.round()

        async def marked() -> bool:
            return len(old.marks) == len(KEYS)

        await eventually(marked, "old workers have all marks")
        own.find("worker").kill()
        await sender.round()
        await confirm(own, name, all=True)
        delivered = await settled(sender, old)
    assert faults(sender, old, delivered) == []
    assert len(delivered) == 2 * len(KEYS)


async def test_a_move_ends_once_nothing_waits_and_a_tool_is_not_torn_apart_before(
    own: Stack, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    path = f"/tools/{name}"
    tool = await own.get(path)
    kept = {one: tool[one] for one in ("provider", "ordering", "forward")}
    for changed, said in (
        ({"forward": None}, "forward"),
        ({"ordering": {"by": "tool"}}, "ordering"),
    ):
        status, problem = await call(own, own.key, "PUT", path, **{**kept, **changed})
        assert (status, said in problem["detail"]) == (409, True), problem
    await own.put(path, kept)
    for mode, said in (("sqs", "delete the tool"), ("redis", "shift it to `only` first")):
        await own.put(f"{path}/migration", {"mode": mode})
        status, problem = await call(own, own.key, "DELETE", f"{path}/migration")
        assert (status, said in problem["detail"]) == (409, True), problem
    for body in ({"mode": "split"}, {"mode": "redis", "percent": 5}, {"mode": "half"}):
        status, _ = await call(own, own.key, "PUT", f"{path}/migration", **body)
        assert status == 400
    await shift(own, name, "only")
    status, _ = await call(own, own.key, "DELETE", f"{path}/migration")
    assert status == 204
    after = await own.get(path)
    assert after["forward"] is None
    assert (await own.get(f"{path}/migration"))["mode"] is None
    status, problem = await call(own, own.key, "PUT", f"{path}/migration", mode="sqs")
    assert (status, "`forward`" in problem["detail"]) == (400, True)


async def test_a_mark_is_taken_that_its_queue_has_and_has_not_answered_for(
    own: Stack, sqs_server: SqsServer, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, _ = moving
    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        await shift(own, name, "redis")
        await sender.round()

        async def marked() -> Any:
            shown = await own.get(f"/tools/{name}/migration")
            return shown["hand_overs"] if shown["waiting_keys"] == len(KEYS) else None

        marks = await eventually(marked, "all keys wait")
        assert not any(one["sent"] for one in marks)
        early = asyncio.create_task(confirm(own, name, marks=[one["mark"] for one in marks]))
        await asyncio.sleep(0)
    # the queue answers while it is waited for
    assert await early == {"confirmed": len(KEYS), "unknown": [], "not_sent": 0}
    await eventually(lambda: arrived(sender), "all of it is delivered here")


async def arrived(sender: Sender) -> bool:
    return await sender.count() >= len(sender.ids)


async def test_a_tool_stays_while_something_of_it_waits_for_old_workers(
    own: Stack, sqs_server: SqsServer, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, old = moving
    path = f"/tools/{name}"

    async def refused(query: str = "") -> str:
        status, problem = await call(own, own.key, "DELETE", f"{path}{query}")
        assert status == 409, problem
        return str(problem["detail"])

    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        await sender.round()

        async def copies() -> bool:
            return bool((await own.get(f"{path}/migration"))["waiting_copies"] == len(KEYS))

        await eventually(copies, "all events are to be copied")
        assert f"{len(KEYS)} events are still to be copied" in await refused()
        await shift(own, name, "split", percent=100)
        for query in ("", "?purge=true"):
            assert "in mode split" in await refused(query)
        await sender.round()

        async def held() -> bool:
            return bool((await own.get(f"{path}/migration"))["waiting_keys"] == len(KEYS))

        await eventually(held, "all keys wait")
        await own.put(f"{path}/migration", {"mode": "only"})
        for query in ("", "?purge=true"):
            said = await refused(query)
            assert (f"{len(KEYS)} ordering keys wait" in said, "shift it to `sqs`" in said) == (
                True,
                True,
            )
        # which is a way that works
        await shift(own, name, "sqs")
    async with old.working():
        assert await settled(sender, old) == {}

        async def deleted() -> bool:
            status, _ = await call(own, own.key, "DELETE", path)
            return status == 204

        await eventually(deleted, "nothing waits any more, and it can be deleted")
    assert faults(sender, old, {}) == []


async def test_what_waits_for_a_queue_is_given_up_where_that_is_said(
    own: Stack, sqs_server: SqsServer, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    sender, _ = moving
    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        await sender.round()

        async def copies() -> bool:
            found = await own.get(f"/tools/{name}/migration")
            return bool(found["waiting_copies"] == len(KEYS))

        await eventually(copies, "all events are to be copied")
        status, _ = await call(own, own.key, "DELETE", f"/tools/{name}?purge=true")
        assert status == 204


async def test_the_command_shifts_and_says_how_far_it_is(
    own: Stack, moving: tuple[Sender, OldWorkers], name: str
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            own.command("migrate", *arguments),
            env=own.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    async def say(*arguments: str) -> tuple[int, str]:
        return await asyncio.to_thread(run, *arguments)

    await shift(own, name, "shadow")
    status, text = await say("shift", name, "--to", "split", "--percent", "10")
    assert (status, f"{name}: split 10 %" in text) == (0, True), text
    status, text = await say("rollback", name)
    assert (status, f"{name}: shadow" in text) == (0, True), text
    assert "0 ordering keys wait" in text
    status, text = await say("rollback", name)
    assert (status, f"{name}: sqs" in text) == (0, True), text
    # once more would undo the first shift
    status, text = await say("rollback", name)
    assert (status, f"{name} had no mode before this one" in text) == (2, True), text
    # a deliberate step back, and forth again: the last one is undone, not all of them
    for mode in ("redis", "sqs", "redis"):
        await shift(own, name, mode)
    for mode in ("sqs", "redis", "sqs"):
        status, text = await say("rollback", name)
        assert (status, text.splitlines()[0]) == (0, f"{name}: {mode}"), text
    body: dict[str, Any]
    for body in ({}, {"mode": "sqs", "rollback": True}, {"rollback": True, "percent": 10}):
        async with own.session() as session:
            path = f"/api/v1/tools/{name}/migration"
            async with session.put(path, json=body) as response:
                assert response.status == 400, body
    status, text = await say("rollback", name, "--percent", "10")
    assert (status, "--percent: of shift --to split" in text) == (2, True), text
    status, text = await say("confirm", name, "--mark", "none")
    assert (status, "none: no hand-over that is under way" in text) == (1, True), text
    status, text = await say("confirm", name, "--mark", "none", "--all")
    assert (status, "and not both" in text) == (2, True), text
