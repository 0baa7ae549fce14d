"""JSON that is a text in a payload: who reads it sees it, and the payload stays as it was."""

import base64
import json
from typing import Any

import orjson
import pytest

from hookstream.app.ids import partition_of
from hookstream.app.providers import PROVIDERS, correlation_keys
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import ordering_key
from hookstream.app.routing.matching import compile_condition, facts
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.testing import make_event
from hookstream.app.web.receive import make_event as receive
from hookstream.codecs.envelope import Event
from hookstream.codecs.inner import unfolded
from hookstream.codecs.json_payload import WrittenNumber
from hookstream.codecs.readable import read_payload

LONG = 2**70 + 1


def sns(message: Any) -> bytes:
    text = message if isinstance(message, str) else json.dumps(message)
    return orjson.dumps({"TopicArn": "arn:t", "MessageId": "1", "Message": text, "Subject": "S"})


def pubsub(data: bytes | str) -> bytes:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    return orjson.dumps({"subscription": "s", "message": {"data": text, "messageId": "1"}})


def token(claims: bytes, head: bytes = b'{"alg":"RS256"}', padding: bytes = b"") -> bytes:
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=") + padding for part in (head, claims))
    return b".".join((*parts, b"c2ln"))


@pytest.mark.parametrize("value", [{"a": [1, {"b": "größer 😊"}]}, [1, 2], {}, [], {"n": LONG}])
def test_a_message_that_is_json_is_read(value: Any) -> None:
    found = read_payload(sns(value), "text/plain; charset=UTF-8")
    assert found == {"TopicArn": "arn:t", "MessageId": "1", "Message": value, "Subject": "S"}
    data = json.dumps(value).encode()
    assert read_payload(pubsub(data), "application/json")["message"] == {
        "data": value,
        "messageId": "1",
    }


@pytest.mark.parametrize(
    "text",
    ["Hello", "", "12", '"a"', "null", "{", "[1", "{'a': 1}", "{} {}", '{"a": NaN}', "[" * 300],
)
def test_what_is_no_json_object_or_list_stays_a_text(text: str) -> None:
    assert read_payload(sns(text), "")["Message"] == text
    assert read_payload(pubsub(text.encode()), "")["message"]["data"] == text


@pytest.mark.parametrize("data", ["%%%", "aGk", "aGk=\n", base64.b64encode(b"\xff\xfe").decode()])
def test_what_is_no_text_in_base64_stays_as_it_came(data: str) -> None:
    assert read_payload(pubsub(data), "")["message"]["data"] == data


@pytest.mark.parametrize(
    "value",
    [
        {"Message": '{"a":1}'},
        {"TopicArn": "t", "Message": '{"a":1}'},
        {"message": {"data": "e30="}},
        {"subscription": "s", "message": "e30="},
        {"subscription": "s"},
        {"TopicArn": "t", "MessageId": "1"},
        {"TopicArn": "t", "MessageId": "1", "Message": None},
        {"data": '{"a":1}'},
        {"iat": 1, "data": ["{}"]},
        ['{"a":1}'],
    ],
)
def test_what_is_no_such_envelope_stays_as_it_is(value: Any) -> None:
    assert read_payload(orjson.dumps(value), "") == value


def test_what_is_too_much_stays_a_text() -> None:
    deepest = "[" * 240 + "]" * 240
    for body in (sns(deepest), pubsub(deepest.encode())):
        found = read_payload(body, "")
        assert deepest.encode() in orjson.dumps([[[[found]]]])
    deeper = f"[{deepest}]"
    assert read_payload(sns(deeper), "")["Message"] == deeper
    many = "[" + "1," * 100_001 + "1]"
    # too many elements: the payload as a whole is not parsed, or not this part of it
    found = read_payload(pubsub(many.encode()), "")
    assert found["message"]["data"] == many


def test_digits_stay_as_they_were_written_where_they_count() -> None:
    text = '{"TopicArn":"t","MessageId":"1","Message":"{\\"price\\":0.1000000000000000055}"}'
    exact = unfolded(json.loads(text), exact=True)["Message"]["price"]
    assert isinstance(exact, WrittenNumber)
    assert str(exact) == "0.1000000000000000055"
    assert type(unfolded(json.loads(text))["Message"]["price"]) is float


def test_a_token_is_what_it_says() -> None:
    inner = {"data": json.dumps({"id": "e1"}), "identity": '{"type":"WIX_USER"}', "eventType": "x"}
    claims = orjson.dumps({"iat": 1, "exp": 2, "data": json.dumps(inner)})
    told = {"data": {"id": "e1"}, "identity": {"type": "WIX_USER"}, "eventType": "x"}
    for body in (token(claims), token(claims) + b"\n", claims):
        assert read_payload(body, "text/plain") == {"iat": 1, "exp": 2, "data": told}
    assert read_payload(token(b'{"sub":"a"}'), "application/jwt") == {"sub": "a"}


@pytest.mark.parametrize(
    "body",
    [
        *(
            token(b"[1]"),
            token(b"nonsense"),
            token(b"\xff"),
            token(b"[" * 500),
            b"eyJ.a",
            b"eyJ.a.b.c",
        ),
        *(b"eyJhIjox", b"eyJ\xff.a.b", token(b"{}", head=b"nonsense")),
    ],
)
def test_what_only_looks_like_a_token_is_read_as_nothing(body: bytes) -> None:
    assert read_payload(body, "text/plain") is None


def tool(kind: str, *, fields: tuple[str, ...] = (), order: str = "") -> Tool:
    by = ("fields" if fields else "payload", fields, 60_000, "field" if order else "tool", order)
    return Tool("t", "default", kind, (), SignatureOptions(), *by)


def received(kind: Tool, body: bytes, unique: int = 1) -> tuple[Event, int]:
    hook = WebhookRequest("POST", "", {"content-type": ("text/plain",)}, body, body)
    return receive(
        hook,
        PROVIDERS[kind.provider],
        kind,
        partitions=64,
        registry_version=1,
        now_ms=1_700_000_000_000,
        random_bits=unique,
        functions={},
    )


def test_fields_of_dedup_and_ordering_see_what_is_inside() -> None:
    wix = [
        token(orjson.dumps({"iat": at, "data": json.dumps({"data": json.dumps({"id": name})})}))
        for at, name in ((1, "a"), (2, "a"), (3, "b"))
    ]
    messages = [sns({"id": name, "at": at}) for at, name in ((1, "a"), (2, "a"), (3, "b"))]
    for kind, field, bodies in (
        ("sns", "Message.id", messages),
        ("wix", "data.data.id", wix),
    ):
        same, again, other = (
            received(tool(kind, fields=(field,)), body)[0].message_id for body in bodies
        )
        assert same == again != other
        by_field = tool(kind, order=field)
        places = {received(by_field, body, number)[1] for number, body in enumerate(bodies[:2])}
        assert len(places) == 1
        # the worker, which reads the event, finds the same
        event, place = received(by_field, bodies[0])
        assert place == partition_of(64, *ordering_key(by_field, "", event.data()))


def test_fractions_inside_count_with_their_digits() -> None:
    kind, one = tool("sns", fields=("Message.price",)), "0." + "1" * 30
    texts = ('{"price": ' + one + "}", '{"at": 2, "price": ' + one + "}", '{"price": ' + one + "2}")
    same, again, other = (received(kind, sns(text))[0].message_id for text in texts)
    assert same == again != other


def test_rules_templates_and_keys_see_what_is_inside() -> None:
    alarm = {
        "AlarmName": "cpu",
        "NewStateValue": "ALARM",
        "AlarmArn": "arn:a",
        "OldStateValue": "OK",
    }
    event = make_event(sns(alarm), provider="sns", type="Notification.alarm.alarm")
    condition = compile_condition('payload.Message.NewStateValue == "ALARM"')
    assert condition.holds(facts(event))
    assert correlation_keys(event) == ("sns:arn:a", "sns:arn:t")
    assert "cpu is ALARM, was OK" in Summariser().summarise(event).text
    assert event.payload == sns(alarm)
