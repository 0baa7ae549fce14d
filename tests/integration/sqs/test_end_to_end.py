"""A tool between two queues, in the whole system: nothing lost, in order, whatever SQS does."""

import json
from typing import Any

import aiohttp
import pytest

from tests.integration.web.test_agent_keys import call
from tests.support.sqs import SqsServer, answers
from tests.support.stack import Stack, eventually, fresh

SOURCE = {"provider": "none", "dedup": {"strategy": "none"}}


def taken(sqs: SqsServer, url: str) -> list[dict[str, Any]]:
    """All that is in a queue, in the order in which it gives it; it is deleted."""
    found: list[dict[str, Any]] = []
    while True:
        got = sqs.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        if not got:
            return found
        for message in got:
            sqs.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found.append(message)


async def measured(own: Stack, name: str, **labels: str) -> float | None:
    """A metric of the worker."""
    url = f"http://127.0.0.1:{own.worker_port}/metrics"
    async with aiohttp.ClientSession() as session, fresh(session, url) as response:
        for line in (await response.text()).splitlines():
            if line.startswith(name) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rpartition(" ")[2])
    return None


async def queues_part(port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/health"
    async with aiohttp.ClientSession() as session, fresh(session, url) as response:
        return dict((await response.json())["parts"].get("queues") or {})


async def test_what_comes_out_of_a_queue_is_delivered_and_copied_in_order(
    own: Stack, sqs_server: SqsServer, name: str
) -> None:
    before, after = sqs_server.queue(f"{name}-in.fifo"), sqs_server.queue(f"{name}-out.fifo")
    for number in range(20):
        payload = {"key": "ab"[number % 2], "n": number}
        body = {"delivery_id": f"d{number}", "event_type": "order.paid", "payload": payload}
        sqs_server.send(before, json.dumps(body), group=payload["key"])  # type: ignore[arg-type]
    context = {"tenant_id": "acme", "principal_id": "p", "principal_type": "service"}
    tool = {
        **SOURCE,
        "ordering": {"by": "field", "field": "key"},
        "source": {"sqs": {"queue_url": before, "format": "predecessor"}},
        "forward": {"sqs": {"queue_url": after, "auth_context": context}},
    }
    await own.put(f"/contexts/{name}", {"name": name})
    # whoever subscribes to a tool that has none of its events yet
    await own.put(f"/tools/{name}", SOURCE)
    await own.put(f"/contexts/{name}/subscriptions/all", {"tool": name, "types": ["*"]})
    kept = await own.put(f"/tools/{name}", tool)
    assert kept["source"]["sqs"]["format"] == "predecessor"
    assert kept["forward"]["sqs"]["auth_context"] == context

    updates = [u for u in await own.updates(name, 20) if u["type"] == "update"]
    assert {u["event_type"] for u in updates} == {"order.paid"}
    assert {u["provenance"]["source"] for u in updates} == {"queue"}
    assert (await own.get(f"/events/{updates[0]['event_id']}"))["source"] == "queue"
    numbers = [u["data"]["n"] for u in updates] if "n" in updates[0]["data"] else None

    copied: list[dict[str, Any]] = []

    async def all_copied() -> bool:
        copied.extend(taken(sqs_server, after))
        return len(copied) >= 20

    await eventually(all_copied, "all of them are copied")
    bodies = [json.loads(message["Body"]) for message in copied]
    for key in "ab":
        mine = [body["payload"]["n"] for body in bodies if body["payload"]["key"] == key]
        assert mine == sorted(mine)
        assert len(mine) == 10
        if numbers is not None:
            theirs = [u["data"]["n"] for u in updates if u["data"].get("key") == key]
            assert theirs == sorted(theirs)
    assert {body["auth_context"]["tenant_id"] for body in bodies} == {"acme"}
    assert {body["event_type"] for body in bodies} == {"order.paid"}
    ids = [m["MessageAttributes"]["hookstream_event_id"]["StringValue"] for m in copied]

    async def recorded() -> bool:
        found = await own.get("/events", tool=name, limit="50")
        return sorted(ids) == sorted(event["event_id"] for event in found["events"])

    await eventually(recorded, "each copy is of a recorded event")
    assert sqs_server.counts(before) == (0, 0)


async def test_a_queue_that_is_away_delays_no_delivery_and_gets_all_of_it_later(
    own: Stack, sqs_server: SqsServer, name: str
) -> None:
    url = sqs_server.queue(f"{name}.fifo")
    await own.context(name, {**SOURCE, "forward": {"sqs": {"queue_url": url}}})
    with sqs_server.server.failing(answers("AccessDeniedException", 403, of="SendMessageBatch")):
        sent = [await own.hook(name, json.dumps({"n": n}).encode()) for n in range(15)]
        updates = [u for u in await own.updates(name, 15) if u["type"] == "update"]
        assert [u["event_id"] for u in updates] == sent

        async def waits() -> bool:
            part = await queues_part(own.worker_port)
            troubles = {t["tool"]: t["trouble"] for t in part.get("troubles", [])}
            waiting = await measured(own, "hookstream_sqs_waiting{", tool=name)
            return troubles.get(name) == "denied" and waiting == 15

        await eventually(waits, "it is told what waits, and why")
    copied: list[dict[str, Any]] = []

    async def all_copied() -> bool:
        copied.extend(taken(sqs_server, url))
        return len(copied) >= 15

    await eventually(all_copied, "what waited is copied")
    ids = [m["MessageAttributes"]["hookstream_event_id"]["StringValue"] for m in copied]
    assert ids == sent

    async def nothing_waits() -> bool:
        part = await queues_part(own.worker_port)
        return part["status"] == "ok" and not await measured(
            own, "hookstream_sqs_waiting{", tool=name
        )

    await eventually(nothing_waits, "nothing waits any more")


async def test_what_waits_outlives_the_worker(own: Stack, sqs_server: SqsServer, name: str) -> None:
    url = sqs_server.queue(f"{name}.fifo")
    await own.context(name, {**SOURCE, "forward": {"sqs": {"queue_url": url}}})
    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        sent = [await own.hook(name, json.dumps({"n": n}).encode()) for n in range(5)]
        await own.updates(name, 5)
        own.find("worker").kill()

        async def back() -> bool:
            return bool(await measured(own, "hookstream_sqs_waiting{", tool=name))

        async def up() -> bool:
            try:
                return await back()
            except (OSError, aiohttp.ClientError):
                return False

        await eventually(up, "another worker has what waits")
    copied: list[dict[str, Any]] = []

    async def all_copied() -> bool:
        copied.extend(taken(sqs_server, url))
        return len(copied) >= 5

    await eventually(all_copied, "what waited is copied")
    ids = [m["MessageAttributes"]["hookstream_event_id"]["StringValue"] for m in copied]
    assert ids == sent


@pytest.mark.parametrize("how", ["PUT", "DELETE"])
async def test_what_waits_for_a_queue_is_given_up_for_good_where_that_is_said(
    own: Stack, sqs_server: SqsServer, name: str, how: str
) -> None:
    url = sqs_server.queue(f"{name}.fifo")
    copied = {**SOURCE, "forward": {"sqs": {"queue_url": url}}}
    await own.context(name, copied)
    body = SOURCE if how == "PUT" else {}

    async def waiting() -> int:
        return int((await own.get(f"/tools/{name}/migration"))["waiting_copies"])

    async def all_wait() -> bool:
        return await waiting() == 5

    with sqs_server.server.failing(answers("ThrottlingException", of="SendMessageBatch")):
        for number in range(5):
            await own.hook(name, json.dumps({"n": number}).encode())
        await eventually(all_wait, "all events are to be copied")
        status, problem = await call(own, own.key, how, f"/tools/{name}", **body)
        assert (status, "5 events are still to be copied" in problem["detail"]) == (409, True)
        assert await waiting() == 5
        status, _ = await call(own, own.key, how, f"/tools/{name}?purge=true", **body)
        assert status == (200 if how == "PUT" else 204)
        await own.put(f"/tools/{name}", copied)
        assert await waiting() == 0
    await own.hook(name, b'{"n": 5}')
    found: list[dict[str, Any]] = []

    async def last() -> bool:
        found.extend(taken(sqs_server, url))
        return bool(found)

    await eventually(last, "what came since is copied")
    assert [json.loads(message["Body"])["payload"]["n"] for message in found] == [5]


async def test_what_waits_for_a_queue_is_no_metric_any_more_without_its_tool(
    own: Stack, sqs_server: SqsServer, name: str
) -> None:
    await own.put(
        f"/tools/{name}", {**SOURCE, "forward": {"sqs": {"queue_url": sqs_server.queue(name)}}}
    )
    names = ("hookstream_sqs_waiting{", "hookstream_sqs_oldest_seconds{")

    async def shown() -> list[float | None]:
        return [await measured(own, metric, tool=name) for metric in names]

    async def all_are() -> bool:
        return await shown() == [0, 0]

    async def none_is() -> bool:
        return await shown() == [None, None]

    await eventually(all_are, "nothing waits")
    status, _ = await call(own, own.key, "DELETE", f"/tools/{name}")
    assert status == 204
    await eventually(none_is, "they are gone with their tool")


async def test_queues_that_are_not_for_tools_are_refused_with_what_to_do(
    own: Stack, sqs_server: SqsServer, name: str
) -> None:
    url = sqs_server.queue(name)
    other = "https://sqs.eu-west-1.amazonaws.com/1/q"
    for tool, said in (
        ({"source": {"sqs": {"queue_url": other}}}, "HOOKSTREAM_SQS_QUEUES"),
        ({"forward": {"sqs": {"queue_url": other}}}, "HOOKSTREAM_SQS_QUEUES"),
        ({"source": {"sqs": {"queue_url": "hooks"}}}, "the whole URL"),
        ({"source": {"sqs": {"queue_url": url, "format": "xml"}}}, "format"),
        (
            {
                "source": {"sqs": {"queue_url": url}},
                "forward": {"sqs": {"queue_url": url}},
            },
            "go round",
        ),
        ({"forward": {"sqs": {"queue_url": url, "auth_context": {"a": "x" * 5000}}}}, "4096"),
    ):
        status, body = await call(own, own.key, "PUT", f"/tools/{name}", **SOURCE, **tool)
        assert (status, said in body["detail"]) == (400, True), body
    await own.put(f"/tools/{name}", {**SOURCE, "source": {"sqs": {"queue_url": url}}})
    round_ = {"forward": {"sqs": {"queue_url": url}}}
    status, body = await call(own, own.key, "PUT", f"/tools/{name}-b", **SOURCE, **round_)
    assert (status, f"the source of {name}" in body["detail"]) == (400, True)
    twice = {"source": {"sqs": {"queue_url": url}}}
    status, body = await call(own, own.key, "PUT", f"/tools/{name}-b", **SOURCE, **twice)
    assert (status, f"the source of {name} already" in body["detail"]) == (400, True)
    # its own it may name again
    await own.put(f"/tools/{name}", {**SOURCE, **twice})
