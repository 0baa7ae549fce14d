"""Whatever is done to a chain of rows is found."""

import hashlib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.stores.audit_chain import (
    FIRST,
    ChainRow,
    Link,
    Problem,
    check_end,
    check_rows,
    export_line,
    exported_row,
)
from hookstream.app.stores.audit_trail import RefusedKeys, network_of

TEXTS = st.lists(st.text(max_size=5), min_size=2, max_size=8)


def chain(texts: list[str]) -> list[ChainRow]:
    """Rows as they are appended, each with a text of its own."""
    rows, last = [], FIRST
    for seq, text in enumerate(texts, 1):
        record = orjson.dumps({"seq": seq, "text": text})
        digest = hashlib.sha256(last.hash + record).digest()
        rows.append(ChainRow(seq, record, last.hash, digest))
        last = Link(seq, digest)
    return rows


def problems(rows: list[ChainRow], end: Link) -> list[Problem]:
    found, last = check_rows(rows, FIRST)
    return found + check_end(last, end)


def end_of(rows: list[ChainRow]) -> Link:
    return Link(rows[-1].seq, rows[-1].hash)


@given(TEXTS)
def test_what_was_appended_is_right_and_survives_its_export(texts: list[str]) -> None:
    rows = chain(texts)
    assert problems(rows, end_of(rows)) == []
    assert [exported_row(export_line(row)) for row in rows] == rows


@given(TEXTS, st.data())
def test_rows_that_are_gone_are_named(texts: list[str], data: st.DataObject) -> None:
    rows = chain(texts)
    gone = data.draw(st.sets(st.sampled_from(range(1, len(rows) + 1)), min_size=1))
    left = [row for row in rows if row.seq not in gone]
    found = problems(left, end_of(rows))
    assert {one.kind for one in found} == {"missing"}
    # the first of each gap
    assert [one.seq for one in found] == sorted(seq for seq in gone if seq - 1 not in gone)


@given(TEXTS, st.data())
def test_one_changed_row_is_one_problem(texts: list[str], data: st.DataObject) -> None:
    rows = chain(texts)
    at = data.draw(st.integers(0, len(rows) - 1))
    record = orjson.dumps({"seq": at + 1, "text": "another text"})
    rows[at] = replace(rows[at], record=record)
    assert [(one.seq, one.kind) for one in problems(rows, end_of(rows))] == [(at + 1, "changed")]


@given(TEXTS, st.data())
def test_a_row_that_is_hashed_anew_is_found_by_the_next_one_or_the_end(
    texts: list[str], data: st.DataObject
) -> None:
    rows = chain(texts)
    end, at = end_of(rows), data.draw(st.integers(0, len(rows) - 1))
    record = orjson.dumps({"seq": at + 1, "text": "another text"})
    digest = hashlib.sha256(rows[at].previous + record).digest()
    rows[at] = replace(rows[at], record=record, hash=digest)
    last = at == len(rows) - 1
    wanted = (at + 1, "changed") if last else (at + 2, "unlinked")
    assert [(one.seq, one.kind) for one in problems(rows, end)] == [wanted]


@given(TEXTS, st.data())
def test_rows_that_change_places_are_found(texts: list[str], data: st.DataObject) -> None:
    rows = chain(texts)
    one, other = data.draw(
        st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True)
    )
    end = end_of(rows)
    rows[one], rows[other] = (
        replace(rows[other], seq=one + 1),
        replace(rows[one], seq=other + 1),
    )
    moved = {problem.seq for problem in problems(rows, end) if problem.kind == "moved"}
    assert moved == {one + 1, other + 1}


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seq":1,"record":{}}', b'{"seq":"x","record":{}}'])
def test_what_is_no_line_of_an_export_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="no line of an export"):
        exported_row(line)


@pytest.mark.parametrize("text", ["", "1", "1:00", f"-1:{'0' * 64}", f"1:{'x' * 64}"])
def test_what_is_no_place_in_a_chain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hash|hex"):
        Link.parse(text)


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["", "key-1", "key-2"]))))
def test_a_flood_of_refused_keys_is_a_few_rows_and_none_is_forgotten(
    tries: list[tuple[int, str]],
) -> None:
    counts = RefusedKeys(most=5)
    for number, key_id in tries:
        reason = "forbidden" if key_id else "unknown"
        counts.add("t", f"192.0.2.{number}", key_id, reason, 0.0)
    assert counts.take(59.0) == []
    rows = [row for _, row in counts.take(60.0)]
    assert len(rows) <= 12
    for known in (True, False):
        times = [row["after"]["times"] for row in rows if bool(row["actor"]["id"]) == known]
        assert sum(times) == sum(bool(key_id) == known for _, key_id in tries)
    assert counts.take(60.0) == []


def test_one_customer_of_ipv6_is_one_address() -> None:
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert (network_of("192.0.2.7"), network_of("unix")) == ("192.0.2.7", "unix")
