"""Rules applied: to values, and to events in every form in which payloads come."""

import base64
from collections import Counter
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from hookstream.app.errors import BlockedByRuleError
from hookstream.app.privacy.forms import masked
from hookstream.app.privacy.kinds import KINDS
from hookstream.app.privacy.masking import Masker
from hookstream.app.privacy.pseudonyms import Pseudonyms
from hookstream.app.privacy.rules import AGENTS, MODELS, Rules
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.maskers import Maskers
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import decode_event, encode_event
from tests.support.privacy_corpus import fixture_event

CARD = "4111 1111 1111 1111"
KEY = b"a key of tests that nobody knows"
ALL = Masker(dict.fromkeys(KINDS, "mask"))


def value(masker: Masker, given: Any) -> Any:
    return masker.value(given, Counter())


def test_forms_keep_what_they_promise() -> None:
    assert masked("email", "jane@mail.example.com") == "j•••@m•••.com"
    assert masked("card", CARD) == "•••• •••• •••• 1111"
    assert masked("iban", "DE89370400440532013000") == "DE••••••••••••••••3000"
    assert masked("phone", "+49 30 901820") == "+49 •• ••••20"
    assert masked("ip", "203.0.113.7") == "203.0.•.•"
    assert masked("ip", "2001:db8::1") == "2001:db8:•••"
    assert masked("national_id.us", "078-05-1120") == "•••-••-••••"
    assert masked("name", "Jane Whitfield") == "J••• W•••"
    assert masked("address", "Hauptstraße 12") == "•••"
    assert masked("secret.github", "ghp_" + "a" * 36) == "ghp_•••"


def test_payloads_of_every_form_are_masked() -> None:
    inner = orjson.dumps({"password": "hunter2x", "note": f"card {CARD}"}).decode()
    sns = {"TopicArn": "t", "MessageId": "m", "Message": inner}
    data = base64.b64encode(inner.encode()).decode()
    pubsub = {"subscription": "s", "message": {"data": data, "messageId": "1"}}
    form = urlencode({"note": f"card {CARD}", "password": "hunter2x"}).encode()
    in_form = urlencode({"payload": inner}).encode()
    xml = f"<a><password>hunter2x</password><note>card {CARD}</note></a>".encode()
    for payload, kind in (
        (inner.encode(), "application/json"),
        (orjson.dumps({"text": inner}), "application/json"),
        (orjson.dumps(sns), "application/json"),
        (orjson.dumps(pubsub), "application/json"),
        (form, "application/x-www-form-urlencoded"),
        (in_form, "application/x-www-form-urlencoded"),
        (xml, "application/xml"),
        (inner.encode() + b"\n" + inner.encode(), "application/x-ndjson"),
        (inner.encode("utf-16"), "application/json; charset=utf-16"),
        (inner.replace(" ", "\\u0020").encode(), "application/json"),
        (f"no JSON, password: hunter2x, card {CARD}".encode(), "text/plain"),
    ):
        event = fixture_event("generic", payload, kind)
        event.data()
        shown = ALL.event(event)
        told = shown.event.payload.decode()
        assert shown.counts["secret.field", "mask"] >= 1, (payload, kind)
        assert shown.counts["card", "mask"] >= 1, (payload, kind)
        assert "hunter2x" not in told
        assert CARD not in told
        assert "hunter2x" not in str(shown.event.data())
        assert event.payload == payload, "what came in stays"
        # what is parsed from the bytes, elsewhere, is the same
        again = fixture_event("generic", shown.event.payload, shown.event.content_type)
        assert "hunter2x" not in str(again.data())
        assert ALL.event(again).event is again, "masked again it stays as it is"


def test_bytes_that_are_no_text_are_left_out() -> None:
    masker = Masker({}, fields={"a": "mask"})
    assert masker.event(fixture_event("generic", b"\x80\x81\xff")).event.payload == b""


def test_an_event_with_nothing_is_the_same_object() -> None:
    event = fixture_event("github", b'{"title": "a door", "number": 42}')
    assert ALL.event(event).event is event


def test_dropped_fields_and_items_go() -> None:
    masker = Masker({"email": "drop"}, fields={"secret.*.key": "drop", "whole": "mask"})
    given = {
        "to": ["a@example.com", "nobody"],
        "from": "b@example.com",
        "secret": {"x": {"key": 1, "other": 2}},
        "whole": {"a": 1},
    }
    assert value(masker, given) == {"to": ["nobody"], "secret": {"x": {"other": 2}}, "whole": "•••"}
    assert value(Masker({"email": "drop"}), "a@example.com") is None


def test_names_of_fields_are_looked_at() -> None:
    assert value(ALL, {"ann@example.com": 1, "ada@example.com": 2}) == {
        "a•••@e•••.com": 1,
        "a•••@e•••.com~1": 2,
    }


def test_a_block_says_which_kind_and_not_what() -> None:
    with pytest.raises(BlockedByRuleError) as error:
        value(Masker({"card": "block"}), {"note": CARD})
    assert str(error.value) == "a rule of its tool blocks events with card"
    with pytest.raises(BlockedByRuleError, match="with field"):
        value(Masker({}, fields={"note": "block"}), {"note": CARD})


def test_pseudonyms_are_stable_in_a_tenant_and_keyed() -> None:
    ours, theirs = Pseudonyms(KEY, "ours"), Pseudonyms(KEY, "theirs")
    name = ours.name("email", "Ann@example.com")
    assert (
        name
        == ours.name("email", "ann@example.com")
        == Pseudonyms(KEY, "ours").name("email", "ann@example.com")
    )
    assert name.startswith("email_")
    assert name != theirs.name("email", "ann@example.com")
    assert name != Pseudonyms(KEY + b"!", "ours").name("email", "ann@example.com")
    assert name != ours.name("email", "bob@example.com")
    assert ours.name("card", CARD) == ours.name("card", CARD.replace(" ", ""))
    with pytest.raises(ValueError, match="HOOKSTREAM_PSEUDONYM_KEY"):
        Masker({"email": "pseudonym"})


def test_the_most_exact_name_of_a_rule_counts() -> None:
    rules = Rules.from_dict({"agents": {"*": "drop", "secret": "pass", "secret.aws": "block"}})
    actions = rules.actions(AGENTS)
    assert (actions["secret.aws"], actions["email"]) == ("block", "drop")
    assert "secret.jwt" not in actions
    along = Rules().actions(AGENTS)
    assert {"card", "iban", "secret.jwt", "national_id.fr"} <= set(along)
    assert {"email", "name", "phone", "ip", "address"}.isdisjoint(along)
    assert Rules().actions(MODELS) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"agents": {"emial": "mask"}}, "agents: there is no kind 'emial'; there are email, "),
        ({"agents": {"email": "hide"}}, "agents.email: one of pass, mask"),
        ({"models": {"email": "block"}}, "models.email: .*for agents"),
        ({"operators": {}}, "operators: no such reader"),
        ({"fields": {"a..b": "mask"}}, "fields: 'a..b' is no path"),
        ({"fields": {"a.b": "hide"}}, "fields.a.b: one of"),
        ({"keep": "nothing"}, 'keep: "original" or "masked"'),
    ],
)
def test_wrong_rules_are_refused_with_the_reason(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules.from_dict(given)


async def test_an_event_of_no_known_tool_has_what_comes_along() -> None:
    maskers = Maskers(Catalog)
    event = make_event({"note": CARD, "mail": "ann@example.com"})
    shown = await maskers.for_agents(event)
    assert shown is not None
    assert shown.data() == {"note": "•••• •••• •••• 1111", "mail": "ann@example.com"}
    assert maskers.of(event) is maskers.of(event)


def test_a_body_full_of_candidates_is_hidden_past_a_bound() -> None:
    text = f"{CARD} " * 300
    given = [f"{text}{number}" for number in range(600)]
    counts: Counter[tuple[str, str]] = Counter()
    shown = ALL.value(given, counts)
    assert CARD not in str(shown)
    assert shown[-1] == "•••"
    assert counts["field", "mask"] > 500


def ruled(*, tenant: dict[str, Any] | None = None, **tool: Any) -> Maskers:
    """Maskers of a catalog with one tool, ``test``, and the rules of its tenant."""
    made = Tool(
        "test", "default", "none", (), SignatureOptions(), "payload", (), 0, "tool", "",
        masking=Rules.from_dict(tool),
    )  # fmt: skip
    rules = {} if tenant is None else {"default": Rules.from_dict(tenant)}
    found = Catalog(tools={"test": made}, masking=rules)
    return Maskers(lambda: found)


async def test_a_tenants_rules_hold_for_its_tools_also_those_that_are_gone() -> None:
    maskers = ruled(tenant={"agents": {"email": "mask", "card": "drop"}}, agents={"card": "pass"})
    given = {"note": CARD, "mail": "ann@example.com"}
    shown = await maskers.for_agents(make_event(given))
    gone = await maskers.for_agents(make_event(given, tool_id="gone"))
    others = await maskers.for_agents(make_event(given, tenant="other"))
    assert shown is not None
    assert gone is not None
    assert others is not None
    assert shown.data() == {"note": CARD, "mail": "a•••@e•••.com"}
    assert gone.data() == {"mail": "a•••@e•••.com"}
    assert others.data() == {"note": "•••• •••• •••• 1111", "mail": "ann@example.com"}


async def test_what_is_kept_masked_has_nothing_of_what_was_sent() -> None:
    maskers = ruled(
        keep="masked", agents={"email": "pseudonym", "card": "drop"}, fields={"k": "mask"}
    )
    maskers = Maskers(maskers._catalog, KEY.decode())
    event = make_event({"note": CARD, "mail": "ann@example.com", "k": {"a": 1}, "n": 7})
    kept = await maskers.for_keeping(event)
    assert (kept.kept_masked, kept.blocked_by) == (True, "")
    assert set(kept.data()) == {"mail", "k", "n"}
    encoded = encode_event(kept)
    assert not any(text in encoded for text in (b"4111", b"ann@example.com"))
    again = decode_event(encoded)
    assert again.kept_masked
    # as agents see it, it is what is kept: rules of readers find nothing more
    shown = await maskers.for_agents(again)
    assert shown is again


async def test_what_is_blocked_is_masked_before_it_is_kept_and_stays_blocked() -> None:
    maskers = ruled(keep="masked", agents={"card": "block"}, fields={"k": "block"})
    for given, kind in (({"note": f"my {CARD}"}, "card"), ({"k": "x", "n": 1}, "field")):
        kept = decode_event(encode_event(await maskers.for_keeping(make_event(given))))
        assert kept.blocked_by == kind
        assert CARD not in kept.payload.decode()
        assert '"x"' not in kept.payload.decode()
        with pytest.raises(BlockedByRuleError, match=f"with {kind}"):
            maskers.of(kept).event(kept)
        assert await maskers.for_agents(kept) is None
    # a rule that is gone blocks nothing any more; what is kept stays masked
    shown = await ruled(keep="masked").for_agents(kept)
    assert shown is not None
    assert shown.data() == {"k": "•••", "n": 1}


def test_pseudonyms_in_a_text_are_not_hidden_again() -> None:
    masker = Masker({"secret.github": "pseudonym"}, pseudonyms=Pseudonyms(KEY, "t"))
    once = masker.text("my token ghp_" + "aB3dE6gH9jK2" * 3)
    assert once.startswith("my token secret_")
    assert masker.text(once) == once
