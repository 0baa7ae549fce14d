"""A message of a queue is the webhook that it stands for, in either format."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.errors import BadRequestError
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.queues import Queue, SqsSource
from hookstream.app.sqs.client import Message
from hookstream.app.sqs.intake import message_bits
from hookstream.app.sqs.messages import unpack
from hookstream.codecs.json_items import members_of

QUEUE = Queue("https://sqs.eu-west-1.amazonaws.com/1/q")
OPTIONS = SignatureOptions()
PUSH = {"ref": "refs/heads/main", "before": "0", "after": "1", "commits": [], "sender": {}}


def message(body: str, **attributes: str) -> Message:
    return Message("m-1", "h-1", body, attributes=attributes)


def predecessor(**members: Any) -> Message:
    given = {"delivery_id": "d-1", "event_type": "push", "repo_name": "acme/app", **members}
    return message(json.dumps({"payload": PUSH, **given}))


def named(found: Any, provider: str) -> tuple[str, str]:
    row = found.row(PROVIDERS[provider])
    return row.event_type(found.hook, OPTIONS), row.delivery_id(found.hook, OPTIONS)


def test_a_raw_body_is_the_webhook_and_attributes_are_its_headers() -> None:
    body = ' {"id": 1.10, "name":"größer"} '
    found = unpack(message(body, Kind="order.paid", traceparent="00-ab"), SqsSource(QUEUE))
    assert found.hook.decoded == body.encode()
    assert found.hook.header("Kind") == "order.paid"
    assert found.hook.header("traceparent") == "00-ab"
    assert found.hook.header("content-type") == "application/json"


def test_attributes_become_the_headers_that_the_provider_s_rules_look_at() -> None:
    source = SqsSource(QUEUE, headers={"x-github-event": "kind", "x-github-delivery": "id"})
    found = unpack(message(json.dumps(PUSH), kind="push", id="d-1"), source)
    assert named(found, "github") == ("push", "d-1")


@pytest.mark.parametrize("odd", ["d\x07", "d" * 5000], ids=["control", "long"])
@pytest.mark.parametrize(
    ("provider", "source", "attribute"),
    [
        ("github", SqsSource(QUEUE, headers={"x-github-delivery": "id"}), "id"),
        ("github", SqsSource(QUEUE, "predecessor"), ""),
        ("none", SqsSource(QUEUE, "predecessor"), ""),
    ],
)
def test_a_delivery_id_that_cannot_be_kept_is_not_lost_without_a_word(
    provider: str, source: SqsSource, attribute: str, odd: str
) -> None:
    def check(delivery_id: str, **more: str) -> None:
        beside = {} if attribute else {"delivery_id": delivery_id}
        given = predecessor(**beside) if beside else message(json.dumps(PUSH))
        mine = {attribute: delivery_id} if attribute else {}
        found = unpack(replace(given, attributes={**mine, **more}), source)
        found.check(found.row(PROVIDERS[provider]), OPTIONS)

    with pytest.raises(BadRequestError, match="at most 256 printable characters"):
        check(odd)
    # what is no delivery id may be anything
    check("d-1", trace=odd)
    check("", trace=odd)


def test_a_mark_of_the_encoding_before_json_is_no_part_of_it() -> None:
    given = predecessor()
    found = unpack(replace(given, body="\ufeff" + given.body), SqsSource(QUEUE, "predecessor"))
    assert json.loads(found.hook.decoded) == PUSH


def test_what_is_packed_elsewhere_is_not_packed_in_its_queue() -> None:
    found = unpack(message("{}", **{"Content-Encoding": "gzip"}), SqsSource(QUEUE))
    assert "content-encoding" not in found.hook.headers


def test_the_predecessor_s_payload_keeps_every_character() -> None:
    payload = '{"id":12345678901234567890.10, "a":1,"a" : 2}'
    body = f'{{"delivery_id":"d","payload": {payload} ,"event_type":"push"}}'
    found = unpack(message(body), SqsSource(QUEUE, "predecessor"))
    assert found.hook.decoded == payload.encode()


def test_the_predecessor_s_event_and_delivery_are_github_s_headers() -> None:
    found = unpack(predecessor(), SqsSource(QUEUE, "predecessor"))
    assert named(found, "github") == ("push", "d-1")
    assert found.hook.header("x-github-event") == "push"


def test_the_predecessor_s_own_names_count_where_a_provider_has_none() -> None:
    found = unpack(predecessor(event_type="order.paid"), SqsSource(QUEUE, "predecessor"))
    assert named(found, "none") == ("order.paid", "d-1")


def test_what_stands_beside_the_payload_can_be_a_header() -> None:
    source = SqsSource(QUEUE, "predecessor", {"x-tenant": "auth_context.tenant_id"})
    found = unpack(predecessor(auth_context={"tenant_id": "acme"}), source)
    assert found.hook.header("x-tenant") == "acme"
    # the payload is its sender's: nothing of it becomes a header
    source = SqsSource(QUEUE, "predecessor", {"x-tenant": "payload.ref"})
    assert unpack(predecessor(), source).hook.header("x-tenant") == ""


def test_a_body_that_was_no_json_stands_in_the_predecessor_s_as_a_text() -> None:
    found = unpack(predecessor(payload="a=1&b=ü"), SqsSource(QUEUE, "predecessor"))
    assert found.hook.decoded == "a=1&b=ü".encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"payload": {}', "no JSON object"),
        ('{"payload": {}} {}', "no JSON object"),
        ('{"payload": {}, "n": 1' + "0" * 5000 + "}", "no JSON object"),
        ('{"event_type": "push"}', "no `payload`.*raw"),
        ('{"payload": ' + "[" * 100_000, "^the message is nested too deeply$"),
        ('{"payload": {}, "x": ' + "[" * 9_000 + "]" * 9_000 + "}", "nested too deeply"),
    ],
)
def test_what_is_not_the_predecessor_s_is_refused_with_what_to_do(body: str, said: str) -> None:
    with pytest.raises(BadRequestError, match=said):
        unpack(message(body), SqsSource(QUEUE, "predecessor"))


def test_a_message_that_comes_again_has_the_same_bits_and_another_one_others() -> None:
    one = message("{}")
    assert message_bits(QUEUE, one) == message_bits(QUEUE, message("{}"))
    assert message_bits(QUEUE, one) != message_bits(QUEUE, Message("m-2", "h", "{}"))
    other = Queue("https://sqs.eu-west-1.amazonaws.com/1/other")
    assert message_bits(QUEUE, one) != message_bits(other, one)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    st.dictionaries(st.text(), values),
    st.sampled_from([None, 1]),
    st.sampled_from([(",", ":"), (" , ", " : ")]),
)
def test_members_are_what_was_written(
    data: dict[str, Any], indent: int | None, separators: tuple[str, str]
) -> None:
    found = members_of(json.dumps(data, indent=indent, separators=separators))
    assert {name: json.loads(text) for name, text in found.items()} == data
    for name, text in found.items():
        assert text == json.dumps(data[name], indent=None, separators=separators) or indent
