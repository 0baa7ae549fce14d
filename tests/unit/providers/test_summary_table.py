"""The table of docs/summaries.md, and the rules that it stands on."""

import statistics
from typing import Any

import pytest

from hookstream.app.summaries.tokens import count_tokens
from tests.support.summary_rules import MAX_TOKENS, broken, has_link, names_somebody
from tests.support.summary_table import PAGE, renewed, rows
from tests.unit.providers.test_fixtures import cases, events_of, expected


def test_table_in_the_docs_is_that_of_the_fixtures() -> None:
    page = PAGE.read_text()
    assert renewed(page) == page, "docs/summaries.md: run make docs"


def test_fixtures_are_many_and_their_summaries_keep_to_the_rules() -> None:
    *each, every = rows()
    assert len(each) >= 60
    assert len(every.tokens) >= 600
    assert every.broken == 0
    assert max(every.tokens) <= MAX_TOKENS
    # what is no address says something
    telling = [
        count_tokens(" ".join(word for word in said.split() if "://" not in word))
        for said in (events_of(expected(name)[file])[0]["summary"] for name, file in cases())
    ]
    assert statistics.median(telling) >= 12


def test_no_licence_wants_its_texts_shared_alike() -> None:
    licences = {row["licence"] for name, _ in cases() for row in expected(name).values()}
    assert licences <= {
        "MIT",
        "Apache-2.0",
        "BSD-3-Clause",
        "BSD-2-Clause-Patent",
        "CC-BY-4.0",
        "MIT OR Apache-2.0",
        "our own",
    }


@pytest.mark.parametrize(
    ("summary", "what"),
    [
        ("Ann changed ❴'a': 1❵", "Python's own writing"),
        ("Ann changed it: None → True", "Python's own writing"),
        ("Issue [, ] opened", "an empty slot"),
        ("Issue opened by : text", "an empty slot"),
        ("Issue opened by", "an empty slot"),
        ("Issue “” opened", "an empty slot"),
        ("state: open → ; more", "an empty slot"),
        ("a  b", "an empty slot"),
        ("none unknown: six", "unknown"),
        ("Message: 5 &lt; 6", "mark-up"),
        ("Message: %%% CPU", "mark-up"),
        ("Message: ‹@U123› look", "mark-up"),
        ("Message: ‹p›look‹/p›", "mark-up"),
        ("Task “1f81eb52-5198-4599-803e-771906343485” done", "an id as a title"),
        ("Customer deleted: cus_QXg1o8vcGmoR32", "an id as a title"),
    ],
)
def test_a_line_that_breaks_a_rule_is_found(summary: str, what: str) -> None:
    assert {found.partition(":")[0] for found in broken(summary, {})} == {what}


@pytest.mark.parametrize(
    ("summary", "payload", "kind", "what"),
    [
        ("5.00 EUR paid", {"livemode": False}, "", "test mode is not marked"),
        ("5.00 EUR paid", {"data": {"test": True}}, "", "test mode is not marked"),
        ("Issue opened", {"issue": {"html_url": "https://a.b/c"}}, "", "no link, though"),
        ("Issue 5", {}, "issue.deleted", "does not say that it is gone"),
        ("Task 5", {}, "taskDeleted", "does not say that it is gone"),
    ],
)
def test_what_a_payload_says_has_to_be_told(
    summary: str, payload: Any, kind: str, what: str
) -> None:
    [found] = broken(summary, payload, kind)
    assert found.startswith(what)


@pytest.mark.parametrize(
    ("summary", "payload", "kind"),
    [
        ("Ann signed in, 5 ‹ 6 [open] (2 of 3): see a → b https://a.b/c?x=None", {}, ""),
        ("Status unknown → None", {"a": ["unknown", {"b": "None"}]}, ""),
        ("5.00 EUR paid (test mode)", {"livemode": False}, ""),
        ("Branch x deleted", {}, "branch.delete"),
        ("Message taken back", {}, "message.remove"),
    ],
)
def test_a_good_line_breaks_nothing(summary: str, payload: Any, kind: str) -> None:
    assert broken(summary, payload, kind) == []


def test_links_and_people_are_seen() -> None:
    assert has_link("a https://b.c/d")
    assert has_link("a hxxps://b[.]c/d")
    assert not has_link("a b.c/d")
    payload = {"sender": {"login": "ann"}, "data": {"to": ["bob@example.com"]}, "user_name": "carl"}
    assert names_somebody("opened by ann", payload)
    assert names_somebody("sent to bob@example.com", payload)
    assert names_somebody("carl left", payload)
    assert not names_somebody("opened by somebody", payload)
