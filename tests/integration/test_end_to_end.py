"""A webhook goes in over HTTP and reaches an agent's context over WebSocket."""

import json

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.fixtures import github_examples
from tests.support.stack import Stack, eventually

SECRET = "a secret of github's"


def signed(event: str, body: bytes, delivery: str = "d-1") -> dict[str, str]:
    return PROVIDERS["github"].sign(
        body,
        SECRET,
        SignatureOptions(),
        now=0.0,
        event_type=event,
        delivery_id=delivery,
        url="",
    )


async def test_pull_request_reaches_a_context(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "github", "secrets": [SECRET]})
    body = json.dumps(
        {"action": "opened", "pull_request": {"number": 7, "title": "Fix it"}}
    ).encode()
    event_id = await stack.hook(name, body, signed("pull_request", body))
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == event_id
    assert (update["type"], update["seq"], update["context_id"]) == ("update", 1, name)
    assert update["event_type"] == "pull_request.opened"
    assert "Fix it" in update["summary"]
    assert "#7" in update["summary"]


async def test_event_is_found_as_soon_as_it_is_accepted(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "none"})
    event_id = await stack.hook(name, b'{"a": 1}')
    event = await stack.get(f"/events/{event_id}")
    assert event["payload"] == {"a": 1}
    assert event["status"] in ("accepted", "unrouted")

    async def recorded() -> bool:
        return (await stack.get(f"/events/{event_id}"))["status"] == "unrouted"

    await eventually(recorded, "the event is unrouted: no context asks for it")


async def test_same_payload_twice_reaches_the_context_once(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "github", "secrets": [SECRET]})
    body = b'{"action": "opened", "pull_request": {"number": 1}}'
    first = await stack.hook(name, body, signed("pull_request", body, "d-1"))
    second = await stack.hook(name, body, signed("pull_request", body, "d-2"))
    other = await stack.hook(name, body + b" ", signed("pull_request", body + b" ", "d-3"))
    updates = await stack.updates(name, 2)
    assert [update["event_id"] for update in updates] == [first, other]

    async def recorded() -> bool:
        event = await stack.get(f"/events/{second}")
        return (event["status"], event["duplicate_of"]) == ("duplicate", first)

    await eventually(recorded, "the second shows as a duplicate of the first")
    assert (await stack.get(f"/events/{second}"))["delivery_id"] == "d-2"


async def test_every_github_example_is_accepted_found_and_delivered_in_order(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "github", "secrets": [SECRET]})
    examples = github_examples()
    assert len(examples) == 329
    sent: list[tuple[str, str]] = []
    seen: set[bytes] = set()
    for example in examples:
        event_id = await stack.hook(
            name, example.body, signed(example.event, example.body, f"d-{len(sent)}")
        )
        # five stand twice in the package
        if example.body not in seen:
            sent.append((event_id, example.type))
        seen.add(example.body)
    updates = await stack.updates(name, len(sent))
    assert [(update["event_id"], update["event_type"]) for update in updates] == sent
    assert [update["seq"] for update in updates] == list(range(1, len(sent) + 1))
    for event_id, event_type in sent:
        event = await stack.get(f"/events/{event_id}")
        assert event["type"] == event_type
