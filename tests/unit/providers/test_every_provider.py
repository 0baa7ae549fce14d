"""What every provider promises: a new file in ``app/providers`` has to pass this as it is.

It needs two rows in ``docs/providers.md`` and a payload, ``examples/payloads/NAME-….json`` (or
``.form``). A secret that is not any text goes to ``tests/support/senders.py``.
"""

import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hookstream.app.providers
from hookstream.app.errors import BadRequestError, SignatureError
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
from hookstream.app.providers.signatures.options import AnyAge, SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.summaries.facts import find_facts
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.summaries.templates import builtin_templates
from hookstream.app.testing import make_event
from hookstream.app.web.models import DedupIn, duration_text
from tests.support import ROOT
from tests.support.senders import FORM, NOW, OTHER, SIGNING, URL, VERIFYING, request

#: Those that sign no body: whoever has the token can send anything.
NO_BODY_SIGNED = {"datadog", "bearer", "basic"}
#: Those that send a time which nobody signs.
NO_TIME_SIGNED = {"sentry"}
#: How what is nobody's in particular is named.
OPTIONS = SignatureOptions(type_field="type", delivery_field="id")
ACCEPTED = Answer(202, b'{"event_id":"e","status":"accepted"}', JSON)
FOLDER = Path(next(iter(hookstream.app.providers.__path__)))
DAY = 24 * 3600
SECRET = "5eCReT-a"

rows = pytest.mark.parametrize("row", PROVIDERS.values(), ids=lambda row: row.name)
signing_rows = pytest.mark.parametrize(
    "row", [row for row in PROVIDERS.values() if row.needs_secret], ids=lambda row: row.name
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


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
    headers = row.sign(
        body,
        SIGNING.get(row.name, SECRET),
        OPTIONS,
        now=now,
        event_type="",
        delivery_id="msg_1",
        url=URL,
    )
    return request(headers, body)


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


def documented(section: str, row: Provider) -> list[list[str]]:
    """The cells of the provider's rows in a section of docs/providers.md."""
    text = (ROOT / "docs" / "providers.md").read_text()
    lines = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith(f"| `{row.name}`")
    ]


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
def test_documentation_says_what_the_table_says(row: Provider) -> None:
    assert len(documented("What to set, and what is read", row)) == 1
    [[_, strategy, window, tolerance, _]] = documented("Duplicates and times", row)
    assert (strategy, window) == (row.dedup_strategy, duration_text(row.dedup_window_seconds))
    assert bool(tolerance) == signs_a_time(row)
    answers = documented("What is answered", row)
    assert bool(answers) == bool(row.answer or row.handshake)


@rows
def test_secrets_are_looked_at_before_they_are_kept(row: Provider) -> None:
    check_secrets(row, [right(row), wrong(row)])
    if row.needs_secret:
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
        for other in (b"x" + body, body[1:], body[:-1], body.replace(b"a", b"b"), b"&A=1", b""):
            assert other != body
            assert accepts(row, changed(hook, other)) == (row.name in NO_BODY_SIGNED)


@signing_rows
def test_what_verifies_is_sent_once_and_whole(row: Provider) -> None:
    for hook in deliveries(row):
        names = what_verifies(row, hook)
        assert names
        for name in names:
            [value] = hook.headers[name]
            for values in (("",), (value, value), (value, "x"), (value + "a" * 9000,)):
                assert not accepts(row, changed(hook, **{name: values}))


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
    time = str(int(NOW))
    sends = row.stamp or any(time in value for values in hook.headers.values() for value in values)
    return bool(sends) and row.name not in NO_TIME_SIGNED


@rows
def test_stale_and_early_times_are_refused(row: Provider) -> None:
    timed = signs_a_time(row)
    [[*_, tolerance, _]] = documented("Duplicates and times", row)
    number, unit = re.match(r"(\d+) (s|h)|", tolerance).groups()  # type: ignore[union-attr]
    default = int(number or 0) * (3600 if unit == "h" else 1)
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


@signing_rows
@given(data=st.data(), text=st.text(max_size=200))
def test_no_header_raises_anything_but_signature_error(
    row: Provider, data: st.DataObject, text: str
) -> None:
    hook = deliveries(row)[0]
    name = data.draw(st.sampled_from(what_verifies(row, hook)))
    [value] = hook.headers[name]
    at = data.draw(st.integers(0, len(value)))
    other = data.draw(st.sampled_from([text, value[:at] + text, text + value[at:]]))
    if accepts(row, changed(hook, **{name: (other,)})):
        assert value.lower() in other.lower()


@signing_rows
@given(
    body=st.binary(max_size=100),
    url=st.text(max_size=60),
    content_type=st.sampled_from([JSON, FORM["Content-Type"], ""]),
)
def test_no_body_or_url_raises_anything_but_signature_error(
    row: Provider, body: bytes, url: str, content_type: str
) -> None:
    hook = deliveries(row)[0]
    headers = {**hook.headers, "content-type": (content_type,)}
    other = WebhookRequest("POST", url, headers, body, body)
    assert accepts(row, other) == (row.name in NO_BODY_SIGNED)


# Names and ids


@rows
def test_example_has_a_type_and_keeps_its_delivery_id(row: Provider) -> None:
    for hook in deliveries(row):
        assert row.event_type(hook, OPTIONS) != UNKNOWN
        found = row.delivery_id(hook, OPTIONS)
        assert found == row.delivery_id(sent(row, hook.body, NOW + 60), OPTIONS)


@rows
def test_nonsense_is_unknown(row: Provider) -> None:
    for body, headers in ((b"{}", {}), (b"{}", {"Content-Type": JSON}), (b"[{}]", {})):
        assert row.event_type(request(headers, body), OPTIONS) == UNKNOWN
        assert row.delivery_id(request(headers, body), OPTIONS) == ""


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
        if answer := row.handshake and row.handshake(hook):
            check_answer(answer)
    # the event is durable by then: nothing may be raised
    if row.answer:
        check_answer(row.answer(hook, ACCEPTED))


def check_answer(answer: Answer) -> None:
    assert 200 <= answer.status < 300
    assert len(answer.body) <= 1024
    assert re.fullmatch(r"[a-z]+/[a-z]+", answer.content_type)
    if answer.content_type == JSON:
        orjson.loads(answer.body)


@rows
@given(
    body=st.binary(max_size=80) | anything.map(lambda value: orjson.dumps(str(value))),
    content_type=st.sampled_from([JSON, FORM["Content-Type"], ""]),
    text=st.text(max_size=300),
)
def test_no_request_raises_anything_but_bad_request(
    row: Provider, body: bytes, content_type: str, text: str
) -> None:
    hook = deliveries(row)[0]
    headers = dict.fromkeys([*hook.headers, *row.keep_headers], (text,))
    other = changed(hook, body, **{**headers, "content-type": (content_type,)})
    look_at(row, other)


# What is answered


@rows
def test_webhook_is_no_handshake_and_its_answer_is_one_that_senders_understand(
    row: Provider,
) -> None:
    for hook in deliveries(row):
        assert row.handshake is None or row.handshake(hook) is None
        if row.answer:
            check_answer(row.answer(hook, ACCEPTED))


# Summaries and correlation keys


def payload_of(row: Provider, hook: WebhookRequest) -> Any:
    event = make_event(hook.body, provider=row.name, content_type=hook.content_type)
    return event.data()


@rows
def test_templates_render_its_examples(row: Provider) -> None:
    templates = [template for name, template in builtin_templates().all() if name == row.name]
    assert bool(templates) == (FOLDER / f"{row.name}.toml").exists()
    for hook in deliveries(row):
        kind = row.event_type(hook, OPTIONS)
        payload = payload_of(row, hook)
        event = make_event(hook.body, provider=row.name, type=kind, content_type=hook.content_type)
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
    events = [make_event(payload_of(row, hook), provider=row.name) for hook in deliveries(row)]
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


@rows
@given(data=st.data(), value=anything)
def test_payload_with_anything_in_it_raises_nothing(
    row: Provider, data: st.DataObject, value: Any
) -> None:
    hook = deliveries(row)[0]
    payload = payload_of(row, hook)
    inside, name = data.draw(st.sampled_from(list(places(payload))), label="place")
    inside[name] = value
    for odd in (payload, value):
        # what JSON cannot hold is dropped or refused before
        try:
            body = orjson.dumps(odd)
        except TypeError:
            continue
        event = make_event(body, provider=row.name, type=row.event_type(hook, OPTIONS))
        keys = correlation_keys(event)
        assert len(keys) <= 8
        assert len(set(keys)) == len(keys)
        assert all(0 < len(key) <= 200 and key.isprintable() for key in keys)
        Summariser().summarise(event)
        look_at(row, changed(hook, body))
