"""Webhooks whose keys are fetched, from the door on: real sockets, TLS and signatures."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from hookstream.app.errors import ConflictError, UnavailableError
from hookstream.app.ingest.appender import Append
from hookstream.app.ingest.refusals import Refusal
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.public_jwt import sign_public_jwt
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.maskers import Maskers
from hookstream.app.settings import Settings
from hookstream.app.token_bucket import TokenBuckets
from hookstream.app.web.limits import ToolLimit
from hookstream.app.web.problem import problems
from hookstream.app.web.receive import Receiver
from hookstream.codecs.envelope import Event, encode_event
from tests.support import ROOT
from tests.support.key_host import KeyHost, certificate, key_host
from tests.support.senders import NAMES, OTHER_RSA, PRIVATE, RSA, SIGNING, private_text
from tests.unit.providers import test_entra as entra
from tests.unit.providers.test_fetched_keys import CERTIFICATE, GOOGLE, PLAID, jwk

HOSTS = (
    "sns.us-west-2.amazonaws.com",
    "www.googleapis.com",
    "production.plaid.com",
    "api.paypal.com",
    "login.microsoftonline.com",
)
KID = "bfbd5111-8e33-4643-8ced-b2e642a72f3c"
TOPIC = NAMES["sns"][0]


class Door:
    """A receiver whose stream is a list."""

    url: str

    def __init__(self, host: KeyHost) -> None:
        self.host = host
        self.events: list[Event] = []
        self.refusals: list[Refusal] = []
        tools = {
            name: Tool(
                name, "default", name, (secret,), SignatureOptions(),
                PROVIDERS[name].dedup_strategy, (), 60_000, "tool", "",
            )
            for name, (secret, _, _) in NAMES.items()
        }  # fmt: skip
        for name, secrets in (("graph", (entra.STATE,)), ("eventgrid", ())):
            tools[name] = Tool(
                *(name, "default", name, secrets, entra.OPTIONS),
                *(PROVIDERS[name].dedup_strategy, (), 60_000, "tool", ""),
            )
        parts: Any = SimpleNamespace(
            current=Catalog(1, 1, tools),
            encode_aside=self._encode,
            append_all=self._append,
            count=lambda tool, reason: True,
            keep=lambda tool, refusal, error: self.refusals.append(refusal),
        )
        self.receiver = Receiver(
            settings=Settings(_env_file=None, public_url="https://hooks.example.com"),
            postgres=parts,
            catalog=parts,
            payloads=parts,
            appender=parts,
            refusals=parts,
            functions={},
            limit=ToolLimit("x", TokenBuckets(0, 0), "too fast"),
            payload_check=parts,
            fetcher=host.fetcher,
            maskers=Maskers(lambda: parts.current),
        )

    async def _encode(self, event: Event) -> bytes:
        self.events.append(event)
        return encode_event(event)

    async def _append(self, entries: Sequence[Append]) -> None:
        assert all(entry.data for entry in entries)

    async def post(self, name: str, body: bytes, headers: Mapping[str, str]) -> Any:
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.post(f"/hooks/{name}", data=body, headers=headers) as answer,
        ):
            return SimpleNamespace(
                status=answer.status, headers=answer.headers, text=await answer.text()
            )


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with key_host(tmp_path, time.time(), HOSTS) as host:
        found = Door(host)
        app = web.Application(middlewares=[problems])
        app.add_routes(found.receiver.routes())
        runner = web.AppRunner(app, auto_decompress=False, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield found
        finally:
            await runner.cleanup()


def sns(key: Any = None, **fields: Any) -> bytes:
    """A message of SNS of now."""
    [example] = (ROOT / "examples" / "payloads").glob("sns-*")
    row = PROVIDERS["sns"]
    assert row.stamp
    assert row.seal
    body = orjson.dumps({**orjson.loads(row.stamp(example.read_bytes(), time.time())), **fields})
    sealed = orjson.loads(row.seal(body, SIGNING["sns"]))
    if key is not None:
        sealed = orjson.loads(row.seal(body, f"{TOPIC} {private_text(key)}"))
    return orjson.dumps(sealed)


def pem(key: Any = RSA, **more: Any) -> bytes:
    return certificate(key, time.time(), **more).public_bytes(Encoding.PEM)


TEXT = {"Content-Type": "text/plain; charset=UTF-8"}


async def test_sns_is_taken_with_one_call_for_its_certificate(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    first = await door.post("sns", sns(), TEXT)
    assert first.status == 202
    assert orjson.loads(first.text)["event_id"] == door.events[0].event_id
    more = await asyncio.gather(*(door.post("sns", sns(), TEXT) for _ in range(20)))
    assert {answer.status for answer in more} == {202}
    assert len(door.host.asked) == 1
    assert door.events[0].type == "Notification.ObjectCreated:Put"
    # another time, the same message
    assert {event.message_id for event in door.events} == {door.events[0].message_id}
    # kept as it was sent, and readable
    assert type(orjson.loads(door.events[0].payload)["Message"]) is str
    assert door.events[0].data()["Message"]["Records"][0]["s3"]["bucket"]["name"] == "acme-invoices"


async def test_a_forged_message_is_refused_whatever_certificate_it_names(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    assert (await door.post("sns", sns(OTHER_RSA), TEXT)).status == 401
    evil = CERTIFICATE.replace("us-west-2", "s3-us-west-2")
    door.host.at(evil, pem(OTHER_RSA))
    answer = await door.post("sns", sns(OTHER_RSA, SigningCertURL=evil), TEXT)
    assert answer.status == 401
    assert "SigningCertURL" in answer.text
    assert (await door.post("sns", b"{}", TEXT)).status == 401
    assert len(door.host.asked) == 1
    assert door.events == []


async def test_certificates_out_of_time_verify_nothing(door: Door) -> None:
    door.host.at(CERTIFICATE, pem(ends=-60.0, begins=-3600.0))
    answer = await door.post("sns", sns(), TEXT)
    assert answer.status == 401
    assert "expired" in answer.text


@pytest.mark.parametrize("trouble", [500, 302, b"<html>", b"x" * 100_000, "away"])
async def test_a_key_that_cannot_be_fetched_is_for_the_sender_to_send_again(
    door: Door, trouble: Any
) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        raise ConnectionResetError

    door.host.at(CERTIFICATE, away if trouble == "away" else trouble)
    answer = await door.post("sns", sns(), TEXT)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert orjson.loads(answer.text)["type"].endswith("/key-unavailable")
    assert door.refusals[0].status == 503
    assert door.events == []


async def test_a_certificate_that_there_is_not_is_a_forgery(door: Door) -> None:
    for _ in range(3):
        assert (await door.post("sns", sns(), TEXT)).status == 401
    assert len(door.host.asked) == 1


async def test_a_slow_host_holds_up_nobody_whose_key_is_known(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    assert (await door.post("sns", sns(), TEXT)).status == 202
    door.host.gate = asyncio.Event()
    unknown = CERTIFICATE.replace("f3ec", "0000")
    slow = [
        asyncio.create_task(door.post("sns", sns(SigningCertURL=unknown), TEXT)) for _ in range(5)
    ]
    async with asyncio.timeout(5):
        while len(door.host.asked) < 2:
            await asyncio.sleep(0.01)
    assert (await door.post("sns", sns(), TEXT)).status == 202
    door.host.gate.set()
    assert {answer.status for answer in await asyncio.gather(*slow)} == {401}
    assert len(door.host.asked) == 2


async def test_a_forger_cannot_make_us_call_for_ever(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.host.at(CERTIFICATE, pem())
    assert (await door.post("sns", sns(), TEXT)).status == 202
    body = orjson.loads(sns())
    statuses = []
    for n in range(40):
        forged = {**body, "SigningCertURL": CERTIFICATE.replace("f3ecfb72", f"{n:08x}")}
        statuses.append((await door.post("sns", orjson.dumps(forged), TEXT)).status)
    assert set(statuses) == {401, 503}
    assert len(door.host.asked) <= 12
    # nor write a line each
    assert len([line for line in caplog.records if line.levelname == "WARNING"]) <= 2
    assert (await door.post("sns", sns(), TEXT)).status == 202


SUBSCRIBE = (
    f"https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336f3"
)
ASKED = {"Type": "SubscriptionConfirmation", "Token": "2336f3", "SubscribeURL": SUBSCRIBE}


async def test_a_subscription_is_confirmed_on_amazon_s_own_host(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    door.host.at(SUBSCRIBE, b"<ConfirmSubscriptionResponse/>")
    answer = await door.post("sns", sns(Subject=None, **ASKED), TEXT)
    assert (answer.status, answer.text) == (200, "")
    assert door.host.asked[1] == SUBSCRIBE.removeprefix("https://")
    assert door.events == []


async def test_nothing_is_confirmed_for_a_stranger(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    door.host.at(SUBSCRIBE, b"")
    assert (await door.post("sns", sns(OTHER_RSA, Subject=None, **ASKED), TEXT)).status == 401
    evil = {**ASKED, "SubscribeURL": "https://sns.us-west-2.amazonaws.com.evil.example/?Action=x"}
    assert (await door.post("sns", sns(Subject=None, **evil), TEXT)).status == 401
    assert door.host.asked == [CERTIFICATE.removeprefix("https://")]


async def test_a_confirmation_that_fails_is_for_amazon_to_ask_again(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    for status in (500, 403, 302):
        door.host.at(SUBSCRIBE, status)
        answer = await door.post("sns", sns(Subject=None, **ASKED), TEXT)
        assert answer.status == 503
        assert "Retry-After" in answer.headers


async def test_a_captured_confirmation_makes_few_calls(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    door.host.at(SUBSCRIBE, b"")
    body = sns(Subject=None, **ASKED)
    statuses = [(await door.post("sns", body, TEXT)).status for _ in range(30)]
    assert set(statuses) == {200, 503}
    assert len(door.host.asked) <= 1 + 11


async def test_an_unsubscription_is_told_and_not_undone(door: Door) -> None:
    door.host.at(CERTIFICATE, pem())
    gone = {**ASKED, "Type": "UnsubscribeConfirmation", "Message": "You have chosen"}
    assert (await door.post("sns", sns(Subject=None, **gone), TEXT)).status == 202
    assert door.events[0].type == "UnsubscribeConfirmation"
    assert len(door.host.asked) == 1


async def test_a_refused_webhook_is_verified_anew_with_fetched_keys(door: Door) -> None:
    door.host.at(CERTIFICATE, 404)
    await door.post("sns", sns(), TEXT)
    [refusal] = door.refusals
    with pytest.raises(ConflictError, match="no such key"):
        await door.receiver.replay(refusal, "default")
    door.host.at(CERTIFICATE, 500)
    door.receiver._keys._unknown.clear()
    with pytest.raises(UnavailableError):
        await door.receiver.replay(refusal, "default")
    door.host.at(CERTIFICATE, pem())
    door.receiver._keys._unknown.clear()
    accepted = await door.receiver.replay(refusal, "default")
    assert accepted["event_id"] == door.events[0].event_id
    door.host.at(SUBSCRIBE, b"")
    await door.post("sns", sns(OTHER_RSA, Subject=None, **ASKED), TEXT)
    asked = door.refusals[-1]
    right = Refusal(**{**{f: getattr(asked, f) for f in asked.__slots__}, "body": sns(**ASKED)})
    with pytest.raises(ConflictError, match="it is no event"):
        await door.receiver.replay(right, "default")


async def test_pub_sub_s_keys_are_google_s(door: Door) -> None:
    door.host.at(GOOGLE, orjson.dumps({"keys": [jwk(RSA)]}))
    now = int(time.time())
    claims = {
        "aud": "https://hooks.example.com/hooks/pubsub", "email": NAMES["pubsub"][0],
        "email_verified": True, "iat": now, "exp": now + 3600, "iss": "https://accounts.google.com",
    }  # fmt: skip
    [example] = (ROOT / "examples" / "payloads").glob("pubsub-*")
    body = example.read_bytes()

    def headers(kid: str, key: Any = RSA) -> dict[str, str]:
        text = sign_public_jwt(claims, key, "RS256", kid)
        return {"Authorization": f"Bearer {text}", "Content-Type": "application/json"}

    assert (await door.post("pubsub", body, headers(KID))).status == 202
    for n in range(30):
        assert (await door.post("pubsub", body, headers(f"made up {n}", OTHER_RSA))).status == 401
    assert (await door.post("pubsub", body, headers(KID, OTHER_RSA))).status == 401
    assert (await door.post("pubsub", body, {"Authorization": "Bearer a.b.c"})).status == 401
    assert len(door.host.asked) == 1
    assert door.events[0].data()["message"]["data"]["name"] == "2026/report.pdf"


async def test_plaid_is_asked_with_the_tool_s_credentials(door: Door) -> None:
    door.host.at(PLAID, orjson.dumps({"key": jwk(PRIVATE, expired_at=None), "request_id": "r"}))
    [example] = (ROOT / "examples" / "payloads").glob("plaid-*")
    body = example.read_bytes()
    claims = {"iat": int(time.time()), "request_body_sha256": hashlib.sha256(body).hexdigest()}
    headers = {"Plaid-Verification": sign_public_jwt(claims, PRIVATE, "ES256", KID)}
    answers = [await door.post("plaid", body, headers) for _ in range(3)]
    # captured, and sent again: it is a duplicate
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({event.message_id for event in door.events}) == 1
    client, secret = NAMES["plaid"][0].split(":")
    [asked] = door.host.bodies
    assert orjson.loads(asked) == {"client_id": client, "secret": secret, "key_id": KID}
    assert secret not in str(answers[0].text)


async def test_entra_s_tokens_are_verified_by_keys_that_are_fetched_once(door: Door) -> None:
    now = int(time.time())
    door.host.at(
        entra.KEYS_URL,
        orjson.dumps({"keys": [jwk(RSA, "k1", issuer=entra.V2.format("{tenantid}"))]}),
    )
    for name in entra.APPS:
        lasts = {"iat": now, "nbf": now, "exp": now + 3600}
        hook = entra.sent(name, entra.token(name, **lasts))
        headers = {header: values[0] for header, values in hook.headers.items()}
        assert (await door.post(name, hook.body, headers)).status == 202
        over = entra.sent(name, entra.token(name, **{**lasts, "exp": now - 600}))
        headers = {header: values[0] for header, values in over.headers.items()}
        refused = await door.post(name, over.body, headers)
        assert (refused.status, "has expired" in refused.text) == (401, True)
    assert len(door.events) == 2
    assert len(door.host.asked) == 1
