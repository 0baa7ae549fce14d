"""How senders try out an address, and what they are answered, over real sockets."""

import hmac
import json
import secrets
import time
from typing import Any

import aiohttp
import asyncpg
import pytest

from hookstream.app.postgres.sql import statement
from hookstream.app.web.receive import EVENT_ID_HEADER
from tests.integration.postgres.test_upgrades import postgres_of
from tests.support.senders import body_of, signed
from tests.support.stack import Stack, eventually

SECRET = "first-contact-5eCReT"


async def ask(
    stack: Stack, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, str, str, Any]:
    """Status, media type, text and headers of an answer to a stranger."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
    if data:
        names.setdefault("Content-Type", "application/json")
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.request(method, path, data=data, headers=names) as answer,
    ):
        return answer.status, answer.content_type, await answer.text(), answer.headers


@pytest.fixture(scope="module")
async def tools(stack: Stack) -> dict[str, str]:
    """A tool of each kind that is asked here: provider → id."""
    mark = secrets.token_hex(4)
    made = {}
    for kind in ("none", "github", "bearer", "bitbucket", "slack", "twilio", "linear"):
        made[kind] = f"first-{kind}-{mark}"
        given = {} if kind == "none" else {"secrets": [SECRET]}
        await stack.put(f"/tools/{made[kind]}", {"provider": kind, **given})
    return made


@pytest.mark.parametrize(
    ("kind", "method", "query", "body", "headers", "right"),
    [
        ("none", "GET", "?challenge=abc%20d", None, {}, ("text/plain", "abc d")),
        ("none", "GET", "?validationToken=a", None, {}, ("text/plain", "a")),
        ("none", "POST", "?validationToken=V%3a+T", None, {}, ("text/plain", "V: T")),
        ("bearer", "POST", "?validationtoken=x", None, {}, ("text/plain", "x")),
        (
            "none",
            "POST",
            "",
            [{"id": "1", "data": {"validationCode": "5"}}],
            {"aeg_event_type": "SubscriptionValidation"},
            ("application/json", '{"validationResponse":"5"}'),
        ),
        ("none", "POST", "", {"challenge": "3e"}, {}, ("application/json", '{"challenge":"3e"}')),
        (
            "none",
            "POST",
            "",
            {"challenge": "x", "subscription": {}},
            {"Twitch_Eventsub_Message_Type": "webhook_callback_verification"},
            ("text/plain", "x"),
        ),
        (
            "github",
            "GET",
            f"?hub.mode=subscribe&hub.challenge=11&hub.verify_token={SECRET}",
            None,
            {},
            ("text/plain", "11"),
        ),
        (
            "bitbucket",
            "POST",
            "",
            {"test": True},
            {"X_Event_Key": "diagnostics:ping"},
            ("text/plain", ""),
        ),
    ],
)
async def test_trial_of_an_address_is_answered_and_is_no_event(
    stack: Stack,
    tools: dict[str, str],
    kind: str,
    method: str,
    query: str,
    body: Any,
    headers: dict[str, str],
    right: tuple[str, str],
) -> None:
    for slash in ("", "/"):
        path = f"/hooks/{tools[kind]}{slash}{query}"
        status, media_type, text, got = await ask(stack, method, path, body, **headers)
        assert (status, media_type, text) == (200, *right)
        assert EVENT_ID_HEADER not in got
        assert got["X-Content-Type-Options"] == "nosniff"


async def test_who_does_not_know_the_secret_gets_no_challenge_back(
    stack: Stack, tools: dict[str, str]
) -> None:
    place = f"/hooks/{tools['github']}"
    for query in ("", "?challenge=a", "?hub.mode=subscribe&hub.challenge=1&hub.verify_token=no"):
        status, _, text, got = await ask(stack, "GET", place + query)
        assert (status, got["Allow"]) == (405, "POST")
        assert "challenge" not in text.partition("detail")[2]
    status, *_ = await ask(stack, "POST", place, {"challenge": "x"})
    assert status == 401


async def test_what_cannot_be_echoed_safely_is_not(stack: Stack, tools: dict[str, str]) -> None:
    place = f"/hooks/{tools['none']}"
    for text in ("%0d%0aSet-Cookie:a", "%e2%80%ae", "a" * 1025):
        status, *_ = await ask(stack, "GET", f"{place}?challenge={text}")
        assert status == 405


async def test_head_and_options_say_that_somebody_is_there(
    stack: Stack, tools: dict[str, str]
) -> None:
    for tool in (tools["none"], tools["github"]):
        status, _, text, _ = await ask(stack, "HEAD", f"/hooks/{tool}")
        assert (status, text) == (200, "")
    status, *_ = await ask(stack, "HEAD", "/hooks/nothing-of-this-name")
    assert status == 404
    place = f"/hooks/{tools['none']}"
    status, *_, got = await ask(
        stack, "OPTIONS", place, WebHook_Request_Origin="eventgrid.azure.net"
    )
    assert (status, got["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")
    status, *_ = await ask(stack, "OPTIONS", place)
    assert status == 405


async def test_address_with_a_slash_is_the_same(stack: Stack, tools: dict[str, str]) -> None:
    status, _, text, got = await ask(stack, "POST", f"/hooks/{tools['none']}/", {"a": 1})
    assert status == 202
    assert got[EVENT_ID_HEADER] == json.loads(text)["event_id"]


@pytest.mark.parametrize(
    ("kind", "body", "right"),
    [
        ("slack", b'{"type":"event_callback","event":{"type":"app_mention"}}', (200, "")),
        ("linear", None, (200, "accepted")),
        ("twilio", None, (200, "<Response/>")),
    ],
)
async def test_each_provider_is_answered_as_it_understands_it(
    stack: Stack,
    tools: dict[str, str],
    kind: str,
    body: bytes | None,
    right: tuple[int, str],
) -> None:

    now = time.time()
    body = body_of(kind, now) if body is None else body
    url = f"{stack.url}/hooks/{tools[kind]}"
    headers = signed(kind, body, now=now, secret=SECRET, url=url)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        text = await answer.text()
        assert answer.status == right[0]
        assert right[1] in text if right[1] else text == ""
        assert answer.headers[EVENT_ID_HEADER]


async def test_options_say_what_a_sender_without_a_row_is_answered(stack: Stack, name: str) -> None:
    answers = {"answer_status": 200, "answer_body": "[accepted]", "answer_type": "text/plain"}
    await stack.put(f"/tools/{name}", {"provider": "none", "options": answers})
    assert (await ask(stack, "POST", f"/hooks/{name}", {"a": 1}))[:3] == (
        200,
        "text/plain",
        "[accepted]",
    )


async def test_options_that_nothing_reads_are_refused_by_name(stack: Stack, name: str) -> None:
    for provider, options, said in (
        ("github", {"header": "X-Other"}, "options.header: GitHub reads no such option"),
        ("stripe", {"algorithm": "sha1"}, "options.algorithm"),
        ("generic", {"signed": "{bdy}"}, "options.signed: {bdy}"),
        ("generic", {"signed": "{timestamp}.{body}"}, "where {timestamp} stands"),
        ("generic", {"timestamp_header": "X-Time"}, "anybody could change it"),
        ("generic", {"nme": "x"}, "options.nme: there is no such option"),
        ("generic", {"signature_field": "sig"}, "cannot sign itself"),
    ):
        body = {"provider": provider, "secrets": [SECRET], "options": options}
        async with (
            stack.session() as session,
            session.put(f"/api/v1/tools/{name}", json=body) as answer,
        ):
            assert answer.status == 400
            assert said in (await answer.json())["detail"]


async def test_a_secret_that_the_sender_hands_over_is_kept_and_shown_once(
    stack: Stack, name: str
) -> None:
    made = await stack.put(f"/tools/{name}", {"provider": "asana", "secrets": []})
    assert (made["pending"], made["learnt_secret_waits"]) == (True, False)
    place = f"/hooks/{name}"
    # nothing is accepted meanwhile
    status, *_ = await ask(stack, "POST", place, {"events": [{"action": "changed"}]})
    assert status == 401
    secret = secrets.token_hex(16)
    status, _, _, got = await ask(stack, "POST", place, X_Hook_Secret=secret)
    assert (status, got["X-Hook-Secret"]) == (200, secret)
    # who comes later is not believed
    status, *_ = await ask(stack, "POST", place, X_Hook_Secret="another")
    assert status == 401
    shown = await stack.get(f"/tools/{name}")
    assert (shown["pending"], shown["learnt_secret_waits"]) == (False, True)
    assert secret not in json.dumps(shown)
    async with stack.session() as session:
        for right in (200, 404):
            async with session.post(f"/api/v1/tools/{name}/learnt-secret") as answer:
                assert answer.status == right
                said = await answer.json()
                assert right == 404 or said == {"secret": secret}
    # what else is set of the tool leaves it as it is
    kept = await stack.put(f"/tools/{name}", {"provider": "asana", "secrets": []})
    assert (kept["pending"], kept["secret_count"]) == (False, 1)
    body = b'{"events":[{"action":"changed","resource":{"gid":"1","resource_type":"task"}}]}'
    url = f"{stack.url}{place}"
    headers = signed("asana", body, secret=secret, url=url)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        assert answer.status in (200, 202)
        assert answer.headers[EVENT_ID_HEADER]


async def test_a_secret_that_another_receiver_has_just_learnt_is_not_lost_by_a_change(
    stack: Stack, name: str
) -> None:
    tool = {"provider": "asana", "secrets": []}
    await stack.put(f"/tools/{name}", tool)
    database = await asyncpg.connect(postgres_of(stack))
    try:
        # as a receiver does it, of which this one has not heard yet
        learnt = await database.fetchrow(
            statement("learn_secret"), name, "default", secrets.token_hex(16)
        )
        assert learnt
        changed = await stack.put(f"/tools/{name}", {**tool, "webhooks_per_second": 5})
    finally:
        await database.close()
    assert (changed["pending"], changed["secret_count"]) == (False, 1)
    # of another provider it has none
    changed = await stack.put(f"/tools/{name}", {**tool, "provider": "notion"})
    assert (changed["pending"], changed["secret_count"]) == (True, 0)


async def test_a_secret_that_could_be_guessed_or_is_no_key_is_not_learnt(
    stack: Stack, name: str
) -> None:
    options = {"secret_from": "header:X-Hook-Secret", "key_encoding": "hex"}
    await stack.put(f"/tools/{name}", {"provider": "generic", "options": options})
    for bad in ("test", "no hex at all, nor ever", "00ff"):
        assert (await ask(stack, "POST", f"/hooks/{name}", X_Hook_Secret=bad))[0] == 400
    assert (await stack.get(f"/tools/{name}"))["pending"]
    assert (await ask(stack, "POST", f"/hooks/{name}", X_Hook_Secret="0aff" * 8))[0] == 200


async def test_a_generic_tool_learns_its_secret_where_its_options_say(
    stack: Stack, name: str
) -> None:
    options = {"header": "X-Hook-Signature", "secret_from": "header:X-Hook-Secret"}
    made = await stack.put(f"/tools/{name}", {"provider": "generic", "options": options})
    assert made["pending"]
    place = f"/hooks/{name}"
    secret = secrets.token_hex(16)
    status, _, _, got = await ask(stack, "POST", place, X_Hook_Secret=secret)
    assert (status, got["X-Hook-Secret"]) == (200, secret)
    body = b'{"event":"matter.updated"}'
    signature = hmac.new(secret.encode(), body, "sha256").hexdigest()
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{stack.url}{place}", data=body, headers={"X-Hook-Signature": signature}
        ) as answer,
    ):
        assert answer.status == 202


async def test_pushes_without_a_body_and_alerts_that_come_again_are_events(
    stack: Stack, name: str
) -> None:
    named = {"type_header": "X-Goog-Resource-State", "delivery_header": "X-Goog-Message-Number"}
    made = await stack.put(f"/tools/{name}", {"provider": "none", "options": named})
    assert (made["dedup"]["strategy"], made["dedup"]["window"]) == ("delivery", "24h")
    made = await stack.put(f"/tools/{name}-b", {"provider": "none"})
    assert (made["dedup"]["strategy"], made["dedup"]["window"]) == ("payload", "10m")
    ids = []
    for number, tool in (
        ("2", name),
        ("3", name),
        ("3", name),
        ("4", f"{name}-b"),
        ("5", f"{name}-b"),
    ):
        heads = {"X-Goog-Resource-State": "exists", "X-Goog-Message-Number": number}
        status, *_, got = await ask(stack, "POST", f"/hooks/{tool}", **heads)
        assert status == 202
        ids.append(got[EVENT_ID_HEADER])

    async def settled() -> list[str]:
        found = [(await stack.get(f"/events/{event}"))["status"] for event in ids]
        return found if "accepted" not in found else []

    statuses = await eventually(settled, "all are judged")
    assert [status == "duplicate" for status in statuses] == [False, False, True, False, False]
