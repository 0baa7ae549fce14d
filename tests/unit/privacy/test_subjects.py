"""Finding a person by keyed hashes: in every form that the value may have, and nobody else."""

import json

import pytest

from hookstream.app.privacy.subjects import MAX_VALUES, Subject, readings

KEY = b"k" * 32
MAIL, PHONE, NAME, ACCOUNT = (
    "Jane.Doe@Example.com", "+49 170 1234567", "cus_9Xk2Lp", "DE89370400440532013000"
)  # fmt: skip


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.of(KEY, [MAIL, PHONE, NAME, ACCOUNT])


@pytest.mark.parametrize(
    "text",
    [
        '{"mail":"jane.doe@example.com"}',
        "write to JANE.DOE@EXAMPLE.COM.",
        "mailto:jane.doe@example.com?subject=x",
        "m=jane.doe%40example.com&n=1",
        '{"mail":"jane\\u002edoe\\u0040example.com"}',
        json.dumps({"a": json.dumps({"b": json.dumps({"c": "jäne <jane.doe@example.com>"})})}),
        "jane.doe&#64;example.com",
        "call 00491701234567 now",
        "(+49) 170/123 45 67",
        '{"phone":491701234567}',
        "for cus_9xk2lp, again",
        "DE89 3704 0044 0532 0130 00",
    ],
)
def test_a_value_is_found_however_it_is_written(subject: Subject, text: str) -> None:
    assert subject.found_in(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mary-jane.doe@example.com",
        "jane.doe@example.com.evil.org",
        "xjane.doe@example.com",
        "1491701234567",
        "49170123456",
        "xcus_9Xk2Lp",
        "cus_9Xk2Lp7",
        '{"n": 4917012345670}',
    ],
)
def test_somebody_else_is_not(subject: Subject, text: str) -> None:
    assert not subject.found_in(text.encode())


def test_what_is_kept_says_nothing_and_is_enough(subject: Subject) -> None:
    kept = json.dumps(subject.kept())
    assert not any(part in kept.lower() for part in ("jane", "example", "1701234567", "cus_"))
    again = Subject.read(KEY, json.loads(kept))
    assert again.found_in(b"jane.doe@example.com")
    other = Subject.read(b"o" * 32, json.loads(kept))
    assert not other.found_in(b"jane.doe@example.com, 491701234567")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "from 1"),
        (["x@y.de"] * (MAX_VALUES + 1), "from 1"),
        (["abc"], "fewer than 5 characters"),
        (["12 34"], "fewer than 6 digits"),
        (["x" * 300], "at most 256"),
        (["a\0bcdef"], "NUL"),
    ],
)
def test_what_would_be_found_everywhere_is_refused(values: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Subject.of(KEY, values)


def test_readings_end(subject: Subject) -> None:
    assert len(list(readings(b"\\\\" * 1000 + b"%25" * 1000))) < 12
    assert not subject.found_in(b"\\" * 100_000)
