"""An agent that was away asks for what is new, in as many tokens as it can spare."""

import json

from hookstream.app.summaries.tokens import count_tokens
from tests.support.stack import Stack, eventually


async def test_agent_that_was_away_gets_a_digest_and_can_fetch_every_event(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    urgent = {"tool": name, "where": "payload.n == 150", "priority": "critical"}
    await stack.put(f"/contexts/{name}/subscriptions/urgent", urgent)
    sent = []
    for n in range(300):
        body = json.dumps({"n": n, "title": f"thing number {n}"}).encode()
        sent.append(await stack.hook(name, body))
    await stack.updates(name, 300)
    digest = await stack.get(f"/contexts/{name}/digest", budget="200")
    assert digest["tokens"] == count_tokens(digest["text"]) <= 200
    assert "thing number 150" in digest["text"]
    assert (digest["updates"], digest["after"], digest["last_seq"]) == (300, 0, 300)
    accounted = [
        event_id
        for group in [*digest["groups"], *digest["omitted"]]
        for event_id in group["event_ids"]
    ]
    assert sorted(accounted) == sorted(sent)
    event = await stack.get(f"/events/{accounted[-1]}")
    assert event["payload"]["title"].startswith("thing number")


async def test_digest_begins_behind_what_is_acknowledged(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    for n in range(4):
        await stack.hook(name, b'{"n": %d}' % n)
    await stack.updates(name, 4)
    async with (
        stack.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=4") as socket,
    ):
        await socket.send_json({"type": "ack", "seq": 3})
        await socket.send_json("not a message")
        await socket.receive_json()  # the answer to it says that the ack is through
    assert (await stack.get(f"/contexts/{name}/digest"))["updates"] == 1
    assert (await stack.get(f"/contexts/{name}/digest", after="1"))["updates"] == 3
    await stack.put(f"/contexts/{name}", {"token_budget": 100})
    assert (await stack.get(f"/contexts/{name}/digest"))["budget"] == 100
    for query in ({"budget": "63"}, {"budget": "x"}, {"after": "-1"}, {"colour": "red"}):
        await stack.get(f"/contexts/{name}/digest", 400, **query)
    await stack.get("/contexts/nobody-here/digest", 404)


async def test_feed_is_read_in_pages(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    sent = [await stack.hook(name, b'{"n": %d}' % n) for n in range(5)]
    live = await stack.updates(name, 5)
    first = (await stack.get(f"/contexts/{name}/updates", limit="3"))["updates"]
    rest = (await stack.get(f"/contexts/{name}/updates", after="3"))["updates"]
    assert [*first, *rest] == live
    assert [update["event_id"] for update in live] == sent


async def test_event_says_when_each_context_acknowledged_it(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    events = [await stack.hook(name, b'{"n": %d}' % n) for n in range(3)]
    await stack.updates(name, 3)
    async with (
        stack.session() as session,
        session.post(f"/api/v1/contexts/{name}/ack", json={"seq": 2}) as response,
    ):
        assert await response.json() == {"acknowledged_seq": 2}

    async def deliveries() -> list[dict[str, str]]:
        shown = [await stack.get(f"/events/{event_id}") for event_id in events]
        return [delivery for event in shown for delivery in event["deliveries"]]

    async def recorded() -> bool:
        return len(await deliveries()) == 3

    await eventually(recorded, "the deliveries are recorded")
    first, second, third = await deliveries()
    assert first["acknowledged_at"] == second["acknowledged_at"] >= second["delivered_at"]
    assert third["acknowledged_at"] is None
