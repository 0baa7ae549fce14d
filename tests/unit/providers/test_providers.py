"""The providers' table: what events are called, what identifies a delivery, what is kept."""

import json
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from hookstream.app.errors import BadRequestError
from hookstream.app.ingest.events import incoming
from hookstream.app.providers import ALIASES, PROVIDERS, Answer, check_secrets, provider
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from tests.support.fixtures import github_examples
from tests.support.senders import FORM, VERIFYING, request, signed

DEFAULT = SignatureOptions()
#: Providers whose body has to be JSON; notification channels of Google have none.
NOT_JSON = ("twilio", "generic", "bearer", "basic", "none", "googlechannel")
JSON_ONLY = [name for name in PROVIDERS if name not in NOT_JSON]
HOSTILE = [
    b"",
    b"\0",
    b"{",
    b"\xff\xfe",
    b"NaN",
    b'"\\ud800"',
    b'{"a": "\xed\xa0\x80"}',
]
#: Not parsed: data like any other.
DEEP = [
    b"1e999",
    b"9" * 5000,
    b"[" * 100_000,
    b"[" * 300 + b"]" * 300,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
]


def named(name: str, body: Any, headers: dict[str, str] | None = None, **options: Any) -> str:
    """The type of an event with this payload."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return PROVIDERS[name].event_type(request(headers or {}, data), SignatureOptions(**options))


def delivery(name: str, body: Any, headers: dict[str, str] | None = None, **options: Any) -> str:
    """The delivery id of an event with this payload."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return PROVIDERS[name].delivery_id(request(headers or {}, data), SignatureOptions(**options))


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


@pytest.mark.parametrize(
    ("name", "headers", "body", "expected"),
    [
        ("github", {"X-GitHub-Event": "push"}, {"ref": "r"}, "push"),
        ("github", {"X-GitHub-Event": "issues"}, {"action": "closed"}, "issues.closed"),
        ("github", {"X-GitHub-Event": "push"}, {"action": {"not": "text"}}, "push"),
        ("github", {"X-GitHub-Event": "push"}, [], "push"),
        ("github", {}, {"action": "opened"}, "unknown"),
        (
            "github",
            {"X-GitHub-Event": "pull_request"} | FORM,
            form(payload='{"action": "opened"}'),
            "pull_request.opened",
        ),
        (
            "gitlab",
            {"X-Gitlab-Event": "Merge Request Hook"},
            {"object_kind": "merge_request", "object_attributes": {"action": "open"}},
            "merge_request.open",
        ),
        ("gitlab", {"X-Gitlab-Event": "Push Hook"}, {"object_kind": "push"}, "push"),
        ("gitlab", {}, {"object_kind": "release", "action": "create"}, "release.create"),
        ("gitlab", {}, {"event_name": "user_add_to_group"}, "user_add_to_group"),
        ("gitlab", {"X-Gitlab-Event": "Tag Push Hook"}, {}, "tag_push"),
        ("bitbucket", {"X-Event-Key": "pullrequest:created"}, {}, "pullrequest.created"),
        ("bitbucket", {"X-Event-Key": "pr:comment:added"}, {}, "pr.comment.added"),
        ("stripe", {}, {"type": "invoice.paid"}, "invoice.paid"),
        ("shopify", {"X-Shopify-Topic": "orders/create"}, {}, "orders.create"),
        ("jira", {}, {"webhookEvent": "jira:issue_updated"}, "issue_updated"),
        ("jira", {}, {"webhookEvent": "comment_created"}, "comment_created"),
        (
            "pagerduty",
            {},
            {"event": {"event_type": "incident.triggered"}},
            "incident.triggered",
        ),
        ("sentry", {"Sentry-Hook-Resource": "issue"}, {"action": "created"}, "issue.created"),
        ("linear", {}, {"type": "Issue", "action": "create"}, "Issue.create"),
        ("datadog", {}, {"event_type": "query_alert_monitor"}, "query_alert_monitor"),
        (
            "datadog",
            {},
            {"event_type": "query_alert_monitor", "alert_transition": "No Data"},
            "query_alert_monitor.no_data",
        ),
        ("twilio", FORM, form(MessageStatus="sent", SmsStatus="sent"), "message.sent"),
        ("twilio", FORM, form(SmsStatus="received", Body="hi"), "message.received"),
        ("twilio", FORM, form(CallSid="CA", CallStatus="completed"), "call.completed"),
        (
            "twilio",
            FORM,
            form(RecordingSid="RE", RecordingStatus="completed", CallStatus="in-progress"),
            "recording.completed",
        ),
        (
            "twilio",
            FORM,
            form(ConferenceSid="CF", StatusCallbackEvent="conference-start"),
            "conference.conference-start",
        ),
        ("twilio", FORM, form(Other="1"), "unknown"),
        (
            "twilio",
            {},
            {"type": "com.twilio.error-logs.error.logged"},
            "com.twilio.error-logs.error.logged",
        ),
        ("sendgrid", {}, {"event": "open"}, "open"),
        ("sendgrid", {}, [], "unknown"),
        ("standard", {}, {"type": "user.created"}, "user.created"),
        ("none", {}, {"type": "user.created"}, "unknown"),
    ],
)
def test_event_is_named_by_its_provider_s_rule(
    name: str, headers: dict[str, str], body: Any, expected: str
) -> None:
    assert named(name, body, headers) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "message", "channel_type": "channel"}, "message.channels"),
        ({"type": "message", "channel_type": "group"}, "message.groups"),
        ({"type": "message", "channel_type": "im"}, "message.im"),
        ({"type": "message", "channel_type": "mpim"}, "message.mpim"),
        ({"type": "message"}, "message"),
        ({"type": "app_mention", "channel_type": "channel"}, "app_mention"),
        ({}, "unknown"),
    ],
)
def test_slack_event_is_named_as_slack_s_subscriptions_are(
    event: dict[str, str], expected: str
) -> None:
    body = {"type": "event_callback", "event_id": "Ev1", "event": event}
    assert named("slack", body) == expected
    assert delivery("slack", body) == "Ev1"


def test_slack_commands_and_interactions_are_forms() -> None:
    command = form(command="/deploy", text="prod", trigger_id="13.37")
    assert named("slack", command, FORM) == "command.deploy"
    assert delivery("slack", command, FORM) == "13.37"
    action = form(payload=json.dumps({"type": "block_actions", "trigger_id": "1.2"}))
    assert named("slack", action, FORM) == "block_actions"
    assert delivery("slack", action, FORM) == "1.2"


def test_slack_challenge_is_answered_and_nothing_else_is() -> None:
    handshake = PROVIDERS["slack"].handshake
    assert handshake

    def answer(hook: WebhookRequest) -> Answer | None:
        return handshake(hook, ("a secret",), SignatureOptions())

    challenge = answer(request({}, b'{"type": "url_verification", "challenge": "3eZbrw1a"}'))
    assert challenge
    assert (challenge.status, challenge.body, challenge.content_type) == (
        200,
        b"3eZbrw1a",
        "text/plain",
    )
    for body in (b'{"type": "event_callback", "challenge": "a"}', b"[]", b'{"challenge": 1}'):
        assert answer(request({}, body)) is None
    assert answer(request(FORM, b"type=url_verification&challenge=a")) is None
    for text in ("a" * 2000, "<\u00e9>", "a\nb"):
        with pytest.raises(BadRequestError):
            answer(
                request({}, json.dumps({"type": "url_verification", "challenge": text}).encode())
            )


def test_every_github_example_gets_its_type() -> None:
    for example in github_examples():
        headers = {"X-GitHub-Event": example.event}
        assert named("github", example.body, headers) == example.type


@pytest.mark.parametrize(
    ("name", "headers", "body", "expected"),
    [
        ("github", {"X-GitHub-Delivery": "d-1"}, {}, "d-1"),
        ("gitlab", {"Idempotency-Key": "k", "X-Gitlab-Event-UUID": "u"}, {}, "k"),
        ("gitlab", {"webhook-id": "w", "Idempotency-Key": "k"}, {}, "w"),
        ("gitlab", {"X-Gitlab-Event-UUID": "u"}, {}, ""),
        ("bitbucket", {"X-Request-UUID": "r"}, {}, "r"),
        ("bitbucket", {"X-Request-Id": "server"}, {}, "server"),
        ("stripe", {}, {"id": "evt_1"}, "evt_1"),
        ("stripe", {}, {"id": None}, ""),
        ("shopify", {"X-Shopify-Webhook-Id": "w"}, {}, "w"),
        ("jira", {"X-Atlassian-Webhook-Identifier": "a"}, {}, "a"),
        ("pagerduty", {}, {"event": {"id": "01E"}}, "01E"),
        ("sentry", {"Request-ID": "r"}, {}, "r"),
        ("linear", {"Linear-Delivery": "l"}, {}, "l"),
        ("datadog", {}, {"id": 7234}, "7234"),
        ("datadog", {}, {"id": True}, ""),
        ("twilio", {"I-Twilio-Idempotency-Token": "t"}, {}, "t"),
        ("sendgrid", {}, {"sg_event_id": "s"}, "s"),
        ("sendgrid", {}, [], ""),
        ("standard", {"webhook-id": "msg_1"}, {}, "msg_1"),
        ("standard", {"svix-id": "msg_2", "svix-signature": "x", "webhook-id": "x"}, {}, "msg_2"),
        ("none", {"X-Id": "1"}, {}, ""),
        ("github", {"X-GitHub-Delivery": "d" * 300}, {}, ""),
        ("github", {"X-GitHub-Delivery": "a\0b"}, {}, ""),
    ],
)
def test_delivery_id_is_found_where_the_provider_sends_it(
    name: str, headers: dict[str, str], body: Any, expected: str
) -> None:
    assert delivery(name, body, headers) == expected


@pytest.mark.parametrize("name", ["generic", "bearer", "basic", "none"])
def test_type_and_delivery_are_read_where_the_options_say(name: str) -> None:
    body = {"meta": {"kind": "a.b", "ids": [7, "x"]}}
    assert named(name, body, type_field="meta.kind") == "a.b"
    assert named(name, body, {"X-Type": "c"}, type_field="meta.kind", type_header="X-Type") == "c"
    assert named(name, body, type_field="meta.none") == "unknown"
    assert named(name, b"<xml/>", type_field="meta.kind") == "unknown"
    assert delivery(name, body, delivery_field="meta.ids.0") == "7"
    assert delivery(name, body, delivery_field="meta.ids.9") == ""
    assert delivery(name, body, {"X-Id": "i"}, delivery_header="X-Id") == "i"
    assert delivery(name, b"<xml/>", delivery_field="id") == ""
    headers = signed(
        name,
        b"{}",
        event_type="t",
        options=SignatureOptions(type_header="X-Type", delivery_header="X-Id"),
    )
    assert (headers["X-Type"], headers["X-Id"]) == ("t", "msg_1")


@pytest.mark.parametrize("text", ["a" * 201, "a\nb", "a\0b", " a", "a\u2028b", "", "\udcff"])
def test_name_that_cannot_be_shown_becomes_unknown(text: str) -> None:
    assert named("github", {}, {"X-GitHub-Event": text}) == "unknown"
    assert named("github", {"action": "opened"}, {"X-GitHub-Event": text}) == "unknown"


def test_name_that_is_too_long_in_all_becomes_unknown() -> None:
    assert named("github", {"action": "b" * 150}, {"X-GitHub-Event": "a" * 150}) == "unknown"


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: f"{body[:8]!r}{len(body)}")
def test_hostile_body_is_an_event_of_unknown_kind(body: bytes) -> None:
    for name in JSON_ONLY:
        # Telegram's events have no other name than their one field's
        assert named(name, body) in ("unknown", "batch", "a")
    for name in ("generic", "bearer", "basic", "none"):
        # characters that are none are read as such
        assert named(name, body, type_field="a") in ("unknown", "\ufffd" * 3)
        assert delivery(name, body, delivery_field="a") in ("", "\ufffd" * 3)


@pytest.mark.parametrize("body", DEEP, ids=lambda body: f"{body[:8]!r}{len(body)}")
def test_body_that_is_not_parsed_is_an_event_of_unknown_kind(body: bytes) -> None:
    for name in JSON_ONLY:
        assert isinstance(named(name, body), str)
    for name in ("generic", "bearer", "basic", "none"):
        assert named(name, body, type_field="a") == "unknown"
        assert delivery(name, body, delivery_field="a") == ""


@pytest.mark.parametrize(
    "body", [b"payload=\xff", b"payload=%ff", b"payload=%7b", b"", b"a=1&" * 2000, b"\xff"]
)
def test_hostile_form_is_named_by_its_header_where_there_is_one(body: bytes) -> None:
    assert named("github", body, FORM | {"X-GitHub-Event": "push"}) == "push"
    assert named("slack", body, FORM) == "unknown"


def test_of_a_name_that_stands_twice_the_last_counts() -> None:
    body = b'{"action": "opened", "a": {"b": 1}, "action": "closed"}'
    assert named("github", body, {"X-GitHub-Event": "issues"}) == "issues.closed"


def test_json_is_parsed_once() -> None:
    hook = request({}, b'{"a": 1}')
    assert hook.json() is hook.json()


def test_decoded_body_is_what_is_read_and_raw_body_what_is_verified() -> None:
    hook = WebhookRequest("POST", "", {}, b"\x1f\x8b", b'{"type": "a"}')
    assert PROVIDERS["standard"].event_type(hook, DEFAULT) == "a"


# The table


def test_same_github_payload_is_a_duplicate_whatever_its_delivery_id() -> None:
    assert PROVIDERS["github"].dedup_strategy == "payload"
    assert PROVIDERS["github"].dedup_window_seconds == 86400


def test_stripe_window_outlasts_its_three_days_of_repetitions() -> None:
    assert PROVIDERS["stripe"].dedup_strategy == "delivery"
    assert PROVIDERS["stripe"].dedup_window_seconds >= 72 * 3600


def test_window_outlasts_the_time_in_which_a_signature_can_be_sent_again() -> None:
    assert PROVIDERS["sendgrid"].dedup_window_seconds > 2 * 25 * 3600


def test_twilio_s_lists_are_event_streams_and_its_forms_are_none() -> None:
    row, options = PROVIDERS["twilio"], SignatureOptions()
    one = b'{"specversion": "1.0", "type": "com.twilio.messaging.message.sent", "id": "EZ%d"}'
    token = {"I-Twilio-Idempotency-Token": "t"}
    body = b"[" + one % 1 + b", " + one % 2 + b"]"
    parts = incoming(request(token | {"Content-Type": "application/json"}, body), row, 10).requests
    assert [row.delivery_id(part, options) for part in parts] == ["EZ1", "EZ2"]
    assert {row.event_type(part, options) for part in parts} == {
        "com.twilio.messaging.message.sent"
    }
    hook = request(token | FORM, b"[]=1")
    assert incoming(hook, row, 10).requests == [hook]
    assert row.delivery_id(hook, options) == "t"


def test_unknown_provider_names_those_that_are_nearly_called_so() -> None:
    with pytest.raises(BadRequestError, match=r"'githup': did you mean github") as caught:
        provider("githup")
    assert len(str(caught.value)) < 400
    with pytest.raises(BadRequestError):
        provider("x" * 5000)


def test_aliases_are_providers() -> None:
    assert provider("svix") is PROVIDERS["standard"]
    assert all(target in PROVIDERS and name not in PROVIDERS for name, target in ALIASES.items())


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("gitlab", "whsec_!"),
        ("standard", "whsec_a"),
        ("standard", "not base64!"),
        ("sendgrid", "AAAA"),
        ("sendgrid", "é"),
        ("sendgrid", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
        ("basic", "ada"),
        ("basic", ":a"),
        ("basic", "ada:"),
    ],
)
def test_malformed_secret_is_refused_without_being_repeated(name: str, secret: str) -> None:
    with pytest.raises(BadRequestError, match="number 2") as caught:
        check_secrets(PROVIDERS[name], [VERIFYING.get(name, "a secret"), secret])
    assert len(secret.strip()) < 4 or secret not in str(caught.value)


def test_standard_webhooks_secret_needs_something_after_its_prefix() -> None:
    with pytest.raises(BadRequestError):
        check_secrets(PROVIDERS["standard"], ["whsec_"])


def test_what_send_signs_names_the_event_that_was_asked_for() -> None:
    for name, given_type, expected in (
        ("github", "issues.opened", "issues"),
        ("bitbucket", "pullrequest.created", "pullrequest.created"),
        ("bitbucket", "repo:push", "repo.push"),
        ("shopify", "orders/paid", "orders.paid"),
        ("sentry", "issue", "issue"),
    ):
        headers = signed(name, b"{}", event_type=given_type)
        assert named(name, b"{}", headers) == expected


def test_a_cloud_event_in_headers_is_the_same_as_in_a_body() -> None:
    row = PROVIDERS["cloudevents"]
    said = {"ce-type": "caf%C3%A9.%22open%22", "ce-source": '"/a b%25"', "ce-id": "1%2"}
    binary = request({**said, "Content-Type": "text/plain"}, b"x")
    body = {"specversion": "1.0", "type": 'café."open"', "source": "/a b%", "id": "1%2"}
    structured = request({"Content-Type": "application/cloudevents+json"}, orjson.dumps(body))
    for of in (row.event_type, row.delivery_id):
        assert of(binary, SignatureOptions()) == of(structured, SignatureOptions()) != ""
