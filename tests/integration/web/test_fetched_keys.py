"""Senders whose keys are fetched, on a whole system that verifies by keys of the tools' own."""

import time

import aiohttp
import orjson
import pytest

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.integration.commands.test_commands import run
from tests.support import ROOT
from tests.support.senders import NAMES, SIGNING, VERIFYING
from tests.support.stack import Stack

#: By row: a condition that looks into what the payload carries as a text, and words of the update.
INSIDE = {
    "sns": ('payload.Message.Records[0].s3.bucket.name == "acme-invoices"', "acme-invoices"),
    "pubsub": ('payload.message.data.contentType == "application/pdf"', "gs://acme-uploads"),
    "googlechat": ('payload.space.type == "ROOM"', "Google Chat message from Ada Lovelace"),
    "wix": ('payload.data.data.slug == "created"', "Wix contact created: Jane Doe"),
    "paypal": ('payload.resource.amount.value == "30.00"', "30.00 USD"),
    "plaid": ('payload.webhook_type == "TRANSACTIONS"', "can be synced"),
}


@pytest.mark.parametrize("kind", INSIDE)
async def test_send_signs_as_they_do_and_rules_see_what_is_inside(
    stack: Stack, name: str, kind: str
) -> None:
    condition, words = INSIDE[kind]
    tool = {"provider": kind, "secrets": [VERIFYING[kind]]}
    await stack.context(name, tool, where=condition)
    [example] = (ROOT / "examples" / "payloads").glob(f"{kind}-*")
    url = ("--url", stack.url)
    sent = run(
        "send", kind, str(example), "--tool", name, *url, stack=stack, HOOK_SECRET=SIGNING[kind]
    )
    assert sent.returncode == 0, sent.stdout + sent.stderr
    [update] = await stack.updates(name, 1)
    assert words in update["summary"]
    event = await stack.get(f"/events/{update['event_id']}")
    # as it was sent
    if kind == "sns":
        assert type(event["payload"]["Message"]) is str
    if kind == "wix":
        assert event["payload"].startswith("eyJ")


async def test_a_forged_message_and_a_place_that_is_not_amazon_s_are_refused(
    stack: Stack, name: str
) -> None:
    await stack.put(f"/tools/{name}", {"provider": "sns", "secrets": [NAMES["sns"][0]]})
    row = PROVIDERS["sns"]
    assert row.stamp
    assert row.seal
    [example] = (ROOT / "examples" / "payloads").glob("sns-*")
    body = {
        **orjson.loads(row.stamp(example.read_bytes(), time.time())),
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com.evil.example/cert.pem",
    }
    headers = row.sign(b"{}", "", SignatureOptions(), now=0, event_type="", delivery_id="", url="")
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(
            f"/hooks/{name}", data=row.seal(orjson.dumps(body), SIGNING["sns"]), headers=headers
        ) as answer,
    ):
        assert answer.status == 401
        assert "SigningCertURL" in await answer.text()


async def test_options_that_only_one_row_reads_are_refused_by_the_others(
    stack: Stack, name: str
) -> None:
    tool = {"provider": "github", "secrets": ["a-gh-5eCReT"], "options": {"audience": "x"}}
    async with stack.session() as session:
        path = f"/api/v1/tools/{name}"
        async with session.put(path, json=tool) as answer:
            assert answer.status == 400
            assert "or pubsub reads it" in await answer.text()
        tool = {**tool, "provider": "pubsub", "secrets": [NAMES["pubsub"][0]]}
        async with session.put(path, json=tool) as answer:
            assert answer.status == 201, await answer.text()


async def test_event_grid_s_tool_may_have_no_secret_where_options_say_who_sends(
    stack: Stack, name: str
) -> None:
    options = {
        "audience": "api://925bff9b-f6e2-4a69-b858-f71ea2b9b6d0",
        "tenant": "9f4ebab6-520d-49c0-85cc-7b25c78d4a93",
    }
    made = await stack.put(f"/tools/{name}", {"provider": "eventgrid", "options": options})
    assert (made["pending"], made["secret_count"]) == (False, 0)
    headers = {"Authorization": "Bearer a-secret-that-it-has-not"}
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(f"/hooks/{name}", data=b"[]", headers=headers) as answer,
    ):
        assert answer.status == 401
