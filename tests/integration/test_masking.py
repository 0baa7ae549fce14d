"""Personal data and secrets on the running system: what goes out is masked, the original stays."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.mcp.test_mcp import client, use
from tests.integration.web.test_agent_keys import call, make
from tests.support import ROOT
from tests.support.stack import Stack, eventually

CARD, MAIL = "4111 1111 1111 1111", "jane.whitfield@example.com"
TOKEN = "ghp_" + "aB3dE6gH9jK2" * 3
BODY = {"title": f"pay with {CARD}", "from": MAIL, "note": f"my token {TOKEN}"}
UNSEEN = (CARD, TOKEN)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("masking")
    key = "a-long-key-that-only-tests-know-0123456789"
    settings = {
        "HOOKSTREAM_PSEUDONYM_KEY": key,
        "HOOKSTREAM_LOG_LEVEL": "debug",
        "HOOKSTREAM_NER": "tests.support.names:find",
        # the checkout is what modules are found in
        "PYTHONPATH": str(ROOT),
    }
    with Stack(folder, **settings) as running:
        yield running


async def test_what_agents_read_is_masked_and_operators_see_what_was_sent(own: Stack) -> None:
    await own.context("plain", {"provider": "none"}, where='payload.title.contains("1111")')
    await own.context("blind", {"provider": "none"}, where=f'payload.title.contains("{CARD}")')
    event_id = await own.hook("plain", json.dumps(BODY).encode())
    [update] = await own.updates("plain", 1)
    told = json.dumps(update, ensure_ascii=False)
    assert not any(text in told for text in UNSEEN)
    assert "•••• •••• •••• 1111" in told

    key = (await make(own, "plain"))["key"]
    seen = await _as_agent(own, key, event_id)
    async with client(own, key) as agent:
        shown = await use(agent, "get_event", event_id=event_id)
    assert shown["payload"] == {
        "title": "pay with •••• •••• •••• 1111",
        "from": MAIL,
        "note": "my token ghp_•••",
    }
    assert seen == shown["payload"]
    assert (await own.get(f"/events/{event_id}"))["payload"] == BODY, "what was sent is kept"

    # a condition knows no more than agents do
    blind = await own.hook("blind", json.dumps(BODY).encode())
    assert (await _settled(own, blind))["status"] == "unrouted"


async def test_a_large_payload_is_masked_aside_and_as_much_is_hidden(own: Stack) -> None:
    await own.context("large", {"provider": "none"})
    body = {**BODY, "log": ["nothing of note"] * 20_000}
    event_id = await own.hook("large", json.dumps(body).encode())
    [update] = await own.updates("large", 1)
    assert not any(text in json.dumps(update, ensure_ascii=False) for text in UNSEEN)
    seen = await _as_agent(own, (await make(own, "large"))["key"], event_id)
    assert (seen["note"], seen["log"]) == ("my token ghp_•••", body["log"])


async def test_a_tool_has_rules_of_its_own(own: Stack) -> None:
    rules = {
        "agents": {"email": "pseudonym", "secret": "drop", "card": "pass"},
        "fields": {"inner.*.key": "mask"},
    }
    await own.context("ruled", {"provider": "none", "masking": rules})
    assert (await own.get("/tools/ruled"))["masking"]["agents"] == rules["agents"]
    key = (await make(own, "ruled"))["key"]
    shown = []
    for number in range(2):
        body = {**BODY, "n": number, "inner": {"a": {"key": "k"}}}
        event_id = await own.hook("ruled", json.dumps(body).encode())
        await own.updates("ruled", number + 1)
        shown.append(await _as_agent(own, key, event_id))
    assert shown[0]["from"] == shown[1]["from"]
    assert shown[0]["from"].startswith("email_")
    assert shown[0]["title"] == BODY["title"]
    assert "note" not in shown[0]
    assert shown[0]["inner"] == {"a": {"key": "•••"}}


async def test_what_is_blocked_is_a_dead_letter_that_says_which_kind(own: Stack) -> None:
    blocking = {"provider": "none", "masking": {"agents": {"card": "block"}}}
    await own.context("blocking", blocking)
    event_id = await own.hook("blocking", json.dumps(BODY).encode())
    found = await _settled(own, event_id)
    assert (found["status"], found["stage"]) == ("dead", "mask")
    assert found["error"] == "BlockedByRuleError: a rule of its tool blocks events with card"
    fine = await own.hook("blocking", b'{"title": "a door"}')
    [update] = await own.updates("blocking", 1)
    assert update["event_id"] == fine
    letter = await own.get(f"/dead-letters/{event_id}")
    assert letter["payload"] == BODY, "who has the admin key looks at what was sent"


async def test_a_model_finds_names_in_free_text(own: Stack) -> None:
    masking = {"agents": {"name": "mask"}, "models": {"address": "mask"}}
    await own.context("named", {"provider": "none", "masking": masking})
    body = {"title": "Jane Whitfield cannot log in", "to": ["Karl", "ask Ada Lovelace"]}
    event_id = await own.hook("named", json.dumps(body).encode())
    [update] = await own.updates("named", 1)
    told = json.dumps(update, ensure_ascii=False)
    assert "J••• W••• cannot log in" in told
    assert not any(name in told for name in ("Jane", "Whitfield", "Lovelace"))
    shown = await _as_agent(own, (await make(own, "named"))["key"], event_id)
    # one word is no free text: its field says what it is, or nothing
    assert shown == {"title": "J••• W••• cannot log in", "to": ["Karl", "ask A••• L•••"]}
    assert (await own.get(f"/events/{event_id}"))["payload"] == body
    # and before it is kept
    kept = {"provider": "none", "masking": {**masking, "keep": "masked"}}
    await own.put("/tools/named", kept)
    event_id = await own.hook("named", json.dumps({**body, "n": 2}).encode())
    await own.updates("named", 2)
    assert (await own.get(f"/events/{event_id}"))["payload"]["to"] == ["Karl", "ask A••• L•••"]


@pytest.mark.parametrize(
    ("masking", "detail"),
    [
        ({"agents": {"emial": "mask"}}, "masking.agents: there is no kind 'emial'"),
        ({"keep": "masked", "agents": {"*": "pass"}}, "masking.keep: "),
        ({"models": {"card": "block"}}, "masking.models.card"),
    ],
)
async def test_wrong_rules_are_refused(own: Stack, masking: dict[str, Any], detail: str) -> None:
    status, problem = await call(
        own, own.key, "PUT", "/tools/wrong", provider="none", masking=masking
    )
    assert status == 400
    assert detail in problem["detail"]


async def test_no_log_has_what_is_masked(own: Stack) -> None:
    event_id = await own.hook("plain", json.dumps(BODY).encode())
    await _settled(own, event_id)
    text = own.log.read_text(errors="replace")
    assert event_id in text, "it is a log of this"
    assert not any(value in text for value in UNSEEN)


async def _settled(stack: Stack, event_id: str) -> dict[str, Any]:
    """The event, once its record says what became of it."""
    found: dict[str, Any] = {}

    async def settled() -> bool:
        found.update(await stack.get(f"/events/{event_id}"))
        return found["status"] != "accepted"

    await eventually(settled, "it is recorded")
    return found


async def _as_agent(stack: Stack, key: str, event_id: str) -> Any:
    """An event's payload over HTTP, with an agent's key; once its delivery is recorded."""
    found: dict[str, Any] = {}

    async def shown() -> bool:
        status, event = await call(stack, key, "GET", f"/events/{event_id}")
        found.update(event)
        return status == 200

    await eventually(shown, "the agent may see it")
    return found["payload"]
