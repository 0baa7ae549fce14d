"""What every provider promises: a new file in ``app/providers`` has to pass this as it is.

It needs a payload, ``examples/payloads/NAME-….json`` (or ``.form``), and ``make docs``. A secret
that is not any text goes to ``tests/support/senders.py``.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hookstream.app.providers
from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.ingest.events import incoming, make_events
from hookstream.app.ingest.plain_tool import PlainTool
from hookstream.app.privacy.rules import MASKED, Rules
from hookstream.app.providers import (
    PROVIDERS,
    Answer,
    Provider,
    check_secrets,
    correlation_keys,
    is_signed,
)
from hookstream.app.providers.plain import named_type
from hookstream.app.providers.provider import JSON, UNKNOWN
from hookstream.app.providers.shapes import is_unverified
from hookstream.app.providers.signatures.options import AnyAge, SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.summaries.facts import find_facts
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.summaries.templates import builtin_templates
from hookstream.app.testing import make_event
from hookstream.app.web.models.tools import DedupIn
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.json_items import Group, grouped, items_of
from hookstream.codecs.payload import Packing
from tests.support import ROOT
from tests.support.examples import examples
from tests.support.senders import FORM, NOW, OTHER, SIGNING, URL, VERIFYING, request

#: Those that sign no body: whoever has the token can send anything.
NO_BODY_SIGNED = {
    *("datadog", "bearer", "basic", "alertmanager", "huggingface", "azuredevops", "jenkins"),
    *("argocd", "newrelic", "opsgenie", "cloudevents", "eventgrid", "googlechannel"),
    *("postmark", "okta", "auth0", "mailchimp", "telegram", "monday", "pubsub", "googlechat"),
}
#: Those whose secret is in the body, so that no header verifies.
IN_BODY = {"figma", "graph", "sharepoint"}
#: Those that send a time which nobody signs.
NO_TIME_SIGNED = {"sentry"}
#: Those whose time is in a token, where it cannot be seen.
TIME_INSIDE = {"monday", "pubsub", "googlechat", "plaid"}
#: Those whose token is for one URL.
URL_INSIDE = {"pubsub"}
#: Those whose header is a list, which may stand on several lines.
LISTS = {
    *("pagerduty", "buildkite", "circleci", "elevenlabs", "calendly", "workos", "stripe"),
    *("paddle", "standard", "openai", "clerk", "resend", "claude", "bigcommerce", "gitlab"),
}
#: How what is nobody's in particular is named.
OPTIONS = SignatureOptions(type_field="type", delivery_field="id")
ACCEPTED = Answer(202, b'{"event_id":"e","status":"accepted"}', JSON)
FOLDER = Path(next(iter(hookstream.app.providers.__path__)))
DAY = 24 * 3600
SECRET = "5eCReT-a"

#: To draw one costs more than to ask a row: each is put to every row. Fewer of what is parsed and
#: summarised.
MANY = examples(300)
SOME = examples(40)
rows = pytest.mark.parametrize("row", PROVIDERS.values(), ids=lambda row: row.name)
signing = [row for row in PROVIDERS.values() if row.needs_secret]
signing_rows = pytest.mark.parametrize("row", signing, ids=lambda row: row.name)
header_rows = pytest.mark.parametrize(
    "row", [row for row in signing if row.name not in IN_BODY], ids=lambda row: row.name
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
#: A place in something whose length depends on the row: taken modulo that.
anywhere = st.integers(0, 2**16)


def right(row: Provider) -> str:
    return VERIFYING.get(row.name, SECRET)


def wrong(row: Provider) -> str:
    return OTHER.get(row.name, "5eCReT-b")


def examples(row: Provider) -> list[bytes]:
    """The payloads of ``examples/payloads``; who has no shape of its own sends the generic one."""
    name = "generic" if row.event_type is named_type else row.name
    found = [path.read_bytes() for path in (ROOT / "examples" / "payloads").glob(f"{name}-*")]
    assert found, f"examples/payloads/{name}-….json (or .form) is missing"
    return found


@cache
def deliveries(row: Provider) -> tuple[WebhookRequest, ...]:
    """Each example as its provider sends it. Signed once: ECDSA's signatures differ each time."""
    return tuple(sent(row, body) for body in examples(row))


def sent(row: Provider, body: bytes, now: float = NOW) -> WebhookRequest:
    body = row.stamp(body, now) if row.stamp else body
    body = row.seal(body, SIGNING.get(row.name, SECRET)) if row.seal else body
    url = row.address(URL, SECRET) if row.address else URL
    headers = row.sign(
        body,
        SIGNING.get(row.name, SECRET),
        OPTIONS,
        now=now,
        event_type="",
        delivery_id="msg_1",
        url=url,
    )
    return request(headers, body, url)


@cache
def parts(row: Provider) -> tuple[WebhookRequest, ...]:
    """What its examples are, an event each."""
    return tuple(part for hook in deliveries(row) for part in incoming(hook, row, 100).requests)


def changed(hook: WebhookRequest, body: bytes | None = None, **headers: Any) -> WebhookRequest:
    """The same request with another body, or other values of headers."""
    body = hook.body if body is None else body
    merged = {**hook.headers, **headers}
    return WebhookRequest(hook.method, hook.url, merged, body, body)


def accepts(row: Provider, hook: WebhookRequest, *secrets: str, now: float = NOW) -> bool:
    """Whether it verifies; anything but SignatureError is raised."""
    try:
        row.verify(hook, secrets or (right(row),), OPTIONS, now)
    except SignatureError:
        return False
    return True


def what_verifies(row: Provider, hook: WebhookRequest) -> list[str]:
    """The headers without which it does not verify."""
    names = [name for name in hook.headers if name != "content-type"]
    return [name for name in names if not accepts(row, changed(hook, **{name: ()}))]


@cache
def verifying(row: Provider) -> tuple[str, ...]:
    """:func:`what_verifies` of its first example."""
    return tuple(what_verifies(row, deliveries(row)[0]))


def hooks(some: Iterable[Provider]) -> Iterator[tuple[Provider, WebhookRequest]]:
    """Rows with their first example."""
    for row in some:
        yield row, deliveries(row)[0]


@contextmanager
def of(row: Provider) -> Iterator[None]:
    """Have what fails in it say which row that was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"provider: {row.name}")
        raise


# The row


@rows
def test_row_is_sound(row: Provider) -> None:
    assert PROVIDERS[row.name] is row
    assert importlib.import_module(f"hookstream.app.providers.{row.name}").PROVIDER is row
    assert is_signed(row.name) == row.needs_secret
    strategies = get_args(get_args(DedupIn.model_fields["strategy"].annotation)[0])
    assert row.dedup_strategy in strategies
    assert 60 <= row.dedup_window_seconds <= 31 * DAY
    assert row.title
    assert row.credential


@rows
def test_what_the_documentation_says_is_whole(row: Provider) -> None:
    notes = row.notes
    assert (row.tolerance_seconds is not None) == signs_a_time(row)
    assert bool(notes.answers) == any(
        (row.answer, row.handshake, row.challenge, row.learn, row.confirm)
    )
    said = [notes.setup, notes.verified_by, notes.type_from, notes.delivery_from, notes.why]
    said += [notes.retries, notes.source, *(cell for cells in notes.answers for cell in cells)]
    assert all((notes.setup, notes.verified_by, notes.type_from))
    # they are cells of tables
    assert not any("|" in text or "\n" in text for text in said)
    assert all(all(cells) for cells in notes.answers)


@rows
def test_secrets_are_looked_at_before_they_are_kept(row: Provider) -> None:
    check_secrets(row, [right(row), wrong(row)])
    if row.needs_secret and not row.learns(OPTIONS):
        with pytest.raises(BadRequestError, match="at least one"):
            check_secrets(row, [])
    else:
        check_secrets(row, [])
    for bad in ("", "  ", "\ud800"):
        with pytest.raises(BadRequestError, match="number 2") as caught:
            check_secrets(row, [right(row), bad])
        assert right(row) not in str(caught.value)


# Signatures


@rows
def test_what_is_signed_is_accepted(row: Provider) -> None:
    for hook in deliveries(row):
        assert accepts(row, hook)


@signing_rows
def test_old_and_new_secret_both_count_and_no_other(row: Provider) -> None:
    for hook in deliveries(row):
        assert accepts(row, hook, wrong(row), right(row))
        assert accepts(row, hook, right(row), wrong(row))
        assert not accepts(row, hook, wrong(row))
        for secrets in ((), ("",)):
            with pytest.raises(SignatureError, match="the tool has no secret"):
                row.verify(hook, secrets, OPTIONS, NOW)


@signing_rows
def test_changed_body_is_refused(row: Provider) -> None:
    for hook in deliveries(row):
        body = hook.body
        shorter, other_words = body.rstrip()[:-1], body.replace(b"a", b"b")
        for other in (b"x" + body, body[1:], shorter, other_words, b"&A=1", b""):
            assert other != body
            assert accepts(row, changed(hook, other)) == (row.name in NO_BODY_SIGNED)


@header_rows
def test_what_verifies_is_sent_once_and_whole(row: Provider) -> None:
    for hook in deliveries(row):
        names = what_verifies(row, hook)
        assert bool(names) != bool(row.seal or row.address)
        for name in names:
            [value] = hook.headers[name]
            for values in (("",), (value, value), (value, "x"), (value + "a" * 9000,)):
                # a list may stand on several lines, each of which counts by itself
                is_list = row.name in LISTS and name.endswith("signature") and value in values
                if not is_list or len(values) == 1:
                    assert not accepts(row, changed(hook, **{name: values}))


@header_rows
def test_a_list_may_stand_on_several_lines_or_have_had_them_joined(row: Provider) -> None:
    if row.name not in LISTS:
        return
    for hook in deliveries(row):
        [name] = [name for name in what_verifies(row, hook) if name.endswith("signature")]
        [value] = hook.headers[name]
        others = ("v1," if value.startswith("v1,") else "v1=") + "00" * 32
        forms = [(value, others), (others, value), (value, value), (f"{value}, {others}",)]
        # Stripe's and its like: the time on one line, the signature on the next
        for separator in (",", ";", " "):
            if "t=" in value and separator in value:
                forms += [tuple(value.split(separator)), (", ".join(value.split(separator)),)]
        for values in forms:
            assert accepts(row, changed(hook, **{name: values})), values
            assert not accepts(row, changed(hook, b"{}", **{name: values}))
        times = [part for part in value.replace(";", ",").split(",") if part[:2] in ("t=", "ts")]
        for other in times:
            # two times are two readers' two truths
            assert not accepts(row, changed(hook, **{name: (value, f"{other}1")}))


@signing_rows
def test_refusal_shows_neither_secret_nor_signature(row: Provider) -> None:
    for hook in deliveries(row):
        with pytest.raises(SignatureError, match=r"does not match") as caught:
            row.verify(hook, (wrong(row),), OPTIONS, NOW)
        said = str(caught.value)
        assert wrong(row) not in said
        signatures = (hook.headers[name][0] for name in what_verifies(row, hook))
        assert not any(value in said for value in signatures if len(value) > 16)


@rows
def test_kept_headers_carry_nothing_that_verifies(row: Provider) -> None:
    for header in row.keep_headers:
        assert header == header.lower()
        assert not re.search("signature|hmac|authorization|cookie|secret", header)
        assert "token" not in header or header == "i-twilio-idempotency-token"
    for hook in deliveries(row):
        kept = [hook.headers[name][0] for name in row.keep_headers if name in hook.headers]
        assert not any(right(row) in value for value in kept)


def signs_a_time(row: Provider) -> bool:
    hook = deliveries(row)[0]
    if row.name in TIME_INSIDE:
        return True
    times = (str(int(NOW)), datetime.fromtimestamp(NOW, UTC).isoformat(timespec="seconds")[:19])
    sent = [value for values in hook.headers.values() for value in values]
    sends = row.stamp or any(time in value for time in times for value in sent)
    return bool(sends) and row.name not in NO_TIME_SIGNED


@rows
def test_stale_and_early_times_are_refused(row: Provider) -> None:
    timed = signs_a_time(row)
    default = row.tolerance_seconds or 0
    for hook in deliveries(row):
        for seconds in (0, 10) if timed else ():
            options = SignatureOptions(tolerance_seconds=seconds or None)
            edge = seconds or default
            for age in (-edge, edge):
                row.verify(hook, (right(row),), options, NOW + age)
                beyond = NOW + age + (1 if age > 0 else -1)
                with pytest.raises(SignatureError, match="this server's clock"):
                    row.verify(hook, (right(row),), options, beyond)
        assert accepts(row, hook, now=NOW + 365 * DAY) != timed
        # what an operator has verified anew is as old as it is
        row.verify(hook, (right(row),), AnyAge(), NOW + 365 * DAY)
        times = {name for name, values in hook.headers.items() if str(int(NOW)) in values}
        assert not timed or times <= set(what_verifies(row, hook))


@MANY
@given(which=anywhere, at=anywhere, text=st.text(max_size=200), how=st.sampled_from("=+>"))
def test_no_header_raises_anything_but_signature_error(
    which: int, at: int, text: str, how: str
) -> None:
    for row, hook in hooks(row for row in signing if row.name not in IN_BODY):
        # without one it stands in the body or the URL
        if not (names := verifying(row)):
            continue
        with of(row):
            name = names[which % len(names)]
            [value] = hook.headers[name]
            cut = value[: at % (len(value) + 1)]
            other = {"=": text, "+": cut + text, ">": text + value[len(cut) :]}[how]
            if accepts(row, changed(hook, **{name: (other,)})):
                assert value.lower() in other.lower()


@MANY
@given(
    body=st.binary(max_size=100),
    url=st.text(max_size=60),
    content_type=st.sampled_from([JSON, FORM["Content-Type"], ""]),
)
def test_no_body_or_url_raises_anything_but_signature_error(
    body: bytes, url: str, content_type: str
) -> None:
    for row, hook in hooks(signing):
        headers = {**hook.headers, "content-type": (content_type,)}
        other = WebhookRequest("POST", url, headers, body, body)
        with of(row):
            verifies = row.name in NO_BODY_SIGNED and not row.address
            assert accepts(row, other) == (verifies and row.name not in URL_INSIDE)


# Names and ids


@rows
def test_example_has_a_type_and_keeps_its_delivery_id(row: Provider) -> None:
    for hook in deliveries(row):
        again = incoming(sent(row, hook.body, NOW + 60), row, 100).requests
        for part, other in zip(incoming(hook, row, 100).requests, again, strict=True):
            assert row.event_type(part, OPTIONS) != UNKNOWN
            assert row.delivery_id(part, OPTIONS) == row.delivery_id(other, OPTIONS)


@rows
def test_nonsense_is_unknown(row: Provider) -> None:
    for body, headers in ((b"{}", {}), (b"{}", {"Content-Type": JSON}), (b"[{}]", {})):
        assert row.event_type(request(headers, body), OPTIONS) == UNKNOWN
        assert row.delivery_id(request(headers, body), OPTIONS) == ""


def received(
    row: Provider, hook: WebhookRequest, options: SignatureOptions = OPTIONS, **more: Any
) -> Event:
    """The first event that a tool with the provider's defaults makes of a request."""
    return all_received(row, hook, options, **more)[0]


def all_received(
    row: Provider, hook: WebhookRequest, options: SignatureOptions = OPTIONS, **more: Any
) -> list[Event]:
    values = {"strategy": row.dedup_strategy, "fields": (), **more}
    tool = Tool(
        *("t", "default", row.name, (), options),
        *(values["strategy"], values["fields"], 60_000, "tool", ""),
    )
    made = make_events(
        incoming(hook, row, 100),
        tool,
        partitions=4,
        registry_version=1,
        now_ms=1_700_000_000_000,
        random_bits=more.get("random_bits", 7),
        functions={},
    )
    return [event for event, _ in made]


PACKED, AS_IT_CAME = Packing(min_bytes=0), Packing(compress=False)


@rows
def test_the_short_way_makes_what_the_long_one_makes(row: Provider) -> None:
    ways = product(("payload", "delivery", "none"), ("tool", "none"), (PACKED, AS_IT_CAME))
    for strategy, order_by, packing in ways:
        tool = Tool(
            *("t", "default", row.name, (right(row),), OPTIONS),
            *(strategy, (), 60_000, order_by, ""),
            history_ms=5000,
        )
        plain = PlainTool.of(tool, Catalog(version=7, token=99), 4)
        if plain is None:
            assert row.batch or row.keys or row.confirm
            return
        for hook in deliveries(row):
            for whole in (hook, changed(hook, traceparent=("00-a\x00b",))):
                check_short_way(plain, whole, packing)


def check_short_way(plain: PlainTool, hook: WebhookRequest, packing: Packing) -> None:
    row, tool = plain.provider, plain.tool
    taken = plain.take(hook, int(NOW * 1000), 12345, lambda *given: packing.pack(given[-1]))
    [(event, partition)] = make_events(
        incoming(hook, row, 100),
        tool,
        partitions=4,
        registry_version=7,
        registry_token=99,
        now_ms=int(NOW * 1000),
        random_bits=12345,
        functions={},
    )
    answered = row.handshake and row.handshake(hook, tool.secrets, tool.options)
    if answered or is_unverified(event.type):
        assert taken is None
        return
    assert taken is not None
    assert (taken.event_id, taken.key) == (event.event_id, keys.events(partition))
    there = decode_event(encode_event(event, packing.pack(event.payload)))
    assert decode_event(taken.entry) == there
    assert decode_event(taken.entry).payload == hook.decoded


@signing_rows
def test_the_short_way_takes_nothing_that_is_not_signed_right(row: Provider) -> None:
    tool = Tool(
        *("t", "default", row.name, (wrong(row),), OPTIONS),
        *("payload", (), 60_000, "tool", ""),
    )
    plain = PlainTool.of(tool, Catalog(), 4)
    if plain is None:
        return
    for hook in deliveries(row):
        with pytest.raises((SignatureError, BadRequestError)):
            plain.take(hook, int(NOW * 1000), 1, lambda *given: PACKED.pack(given[-1]))


BY_HEADERS = SignatureOptions(type_header="X-Event", delivery_header="X-Id")
body_signing_rows = pytest.mark.parametrize(
    "row",
    [row for row in PROVIDERS.values() if row.needs_secret and row.name not in NO_BODY_SIGNED],
    ids=lambda row: row.name,
)


@body_signing_rows
def test_nothing_unsigned_makes_a_copy_another_event(row: Provider) -> None:
    """What a stranger can do who has captured one webhook and has no secret."""
    claims = {*(row.shapes or ()), "deployment", "issue.x", "repo:push", "orders/x", "no\u2028n"}
    for hook in deliveries(row):
        first = received(row, hook, BY_HEADERS)
        several = len(all_received(row, hook, BY_HEADERS))
        assert not is_unverified(first.type)
        ids = {first.message_id}
        odd = set()
        free = {*hook.headers, *row.keep_headers, "x-event", "x-id"} - {*what_verifies(row, hook)}
        for name in free:
            for claim in claims:
                other = changed(hook, **{name: (claim,)})
                if not accepts(row, other):
                    continue
                event, *more = all_received(row, other, BY_HEADERS)
                assert len(more) == several - 1
                if is_unverified(event.type) or event.type == UNKNOWN != first.type:
                    odd.add(event.message_id)
                elif not (row.same_bodies and row.shapes and event.type in row.shapes):
                    ids.add(event.message_id)
                    named = event.type.partition(".")[0]
                    assert named == first.type.partition(".")[0] or row.shapes is None, claim
        assert len(ids) == 1
        assert len(odd) <= 1
        # one of no type that can be kept is any other's copy, unless it is known by its shape that
        # the genuine one may come later
        assert odd <= ids if row.shapes is None else not ids & odd


#: What a body may be said to be by who sends it again.
SAID_TO_BE = (
    *("application/json", "text/plain", FORM["Content-Type"], "application/x-ndjson", "text/xml"),
    *("application/cloudevents+json", "multipart/form-data; boundary=x", "image/png", "", "a/b/c"),
)


@body_signing_rows
def test_what_a_signed_body_is_said_to_be_makes_no_copy_another_event(row: Provider) -> None:
    for options in (SignatureOptions(), OPTIONS, BY_HEADERS):
        for hook in deliveries(row):
            first = {event.message_id for event in all_received(row, hook, options)}
            for kind in SAID_TO_BE:
                other = changed(hook, **{"content-type": (kind,)})
                if accepts(row, other) and row.dedup_strategy != "none":
                    again = {event.message_id for event in all_received(row, other, options)}
                    assert again <= first, kind


@rows
def test_types_that_are_not_signed_have_shapes_that_examples_fit(row: Provider) -> None:
    if row.shapes is None:
        return
    assert not row.signed_type(OPTIONS)
    for hook in deliveries(row):
        payload = payload_of(row, hook)
        claimed = row.event_type(hook, OPTIONS)
        own = {name for name in row.shapes if row.shapes.checked(name, payload, hook.body) == name}
        assert any(claimed == name or claimed.startswith(f"{name}.") for name in own)
        for unknown in ("nobody", *(f"{name.partition('.')[0]}.x" for name in row.shapes)):
            found = row.shapes.checked(unknown, payload, hook.body)
            assert found == f"unverified.{unknown}" or row.same_bodies


@body_signing_rows
def test_true_events_stay_apart(row: Provider) -> None:
    """By what is signed, and where fields count by the type as well."""
    for hook in deliveries(row):
        body = hook.body
        if row.batch:
            body, other = (batch_of(row, hook, (number,)).body for number in (1, 2))
        elif hook.content_type == FORM["Content-Type"]:
            other = body + b"&another=1"
        else:
            other = body.replace(b"{", b'{"another": 1,', 1)
        one, two = (received(row, changed(hook, body)) for body in (body, other))
        if row.dedup_strategy == "none":
            # nothing of theirs tells a copy from a true event: none is taken for one
            continue
        assert one.message_id != two.message_id or one.delivery_id == two.delivery_id != ""


def look_at(row: Provider, hook: WebhookRequest) -> None:
    """Everything that is asked of a verified request."""
    for ask in (row.event_type, row.delivery_id):
        try:
            found = ask(hook, OPTIONS)
        except BadRequestError:
            continue
        assert len(found) <= 256
        assert found.isprintable()
        assert ask is row.delivery_id or 0 < len(found) <= 200
    with suppress(BadRequestError):
        if answer := row.handshake and row.handshake(hook, (right(row),), OPTIONS):
            check_answer(answer)
    if answer := row.challenge and row.challenge(hook, (right(row),), OPTIONS):
        check_answer(answer)
    if found := row.learn and row.learn(hook, OPTIONS):
        check_answer(found[1])
    for part in incoming(hook, row, 100).requests:
        assert row.event_type(part, OPTIONS)
        assert len(row.delivery_id(part, OPTIONS)) <= 256
    # the event is durable by then: nothing may be raised
    if row.answer:
        check_answer(row.answer(hook, OPTIONS, ACCEPTED))


def check_answer(answer: Answer) -> None:
    assert 200 <= answer.status < 300
    assert len(answer.body) <= 1024
    assert re.fullmatch(r"[a-z]+/[a-z]+", answer.content_type)
    if answer.content_type == JSON:
        orjson.loads(answer.body)


@MANY
@given(
    body=st.binary(max_size=80) | anything.map(lambda value: orjson.dumps(str(value))),
    content_type=st.sampled_from([JSON, FORM["Content-Type"], ""]),
    text=st.text(max_size=300),
)
def test_no_request_raises_anything_but_bad_request(
    body: bytes, content_type: str, text: str
) -> None:
    for row, hook in hooks(PROVIDERS.values()):
        headers = dict.fromkeys([*hook.headers, *row.keep_headers], (text,))
        other = changed(hook, body, **{**headers, "content-type": (content_type,)})
        with of(row):
            look_at(row, other)


# Batches


#: Those whose batches are of lists, of which an empty one is a thing of its own.
NESTED = {"meta", "whatsapp"}
batch_rows = pytest.mark.parametrize(
    "row",
    # Twilio's examples are forms, which are none
    [row for row in PROVIDERS.values() if row.batch and row.name != "twilio"],
    ids=lambda row: row.name,
)


def batch_of(row: Provider, hook: WebhookRequest, order: Iterable[int]) -> WebhookRequest:
    """A body like an example's, with its first item again and again, each changed a little."""
    assert row.batch
    text = row.batch.text(hook)
    groups = grouped(text, row.batch.shape, 100) or [Group("", "", [(0, len(text))])]
    group, (start, end) = groups[0], groups[0].spans[0]
    item = text[start:end]
    items = ",".join(item.replace("{", f'{{"n": {number}, ', 1) for number in order)
    # what is around one item, around all
    before, after = group.before.removesuffix("["), group.after.removeprefix("]")
    body = f"{before}[{items}]{after}"
    if hook.content_type == FORM["Content-Type"]:
        return changed(hook, f"mandrill_events={quote(body)}".encode())
    return changed(hook, body.encode())


def numbers(row: Provider, events: Sequence[Event]) -> list[int]:
    assert row.batch
    found = (items_of(event.data(), row.batch.shape) or [event.data()] for event in events)
    return [item["n"] for [item] in found]


@batch_rows
def test_batch_is_an_event_for_each_thing_in_its_order(row: Provider) -> None:
    hook = deliveries(row)[0]
    one = received(row, hook)
    events = all_received(row, batch_of(row, hook, (5, 3, 4)))
    assert numbers(row, events) == [5, 3, 4]
    assert {event.type for event in events} == {one.type}
    assert [event.batch_index for event in events] == [0, 1, 2]
    assert {event.batch_id for event in events} == {events[0].event_id}
    ids = [event.event_id for event in events]
    assert ids == sorted(set(ids))
    # none, where there is one
    assert one.batch_id == "" or len(all_received(row, hook)) > 1


@batch_rows
def test_things_of_a_batch_that_is_sent_again_are_the_same_whatever_comes_with_them(
    row: Provider,
) -> None:
    hook = deliveries(row)[0]
    tool = {"strategy": "payload"}
    first = all_received(row, batch_of(row, hook, (1, 2, 3)), **tool)
    again = all_received(row, batch_of(row, hook, (2, 4)), **tool)
    assert len({event.message_id for event in first}) == 3
    assert again[0].message_id == first[1].message_id
    assert again[1].message_id not in {event.message_id for event in first}


@batch_rows
def test_batch_of_more_than_may_be_is_one_event_that_says_what_is_in_it(row: Provider) -> None:
    hook = batch_of(row, deliveries(row)[0], range(101))
    [event] = all_received(row, hook)
    assert event.type == "batch"
    assert event.delivery_id == event.batch_id == ""
    assert event.payload == hook.body
    counts = event.enrichment["batch"]
    assert counts["events"] == sum(counts["kinds"].values()) == 101
    summary = Summariser().summarise(event)
    assert summary.text.startswith("101 ")
    assert all(f"{n} {kind}" in summary.text for kind, n in counts["kinds"].items())
    # the same again is a copy, unless nothing of the provider's ever is
    [again] = all_received(row, hook, random_bits=8)
    assert (again.message_id == event.message_id) == (row.dedup_strategy != "none")


@batch_rows
def test_empty_batch_is_no_event_and_nothing_that_is_read_is_lost(row: Provider) -> None:
    hook = deliveries(row)[0]
    empty = b'{"object": "page", "entry": []}' if row.name in NESTED else None
    assert all_received(row, changed(hook, empty) if empty else batch_of(row, hook, ())) == []
    assert row.batch
    if row.batch.shape == [] and hook.content_type == JSON:
        parts = incoming(changed(hook, b'[1, null, "x", [], {"a": 1.10}]'), row, 100).requests
        assert [part.decoded for part in parts] == [b"1", b"null", b'"x"', b"[]", b'{"a": 1.10}']
    for broken in (b'[{"a": 1}, {', b"[", b"nothing", b'{"entry": [', b"\xff\xfe[]"):
        [event] = all_received(row, changed(hook, broken))
        assert event.payload == broken


# What is answered


@rows
def test_webhook_is_no_handshake_and_its_answer_is_one_that_senders_understand(
    row: Provider,
) -> None:
    for hook in deliveries(row):
        assert row.challenge is None or row.challenge(hook, (right(row),), OPTIONS) is None
        assert row.learn is None or row.learn(hook, OPTIONS) is None
        assert row.handshake is None or row.handshake(hook, (right(row),), OPTIONS) is None
        assert row.confirm is None or row.confirm(hook) is None
        if row.answer:
            check_answer(row.answer(hook, OPTIONS, ACCEPTED))


# Summaries and correlation keys


def payload_of(row: Provider, hook: WebhookRequest) -> Any:
    event = make_event(hook.decoded, provider=row.name, content_type=hook.content_type)
    return event.data()


@rows
def test_templates_render_its_examples(row: Provider) -> None:
    templates = [template for name, template in builtin_templates().all() if name == row.name]
    assert bool(templates) == (FOLDER / f"{row.name}.toml").exists()
    for hook in parts(row):
        kind = row.event_type(hook, OPTIONS)
        payload = payload_of(row, hook)
        body = hook.decoded
        event = make_event(body, provider=row.name, type=kind, content_type=hook.content_type)
        summary = Summariser().summarise(event)
        assert summary.text
        assert summary.template.startswith(f"{row.name}/") == bool(templates)
        for template in templates:
            seen = {"type": kind, "provider": row.name, "tool_id": "t"}
            template.render(seen, payload, find_facts(payload))


def test_every_file_of_templates_belongs_to_a_provider() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} <= set(PROVIDERS)


@rows
def test_examples_have_correlation_keys_of_their_provider(row: Provider) -> None:
    events = [make_event(payload_of(row, hook), provider=row.name) for hook in parts(row)]
    keys = [key for event in events for key in correlation_keys(event)]
    assert bool(keys) == bool(row.correlation)
    assert all(key.startswith((f"{row.name}:", "ticket:")) for key in keys)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every object and list in a payload with every name and number in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in list(items):
        yield value, name
        if isinstance(inner, (dict, list)):
            yield from places(inner)


@SOME
@given(at=anywhere, value=anything)
def test_payload_with_anything_in_it_raises_nothing(at: int, value: Any) -> None:
    for row in PROVIDERS.values():
        hook = parts(row)[0]
        payload = payload_of(row, hook)
        found = list(places(payload))
        inside, name = found[at % len(found)]
        inside[name] = value
        with of(row):
            for odd in (payload, value):
                take_apart(row, hook, odd)


def take_apart(row: Provider, hook: WebhookRequest, payload: Any) -> None:
    """Everything that is made of an event's payload."""
    # what JSON cannot hold is dropped or refused before
    try:
        body = orjson.dumps(payload)
    except TypeError:
        return
    event = make_event(body, provider=row.name, type=row.event_type(hook, OPTIONS))
    keys = correlation_keys(event)
    assert len(keys) <= 8
    assert len(set(keys)) == len(keys)
    assert all(0 < len(key) <= 200 and key.isprintable() for key in keys)
    Summariser().summarise(event)
    look_at(row, changed(hook, body))
    look_at(row, changed(deliveries(row)[0], body))


def test_a_tool_whose_bodies_hold_several_events_has_no_short_way() -> None:
    for options, is_plain in (
        (SignatureOptions(), True),
        (SignatureOptions(batch_field="a"), False),
    ):
        tool = Tool(*("t", "default", "none", (), options), *("payload", (), 60_000, "tool", ""))
        assert (PlainTool.of(tool, Catalog(), 4) is not None) == is_plain


def test_a_tool_that_keeps_only_what_is_masked_has_no_short_way() -> None:
    masked = Rules(keep=MASKED)
    for own, tenants, is_plain in (
        (Rules(), {}, True),
        (masked, {}, False),
        (Rules(), {"default": masked}, False),
        (Rules(), {"other": masked}, True),
    ):
        rest = ("payload", (), 60_000, "tool", "")
        tool = Tool("t", "default", "none", (), SignatureOptions(), *rest, masking=own)
        assert (PlainTool.of(tool, Catalog(masking=tenants), 4) is not None) == is_plain
