"""A model for names behind the detectors' interface: what it is asked, and what it may answer."""

from collections import Counter

import pytest

from hookstream.app.errors import BlockedByRuleError, NerError
from hookstream.app.privacy.finder import DETECTORS, Finder
from hookstream.app.privacy.masking import Masker
from hookstream.app.privacy.ner import Answers, AskedDetector, Model, kinds_of
from hookstream.app.testing import make_event
from tests.support.names import fail, find, lie

DETECTOR = AskedDetector(["name"])


def masker(**actions: str) -> Masker:
    return Masker(actions, finder=Finder(actions, (*DETECTORS, DETECTOR)))


def asked(masker: Masker, given: object) -> object:
    """What is left of values once the model was asked, here and now."""
    answers = Answers()
    done = answers.collect(lambda: masker.value(given, Counter()))
    if not answers.texts:
        return done
    answers.take(Model("tests.support.names:find", find)(answers.texts))
    return answers.give(lambda: masker.value(given, Counter()))


def test_names_in_free_text_are_hidden_and_what_stands_beside_them() -> None:
    given = {
        "title": "Jane Whitfield cannot log in",
        "lines": ["from Ada to Karl", "nothing of note", 7, "Wei"],
        "inner": '{"note": "ask Jane Doe"}',
        "text": "Jane, ann@example.com",
        "customer": {"name": "Somebody Else"},
    }
    assert asked(masker(name="mask", email="mask"), given) == {
        "title": "J••• W••• cannot log in",
        "lines": ["from A••• to K•••", "nothing of note", 7, "Wei"],
        "inner": '{"note":"ask J••• D•••"}',
        "text": "J•••, a•••@e•••.com",
        "customer": {"name": "S••• E•••"},
    }


def test_it_is_asked_of_texts_of_several_words_and_of_other_scripts_each_once() -> None:
    met = Answers()
    given = ["one", "two words", "two words", "line\nbreak", "张伟", "no-space/here", 12, True]
    met.collect(lambda: masker(name="mask").value(given, Counter()))
    assert met.texts == ["two words", "line\nbreak", "张伟"]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":"Jane\nDoe"}',
        rb'{"a":"Jane\u0020Doe"}',
        rb'{"a":"\u5f20\u4f1f"}',
        '{"a":"张伟"}'.encode(),
        b'{"a":"Jane Doe"}',
    ],
)
def test_a_payloads_bytes_show_that_it_is_to_be_asked(body: bytes) -> None:
    event = make_event(body)
    met = Answers()
    met.collect(lambda: masker(name="mask").event(event))
    assert len(met.texts) == 1


def test_it_is_not_asked_where_nothing_is_hidden_of_what_it_finds() -> None:
    met = Answers()
    met.collect(lambda: masker(email="mask").event(make_event({"a": "Jane Doe was here"})))
    assert met.texts == []


def test_what_it_finds_can_be_blocked_or_dropped() -> None:
    with pytest.raises(BlockedByRuleError, match="with name"):
        asked(masker(name="block"), {"a": "ask Jane"})
    assert asked(masker(name="drop"), {"a": "ask Jane", "b": "ask me"}) == {"b": "ask me"}


def test_nothing_passes_that_it_was_not_asked_of() -> None:
    one = masker(name="mask")
    with pytest.raises(NerError, match="was not asked"):
        one.value({"a": "ask Jane"}, Counter())
    answers = Answers()
    answers.collect(lambda: one.value({"a": "ask Jane"}, Counter()))
    answers.take([[]])
    with pytest.raises(NerError, match="not asked of all"):
        answers.give(lambda: one.value({"a": "ask Karl"}, Counter()))


def test_answers_that_are_none_are_refused_and_no_text_is_told() -> None:
    text = "ask Jane"
    for function, told in (
        (fail, r"names:fail raised ValueError \(.*names\.py:\d+\)"),
        (lie, "a span that is not in its text"),
        (lambda texts: [], "gave 0 answers to 1 texts"),
        (lambda texts: [["Jane"] for _ in texts], r"a span is \(start, end, kind\)"),
        (lambda texts: [[(0, 1, "PERSON")] for _ in texts], "there is no such kind 'PERSON'"),
        (
            lambda texts: [[(0, 1, text)] for text in texts],
            "there is no such kind: there are email",
        ),
        (lambda texts: [[(text, 1, "name")] for text in texts], "a span that is not in its text"),
        (lambda texts: None, "raised TypeError"),
    ):
        with pytest.raises(NerError, match=told) as error:
            Model("tests.support.names:fail", function)([text])
        assert text not in str(error.value)
        assert error.value.__suppress_context__ or error.value.__context__ is None


def test_what_it_finds_is_said_by_the_function() -> None:
    assert kinds_of("tests.support.names:find") == ["name"]
    assert kinds_of("tests.support.names:hang") == ["address", "name"]
    for name, told in (
        ("tests.support.names:NUMBER", "is no function, but int"),
        ("tests.support.names:nothing", "cannot be imported: AttributeError"),
        ("no_such_module_at_all:find", "cannot be imported: ModuleNotFoundError"),
    ):
        with pytest.raises(NerError, match=told):
            kinds_of(name)
