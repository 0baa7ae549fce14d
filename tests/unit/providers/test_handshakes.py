"""First contact of senders that people talk by: secrets handed over, challenges, pings, answers."""

import base64
import hashlib
import hmac
import re
from typing import Any

import orjson
import pytest

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers import PROVIDERS, Answer, check_options, check_secrets
from hookstream.app.providers.provider import JSON
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from tests.support.senders import NOW, URL, request, signed, verify

OPTIONS = SignatureOptions()
ACCEPTED = Answer(202, b'{"event_id":"e","status":"accepted"}', JSON)
SECRET = "a secret"


def get(query: str, method: str = "GET", body: bytes = b"") -> WebhookRequest:
    return WebhookRequest(method, f"https://hooks.example.com/hooks/t?{query}", {}, body, body)


def learnt(name: str, headers: dict[str, str], body: bytes) -> tuple[str, Answer] | None:
    learn = PROVIDERS[name].learn
    assert learn
    return learn(request(headers, body), OPTIONS)


def shaken(name: str, body: dict[str, Any]) -> Answer | None:
    handshake = PROVIDERS[name].handshake
    assert handshake
    return handshake(request({"Content-Type": JSON}, orjson.dumps(body)), (SECRET,), OPTIONS)


def challenged(name: str, hook: WebhookRequest, *secrets: str) -> Answer | None:
    challenge = PROVIDERS[name].challenge
    assert challenge
    return challenge(hook, secrets or (SECRET,), OPTIONS)


def answered(name: str, body: dict[str, Any]) -> Answer:
    answer = PROVIDERS[name].answer
    assert answer
    return answer(request({"Content-Type": JSON}, orjson.dumps(body)), OPTIONS, ACCEPTED)


def test_zoom_is_shown_the_secret_that_it_has_while_there_are_two() -> None:
    body = orjson.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "abc"}})
    handshake = PROVIDERS["zoom"].handshake
    assert handshake
    for secrets in (("old-secret", "new-secret"), ("new-secret", "old-secret")):
        hook = request(signed("zoom", body, secret="new-secret"), body)
        answer = handshake(hook, secrets, OPTIONS)
        proof = hmac.digest(b"new-secret", b"abc", "sha256").hex()
        assert answer
        assert orjson.loads(answer.body)["encryptedToken"] == proof


# What the options of a tool say


def asked(options: SignatureOptions, hook: WebhookRequest, *secrets: str) -> Answer | None:
    challenge = PROVIDERS["generic"].challenge
    assert challenge
    return challenge(hook, secrets or (SECRET,), options)


def test_options_say_where_a_challenge_stands_and_what_is_answered() -> None:
    front = SignatureOptions(challenge="header:X-Front-Challenge")
    hook = request({"X-Front-Challenge": "abc"}, b"{}")
    assert asked(front, hook) == Answer(200, b"", "text/plain", {"X-Front-Challenge": "abc"})
    text = SignatureOptions(challenge="header:X-Front-Challenge", challenge_answer="{challenge}")
    assert asked(text, hook) == Answer(200, b"abc", "text/plain")
    assert asked(text, request({}, b"{}")) is None
    nested = SignatureOptions(
        challenge="field:data.code", challenge_answer='{"data": {"echo": "{challenge}"}}'
    )
    hook = request({"Content-Type": JSON}, b'{"data":{"code":"say \\"hi\\""}}')
    answer = asked(nested, hook)
    assert answer
    assert answer.content_type == JSON
    assert orjson.loads(answer.body) == {"data": {"echo": 'say "hi"'}}


def test_a_challenge_is_signed_where_the_options_say_so_but_no_body_of_an_event_is() -> None:
    linkedin = SignatureOptions(
        header="X-LI-Signature",
        signed="hmacsha256={body}",
        challenge="query:challengeCode",
        challenge_answer='{"challengeCode":"{challenge}","challengeResponse":"{hmac}"}',
    )
    code = "890e4665-4dfe-4ab1-b689-ed553bceeed0"
    answer = asked(linkedin, get(f"challengeCode={code}"))
    assert answer
    expected = hmac.new(SECRET.encode(), code.encode(), hashlib.sha256).hexdigest()
    assert orjson.loads(answer.body) == {"challengeCode": code, "challengeResponse": expected}
    # what is asked for is no JSON, and what is no JSON is no event of such a tool
    assert asked(linkedin, get("challengeCode=%7B%7D")) is None
    plain = SignatureOptions(challenge="query:c", challenge_answer="{hmac}")
    given = asked(plain, get("c=abc"))
    assert given
    forged = request({"X-Signature": given.body.decode()}, b"abc")
    with pytest.raises(SignatureError, match="signs for anybody"):
        PROVIDERS["generic"].verify(forged, (SECRET,), plain, NOW)
    PROVIDERS["generic"].verify(forged, (SECRET,), OPTIONS, NOW)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"challenge": "body"}, "options.challenge: one of header:NAME"),
        ({"challenge": "header:Set-Cookie"}, "has a meaning of its own"),
        ({"challenge": "header:content-type"}, "has a meaning of its own"),
        ({"challenge": "header:a b"}, "options.challenge"),
        ({"challenge_answer": "{challenge}"}, "goes with challenge_answer"),
        ({"challenge": "query:c", "challenge_answer": "ok"}, "a text with {challenge}"),
        ({"challenge": "query:c", "challenge_answer": "header"}, "does not come in one"),
        ({"challenge": "query:c", "challenge_answer": '{"a": {challenge}'}, "is none"),
        ({"secret_from": "query:s"}, "options.secret_from: one of header:NAME, field:PATH"),
    ],
)
def test_options_of_first_contact_that_cannot_work_are_refused(
    options: dict[str, str], said: str
) -> None:
    with pytest.raises(BadRequestError, match=re.escape(said)):
        SignatureOptions(**options)


def test_only_a_provider_that_signs_can_sign_a_challenge() -> None:
    options = SignatureOptions(challenge="query:c", challenge_answer="{hmac}")
    check_options(PROVIDERS["generic"], options)
    with pytest.raises(BadRequestError, match="signs nothing"):
        check_options(PROVIDERS["bearer"], options)


@pytest.mark.parametrize(
    ("signed", "text", "body", "more"),
    [
        ("{body}", "abc", b"abc", {}),
        ("{timestamp}.{body}", f"{NOW:.0f}.", b"", {"timestamp_header": "X-Time"}),
        ("{timestamp}.{body}", f"{NOW:.0f}.abc", b"abc", {"timestamp_header": "X-Time"}),
        ("{header:X-Id}", "abc", b'{"evil": 1}', {}),
        ("{field:id}", "abc", b'{"id": "abc", "evil": 1}', {}),
        ("{method}{path}", "POST/hooks/t", b'{"evil": 1}', {}),
    ],
)
def test_nobody_can_have_a_webhook_signed_as_a_challenge(
    signed: str, text: str, body: bytes, more: dict[str, str]
) -> None:
    generic = PROVIDERS["generic"]
    options = SignatureOptions(
        challenge="query:c", challenge_answer="{hmac}", header="X-Sig", signed=signed, **more
    )
    asked = WebhookRequest("GET", f"https://a.example/hooks/t?c={text}", {}, b"", b"")
    assert generic.challenge
    answer = generic.challenge(asked, (SECRET,), options)
    assert answer
    sent = {"x-sig": (answer.body.decode(),), "x-time": (f"{NOW:.0f}",), "x-id": ("abc",)}
    hook = WebhookRequest("POST", "https://a.example/hooks/t", sent, body, body)
    with pytest.raises(SignatureError, match="signs for anybody"):
        generic.verify(hook, (SECRET,), options, NOW)


def test_a_secret_is_learnt_from_where_the_options_say() -> None:
    learn = PROVIDERS["generic"].learn
    assert learn
    clio = SignatureOptions(header="X-Hook-Signature", secret_from="header:X-Hook-Secret")
    hook = request({"X-Hook-Secret": "s" * 40}, b"{}")
    assert learn(hook, clio) == (
        "s" * 40,
        Answer(200, b"", "text/plain", {"X-Hook-Secret": "s" * 40}),
    )
    assert learn(request({"X-Hook-Secret": "s" * 257}, b"{}"), clio) is None
    assert learn(hook, OPTIONS) is None
    token = SignatureOptions(secret_from="field:verification_token")
    body = request({"Content-Type": JSON}, b'{"verification_token":"secret_x"}')
    assert learn(body, token) == ("secret_x", Answer(200, b"", "text/plain"))
    # without the option a tool of this provider cannot be made without a secret
    check_secrets(PROVIDERS["generic"], [], options=clio)
    with pytest.raises(BadRequestError, match="needs at least one"):
        check_secrets(PROVIDERS["generic"], [])


# Secrets that are handed over


def test_notion_hands_over_its_token_unsigned_and_alone() -> None:
    token = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"
    body = orjson.dumps({"verification_token": token})
    found = learnt("notion", {}, body)
    assert found
    assert found[0] == token
    assert found[1].status == 200
    assert learnt("notion", {"X-Notion-Signature": "sha256=ab"}, body) is None
    assert learnt("notion", {}, orjson.dumps({"verification_token": ""})) is None
    assert learnt("notion", {}, orjson.dumps({"verification_token": "a\nb"})) is None
    event = orjson.dumps({"type": "page.created", "verification_token": token})
    assert learnt("notion", {}, event) is None


def test_asana_hands_over_its_secret_and_gets_it_back() -> None:
    secret = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81"
    found = learnt("asana", {"X-Hook-Secret": secret}, b"{}")
    assert found == (secret, Answer(200, b"", "text/plain", {"X-Hook-Secret": secret}))
    assert learnt("asana", {"X-Hook-Secret": secret, "X-Hook-Signature": "ab"}, b"{}") is None
    assert learnt("asana", {"X-Hook-Secret": "a\r\nSet-Cookie: b"}, b"{}") is None
    assert learnt("asana", {}, b"{}") is None


def test_a_heartbeat_of_asana_is_no_event() -> None:
    beat = shaken("asana", {"events": []})
    assert beat
    assert beat.status == 200
    assert shaken("asana", {"events": [{}]}) is None
    assert shaken("asana", {}) is None


# Challenges


@pytest.mark.parametrize(
    ("name", "parameter"), [("graph", "validationToken"), ("sharepoint", "validationtoken")]
)
def test_microsoft_gets_its_token_as_text(name: str, parameter: str) -> None:
    token = "Validation: Testing client application reachability for subscription request"
    query = f"{parameter}={token.replace(' ', '%20').replace(':', '%3A')}"
    assert challenged(name, get(query, "POST")) == Answer(200, token.encode(), "text/plain")
    assert challenged(name, get(query)) is None
    assert challenged(name, get("a=b", "POST")) is None
    assert challenged(name, get(f"{parameter}=%0D%0Ax", "POST")) is None


def test_meta_gets_its_challenge_for_a_known_token_only() -> None:
    query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    for name in ("meta", "whatsapp"):
        found = challenged(name, get(query + "t0k"), "the app's secret", "t0k")
        assert found == Answer(200, b"1158201444", "text/plain")
        assert challenged(name, get(query + "other"), "the app's secret", "t0k") is None


def test_monday_gets_a_challenge_that_stands_alone() -> None:
    body = orjson.dumps({"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"})
    found = challenged("monday", get("", "POST", body))
    assert found
    assert orjson.loads(found.body) == orjson.loads(body)
    for other in ({"challenge": "a", "event": {}}, {"challenge": {"a": 1}}, {"challenge": ""}, []):
        assert challenged("monday", get("", "POST", orjson.dumps(other))) is None


def test_x_gets_the_hmac_of_its_token() -> None:
    found = challenged("x", get("crc_token=ODc3YjU0MjgtZTk0Ni00ZGVk&nonce=1"), "", SECRET)
    assert found
    digest = hmac.new(SECRET.encode(), b"ODc3YjU0MjgtZTk0Ni00ZGVk", hashlib.sha256).digest()
    proof = "sha256=" + base64.b64encode(digest).decode()
    assert orjson.loads(found.body) == {"response_token": proof}
    assert challenged("x", get("crc_token=ODc3"), "") is None


@pytest.mark.parametrize("text", ['{"tweet_create_events":[]}', "[1]", '"a"', "", "a b", "x" * 300])
def test_nobody_gets_x_to_sign_what_could_be_an_event(text: str) -> None:
    query = "crc_token=" + "".join(f"%{byte:02x}" for byte in text.encode())
    assert challenged("x", get(query)) is None


def test_what_x_was_made_to_sign_is_no_event() -> None:
    # a stranger asks for the answer to a token, and sends the token as a body
    found = challenged("x", get("crc_token=12345"))
    assert found
    proof = orjson.loads(found.body)["response_token"]
    with pytest.raises(SignatureError, match="no JSON object"):
        verify("x", {"x-twitter-webhooks-signature": proof}, b"12345", (SECRET,))


def test_twitch_gets_its_challenge_once_it_is_verified() -> None:
    body = {
        "challenge": "pogchamp-kappa-360noscope-vohiyo",
        "subscription": {"status": "webhook_callback_verification_pending", "type": "a.b"},
    }
    assert shaken("twitch", body) == Answer(200, body["challenge"].encode(), "text/plain")  # type: ignore[attr-defined]
    enabled = {**body, "subscription": {"status": "enabled"}}
    assert shaken("twitch", enabled) is None


# Pings, and what is answered


def test_ping_of_intercom_is_no_event() -> None:
    assert shaken("intercom", {"type": "notification_event", "topic": "ping"})
    assert shaken("intercom", {"topic": "user.created"}) is None


def test_pings_of_discord_are_answered_as_each_wants_it() -> None:
    assert shaken("discord", {"type": 1, "id": "1"}) == Answer(200, b'{"type":1}', JSON)
    assert shaken("discord", {"type": 0, "version": 1}) == Answer(204, b"", "text/plain")
    assert shaken("discord", {"type": 1, "event": {"type": "ENTITLEMENT_CREATE"}}) is None
    assert shaken("discord", {"type": True}) is None
    choices = shaken("discord", {"type": 4, "data": {"name": "a"}})
    assert choices
    assert orjson.loads(choices.body)["type"] == 8


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"type": 1, "event": {"type": "ENTITLEMENT_CREATE"}}, 204, None),
        ({"type": 2, "data": {"name": "deploy"}}, 200, 4),
        ({"type": 3, "data": {}, "message": {"id": "1"}}, 200, 6),
        ({"type": 5, "data": {}, "message": {"id": "1"}}, 200, 6),
        ({"type": 5, "data": {}}, 200, 4),
    ],
)
def test_discord_is_answered_so_that_nobody_sees_a_failure(
    body: dict[str, Any], status: int, kind: int | None
) -> None:
    answer = answered("discord", body)
    assert answer.status == status
    assert (orjson.loads(answer.body)["type"] if answer.body else None) == kind


@pytest.mark.parametrize(
    "name", ["intercom", "meta", "monday", "notion", "trello", "whatsapp", "x"]
)
def test_who_asks_for_200_gets_it(name: str) -> None:
    answer = answered(name, {})
    assert (answer.status, answer.body) == (200, ACCEPTED.body)


def test_teams_gets_a_message_in_time() -> None:
    assert orjson.loads(answered("teams", {}).body)["type"] == "message"


# What is verified otherwise than by a header of its own


def test_a_board_of_monday_may_have_its_secret_in_the_url() -> None:
    url = "https://hooks.example.com/hooks/t?token=a%20secret"
    verify("monday", {}, b"{}", (SECRET,), url=url)
    with pytest.raises(SignatureError, match="does not match"):
        verify("monday", {}, b"{}", ("other",), url=url)
    with pytest.raises(SignatureError, match="Authorization is missing"):
        verify("monday", {}, b"{}", (SECRET,))
    # who sends a token is held to it
    with pytest.raises(SignatureError, match="JSON Web Token"):
        verify("monday", {"Authorization": "a.b.c"}, b"{}", (SECRET,), url=url)


def test_token_of_monday_is_valid_for_as_long_as_it_is_sent_again() -> None:
    headers = signed("monday", b"{}", secret=SECRET)
    verify("monday", headers, b"{}", (SECRET,), now=NOW + 1800)
    with pytest.raises(SignatureError, match="iat of the token"):
        verify("monday", headers, b"{}", (SECRET,), now=NOW + 2200)


def test_every_notification_of_graph_has_to_carry_the_secret() -> None:
    good, bad, none = ({"clientState": SECRET}, {"clientState": "guess"}, {"changeType": "a"})
    for name in ("graph", "sharepoint"):
        verify(name, {}, orjson.dumps({"value": [good, good]}), (SECRET,))
        for value, why in (
            ([good, bad], "does not match"),
            ([none], "no clientState"),
            ([], "no value"),
            ({"0": good}, "no value"),
        ):
            with pytest.raises(SignatureError, match=why):
                verify(name, {}, orjson.dumps({"value": value}), (SECRET,))


def test_trello_signs_the_url_that_it_was_given() -> None:
    # https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/#webhook-signatures
    body = b'{"action":{"type":"updateCard"}}'
    digest = hmac.new(SECRET.encode(), body + URL.encode(), hashlib.sha1).digest()
    headers = {"X-Trello-Webhook": base64.b64encode(digest).decode()}
    verify("trello", headers, body, (SECRET,))
    with pytest.raises(SignatureError, match="HOOKSTREAM_PUBLIC_URL"):
        verify("trello", headers, body, (SECRET,), url=URL + "x")


def test_hubspot_signs_as_its_own_library_does() -> None:
    # hubspot-api-client 12: hubspot/utils/signature.py, version v3
    body, url = b'[{"eventId":1}]', "https://hooks.example.com/hooks/t"
    time = str(int(NOW * 1000))
    text = f"POST{url}{body.decode()}{time}"
    digest = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest()
    headers = {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": time,
    }
    verify("hubspot", headers, body, (SECRET,), url=url)


def test_twitch_takes_times_to_the_nanosecond() -> None:
    body, time = b'{"subscription":{}}', "2023-11-14T22:13:20.634234626Z"
    digest = hmac.new(SECRET.encode(), b"id-1" + time.encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Twitch-Eventsub-Message-Id": "id-1",
        "Twitch-Eventsub-Message-Timestamp": time,
        "Twitch-Eventsub-Message-Signature": f"sha256={digest}",
    }
    verify("twitch", headers, body, (SECRET,))
    with pytest.raises(SignatureError, match="does not match"):
        verify("twitch", {**headers, "Twitch-Eventsub-Message-Id": "id-2"}, body, (SECRET,))
