"""Types that nobody signs: what a body says about them, and what makes two webhooks one event."""

from typing import Any

import orjson
import pytest

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.json_body import look_into
from hookstream.app.providers.shapes import Shapes
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import custom_message_id
from hookstream.app.web.receive import make_event
from hookstream.codecs.envelope import Event
from tests.support.senders import FORM, NOW, URL, request, signed, verify

SHAPES = Shapes(
    {
        "pull": "pull !review",
        "review": "pull review",
        "merged": "pull state~merged|done",
        "star": "starred at.time",
        "bare": "place sender .",
        "named": "place sender pull? name~a* .",
    },
    own_name="{}",
    everywhere="place sender",
)


@pytest.mark.parametrize(
    ("claimed", "payload", "believed"),
    [
        ("pull", {"pull": None}, True),
        ("pull", {"pull": {}, "review": None}, False),
        ("review", {"pull": {}, "review": {}}, True),
        ("review", {"pull": {}}, False),
        ("merged", {"pull": {}, "state": "done"}, True),
        ("merged", {"pull": {}}, True),
        ("merged", {"pull": {}, "state": "open"}, False),
        ("star", {"starred": 1, "at": {"time": 0}}, True),
        ("star", {"starred": 1, "at": {}, "pull": {}}, False),
        ("bare", {"place": 1, "sender": 1, "new": 1}, True),
        ("bare", {"place": 1, "sender": 1, "pull": {}}, False),
        ("named", {"place": 1, "sender": 1, "pull": 1, "name": "abc"}, True),
        ("named", {"place": 1, "sender": 1, "name": None}, False),
        # new to us: with an object of its name, or with nothing that is known
        ("issues", {"issue": {}, "pull": {}}, True),
        ("nobody", {"pull": {}}, False),
        ("nobody", {"x": 2}, True),
        # a kind and its action are put together here, and come from nobody
        ("pull.closed", {"x": 1}, False),
        # nothing speaks against it
        ("pull", {"x": 1}, True),
        ("pull", [1], True),
        ("", {}, True),
        ("a\nb", {}, False),
        ("\udcff", {"a": 1}, False),
    ],
)
def test_type_is_believed_unless_its_body_is_of_another(
    claimed: str, payload: Any, believed: bool
) -> None:
    body = orjson.dumps(payload)
    found = {SHAPES.checked(claimed, seen, body) for seen in (payload, look_into(body))}
    assert found == {claimed if believed else f"unverified.{claimed}"}


def test_body_that_is_not_parsed_is_looked_through() -> None:
    body = b'{"pull": {"x": ' + b"[" * 5000
    assert SHAPES.checked("pull", None, body) == "pull"
    assert SHAPES.checked("star", None, body) == "unverified.star"
    assert SHAPES.checked("nobody", None, body) == "unverified.nobody"
    assert SHAPES.checked("star", None, b"[" * 5000) == "star"


def event_of(
    name: str,
    body: bytes,
    headers: dict[str, str],
    *,
    strategy: str = "payload",
    fields: tuple[str, ...] = (),
    options: SignatureOptions | None = None,
    url: str = URL,
) -> Event:
    row = PROVIDERS[name]
    tool = Tool(
        *("t", "default", name, (), options or SignatureOptions(), strategy, fields),
        *(60_000, "tool", ""),
    )
    event, _ = make_event(
        request(headers, body, url),
        row,
        tool,
        partitions=4,
        registry_version=1,
        now_ms=1,
        random_bits=1,
        functions={},
    )
    return event


PULL = b'{"action":"opened","pull_request":{"id":7},"repository":{"full_name":"o/r"}}'
TYPES = ("pull_request", "issues", "security_advisory.x0", "security_advisory", "deployment_status")


def test_a_captured_webhook_has_one_type() -> None:
    events = [event_of("github", PULL, {"X-GitHub-Event": name}) for name in TYPES]
    assert [event.type for event in events] == [
        "pull_request.opened",
        *(f"unverified.{name}.opened" for name in TYPES[1:]),
    ]
    genuine, *others = (event.message_id for event in events)
    assert genuine.startswith("t::")
    assert set(others) == {genuine.replace("::", ":unverified:")}


def test_fields_and_functions_keep_types_apart() -> None:
    closed = PULL.replace(b"opened", b"closed")
    for more in ({"strategy": "fields", "fields": ("pull_request.id",)}, {"strategy": "custom"}):
        found = [
            event_of("github", body, {"X-GitHub-Event": name}, **more)
            for body, name in ((PULL, TYPES[0]), (closed, TYPES[0]), *((PULL, t) for t in TYPES))
        ]
        ids = [
            custom_message_id({"f": lambda event: "7"}, "f", event)
            if more["strategy"] == "custom"
            else event.message_id
            for event in found
        ]
        assert len({ids[0], ids[1], ids[3]}) == 3
        assert ids[2] == ids[0]
        assert len(set(ids[3:])) == 1


def test_an_order_that_is_sent_to_several_topics_is_several_events() -> None:
    order = b'{"id":1,"admin_graphql_api_id":"gid://shopify/Order/1","financial_status":"paid"}'
    topics = (
        "orders/create",
        "orders/updated",
        "orders/paid",
        "orders/cancelled",
        "products/update",
    )
    events = [event_of("shopify", order, {"X-Shopify-Topic": topic}) for topic in topics]
    again = event_of("shopify", order, {"X-Shopify-Topic": "orders/paid"})
    assert [event.type for event in events[:3]] == [
        "orders.create",
        "orders.updated",
        "orders.paid",
    ]
    assert len({event.message_id for event in events[:3]}) == 3
    assert again.message_id == events[2].message_id
    pending = order.replace(b'"paid"', b'"pending"')
    for body, topic in ((pending, "orders/paid"), (order, "products/update"), (order, "orders/x")):
        assert event_of("shopify", body, {"X-Shopify-Topic": topic}).type.startswith("unverified.")
    # a subscription may leave out any field
    bare = event_of("shopify", b'{"id":1}', {"X-Shopify-Topic": "orders/paid"})
    assert bare.type == "orders.paid"


def test_data_center_says_the_type_in_the_body() -> None:
    body = b'{"eventKey":"pr:merged","pullRequest":{}}'
    assert event_of("bitbucket", body, {"X-Event-Key": "pr:opened"}).type == "pr.merged"


def test_a_form_of_twilio_is_one_event_however_it_is_written() -> None:
    bodies = (
        b"MessageSid=SM1&Body=a%20b",
        b"Body=a+b&MessageSid=SM1",
        b"Body=a+b&Body=a+b&MessageSid=SM1",
    )
    headers = {**signed("twilio", bodies[0]), **FORM}
    found = set()
    for number, body in enumerate(bodies):
        for url in (URL, URL.replace("example.com", "example.com:443")):
            again = {**headers, "I-Twilio-Idempotency-Token": str(number)}
            verify("twilio", again, body, url=url)
            found.add(event_of("twilio", body, again, url=url).message_id)
    assert len(found) == 1
    for body, url in ((bodies[0] + b"&x=1", URL), (bodies[0], URL + "&step=2")):
        found.add(event_of("twilio", body, headers, url=url).message_id)
    assert len(found) == 3


def test_what_linear_sends_again_is_one_event() -> None:
    def sent(at: float, text: str) -> str:
        body = orjson.dumps({"type": "Issue", "data": {"t": text}, "webhookTimestamp": int(at)})
        return event_of("linear", body, {"Linear-Delivery": str(at)}).message_id

    text = '"webhookTimestamp":1'
    assert sent(NOW, text) == sent(NOW + 60_000, text)
    assert sent(NOW, text) != sent(NOW, '"webhookTimestamp":2')


def test_type_header_of_a_generic_sender_is_no_part_of_a_copy() -> None:
    options = SignatureOptions(type_header="X-Type", delivery_header="X-Id", delivery_field="id")
    found = {
        event_of("generic", b'{"id":1}', {"X-Type": name}, options=options).message_id
        for name in ("a", "b")
    }
    assert len(found) == 1
    options = SignatureOptions(type_field="type")
    bodies = (b'{"type":"a","id":1}', b'{"type":"b","id":1}')
    for strategy, fields in (("payload", ()), ("fields", ("id",))):
        found = {
            event_of(
                "generic", body, {}, options=options, strategy=strategy, fields=fields
            ).message_id
            for body in bodies
        }
        assert len(found) == 2
