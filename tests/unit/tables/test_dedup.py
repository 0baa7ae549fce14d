"""The rule of dedup, and its table on disk."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.ids import new_event_id
from hookstream.tables.dedup import (
    Candidate,
    DedupTable,
    Mark,
    Own,
    Record,
    Verdict,
    decide,
    decode_mark,
    encode_mark,
    mark_key,
    mark_keys,
)
from hookstream.tables.errors import TableCorruptError, TableError

COPY_MS = 200


def event_id(number: int) -> str:
    return new_event_id(1_000_000 + number, 0, number)


# Made once: what is made within an example is checked in each.
SHORT_WINDOWS, WINDOWS = st.sampled_from([0, 20, 50]), st.sampled_from([0, 20, 50, COPY_MS, 300])
STEPS, HISTORIES = st.sampled_from([0, 1, 5, 30, 100]), st.sampled_from([0, 100, 200])


@st.composite
def streams(draw: st.DrawFn) -> list[Candidate]:
    """Entries in stream order, of few message ids, with windows of some milliseconds."""
    now, entries = 1000, []
    for number in range(draw(st.integers(1, 40))):
        now += draw(st.integers(0, 30))
        entries.append(
            Candidate(
                f"{now}-{number}",
                event_id(number),
                f"m{draw(st.integers(0, 4))}",
                draw(SHORT_WINDOWS),
            )
        )
    return entries


def model(entries: list[Candidate]) -> list[str]:
    """The plain statement of the rule: the first within the window, by time of entry."""
    first: dict[str, tuple[int, str]] = {}
    found = []
    for entry in entries:
        now = int(entry.entry_id.split("-")[0])
        ends, event = first.get(entry.message_id, (0, ""))
        if entry.window_ms and now < ends:
            found.append(event)
            continue
        if entry.window_ms:
            first[entry.message_id] = (now + entry.window_ms, entry.event_id)
        found.append("")
    return found


def judged(entries: list[Candidate], cuts: list[int]) -> list[str]:
    """The verdicts when the stream is read in batches that end at ``cuts``."""
    kept: dict[bytes, Mark] = {}
    found: list[str] = []
    edges = sorted({0, len(entries), *(cut % (len(entries) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        verdict = decide(entries[start:end], kept)
        kept |= {key: decode_mark(value) for key, value in verdict.changes}
        found += verdict.duplicate_of
    return found


@given(streams(), st.lists(st.integers(0, 100), max_size=6))
def test_verdict_is_the_rule_however_the_stream_is_cut(
    entries: list[Candidate], cuts: list[int]
) -> None:
    assert judged(entries, cuts) == model(entries)


@given(streams())
def test_redelivered_entry_is_not_a_duplicate(entries: list[Candidate]) -> None:
    verdict = decide(entries, {})
    kept = {key: decode_mark(value) for key, value in verdict.changes}
    marked = {mark.entry_id for mark in kept.values()}
    again = [entry for entry in entries if entry.entry_id in marked and entry.window_ms]
    repeated = decide(again, kept)
    assert set(repeated.duplicate_of) <= {""}
    assert repeated.changes == ()


@st.composite
def copied_streams(draw: st.DrawFn) -> list[Candidate]:
    """As :func:`streams`, in which some events are appended again, late and more than once."""
    now, entries = 1000, []
    for number in range(draw(st.integers(1, 40))):
        now += draw(STEPS)
        if entries and draw(st.integers(0, 2)) == 0:
            first = entries[draw(st.integers(0, len(entries) - 1))]
            entries.append(replace(first, entry_id=f"{now}-{number}"))
            continue
        window = draw(WINDOWS)
        own = Own(f"own:{number}", COPY_MS) if window < COPY_MS else None
        entries.append(
            Candidate(
                f"{now}-{number}",
                event_id(number),
                f"m{draw(st.integers(0, 3))}" if window else "",
                window,
                own=own,
            )
        )
    return entries


def judged_with_purges(
    entries: list[Candidate], cuts: list[int], *, forget: bool
) -> list[tuple[str, str]]:
    """First event and layer of each; ``forget``: marks go as soon as they have ended."""
    kept: dict[bytes, Mark] = {}
    found: list[tuple[str, str]] = []
    edges = sorted({0, len(entries), *(cut % (len(entries) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        now = now_ms(entries[start])
        if forget:
            kept = {key: mark for key, mark in kept.items() if mark.expires_ms > now}
        wanted = set(mark_keys(entries[start:end]))
        verdict = decide(
            entries[start:end], {key: mark for key, mark in kept.items() if key in wanted}
        )
        kept |= {key: decode_mark(value) for key, value in verdict.changes}
        found += zip(verdict.duplicate_of, verdict.layers, strict=True)
    return found


def is_copy(entries: list[Candidate], at: int) -> bool:
    return any(entry.event_id == entries[at].event_id for entry in entries[:at])


@given(copied_streams(), st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_a_copy_changes_nothing_for_other_events(
    entries: list[Candidate], cuts: list[int], forget: bool
) -> None:
    entries = [replace(e, own=Own(f"own:{e.event_id}", COPY_MS)) for e in entries]
    firsts = [entry for at, entry in enumerate(entries) if not is_copy(entries, at)]
    found = judged_with_purges(entries, cuts, forget=False)
    others = [first for at, (first, _) in enumerate(found) if not is_copy(entries, at)]
    assert others == model(firsts)
    for at, (first, layer) in enumerate(judged_with_purges(entries, cuts, forget=forget)):
        assert (layer == "copy") == (first == entries[at].event_id)
        assert layer != "copy" or is_copy(entries, at)


@given(copied_streams(), st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_no_event_passes_twice_within_the_copy_window_whatever_its_tools_window(
    entries: list[Candidate], cuts: list[int], forget: bool
) -> None:
    """Nor later, while a mark of its own that has ended is still there."""
    came: dict[str, int] = {}
    passed: set[str] = set()
    for entry, (first, _) in zip(
        entries, judged_with_purges(entries, cuts, forget=forget), strict=True
    ):
        now, before = now_ms(entry), came.setdefault(entry.event_id, now_ms(entry))
        if not first:
            ended = now >= before + COPY_MS and (forget or not entry.own)
            assert ended or entry.event_id not in passed
            passed.add(entry.event_id)


@given(copied_streams())
def test_a_redelivered_batch_is_judged_as_before(entries: list[Candidate]) -> None:
    """Its marks were written and its acknowledgement was not: it is itself, and leaves no more."""
    verdict = decide(entries, {})
    kept = {key: decode_mark(value) for key, value in verdict.changes}
    marked = {mark.entry_id for mark in kept.values()}
    passed = [
        entry
        for entry, first in zip(entries, verdict.duplicate_of, strict=True)
        if not first and entry.entry_id in marked
    ]
    again = decide(passed, kept)
    assert set(again.duplicate_of) <= {""}


def short(entry_id: str, number: int, *, again: bool = False, **own: Any) -> Candidate:
    """An event of a tool whose window is 50 ms."""
    mark = Own(f"own:{number}", COPY_MS, **own)
    return Candidate(entry_id, event_id(number), "m", 50, again, own=mark)


def kept_after(*batches: list[Candidate]) -> dict[bytes, Mark]:
    kept: dict[bytes, Mark] = {}
    for batch in batches:
        kept |= {key: decode_mark(value) for key, value in decide(batch, kept).changes}
    return kept


def test_a_copy_is_known_though_another_true_event_has_taken_the_message_id() -> None:
    kept = kept_after([short("1000-0", 1)], [short("1060-0", 2)])
    verdict = decide([short("1150-0", 1)], kept)
    assert (verdict.duplicate_of, verdict.layers) == ((event_id(1),), ("copy",))
    assert verdict.changes == ()


def test_a_copy_of_a_duplicate_is_a_copy_when_the_first_ones_window_is_over() -> None:
    kept = kept_after([short("1000-0", 1), short("1049-0", 2)])
    assert decide([short("1060-0", 2)], kept).layers == ("copy",)


def test_an_event_that_is_tried_again_is_no_duplicate_of_one_after_its_window() -> None:
    kept = kept_after([short("1000-0", 1)], [short("1060-0", 2)])
    verdict = decide([short("1070-0", 1, again=True)], kept)
    assert (verdict.duplicate_of, verdict.changes) == (("",), ())
    # within it the other one is the same, whichever was judged first
    unread = kept_after([short("1000-0", 1, failed=True)], [short("1040-0", 2)])
    again = decide([short("1070-0", 1, again=True)], unread)
    assert again.duplicate_of == (event_id(2),)


def test_what_failed_before_it_was_judged_is_told_from_its_copy_and_leaves_no_window() -> None:
    kept = kept_after([short("1000-0", 1, failed=True)])
    assert set(kept) == {mark_key("own:1")}
    assert decide([short("1010-0", 1)], kept).layers == ("copy",)
    assert decide([short("1010-0", 2)], kept).duplicate_of == ("",)
    # a copy of what was delivered does not come again by way of a letter
    delivered = kept_after([short("1000-0", 1)])
    assert decide([short("1010-0", 1, failed=True)], delivered).layers == ("copy",)


def test_of_two_that_waited_unread_for_a_newer_worker_one_passes() -> None:
    """Both come again from letters of their own; what tells them apart is where they first were."""
    first = short("1010-0", 1, again=True, origin="1000-0")
    copy = short("1010-1", 1, again=True, origin="1005-0")
    verdict = decide([first, copy], {})
    assert verdict.layers == ("", "copy")
    kept = {key: decode_mark(value) for key, value in verdict.changes}
    # and comes for a second try as what it is
    assert decide([replace(first, entry_id="1030-0")], kept).duplicate_of == ("",)
    assert decide([replace(copy, entry_id="1031-0")], kept).layers == ("copy",)


def test_window_ends_to_the_millisecond() -> None:
    first = Candidate("1000-0", event_id(1), "m", 50)
    kept = {key: decode_mark(value) for key, value in decide([first], {}).changes}
    assert decide([Candidate("1049-0", event_id(2), "m", 50)], kept).duplicate_of == (event_id(1),)
    assert decide([Candidate("1050-0", event_id(2), "m", 50)], kept).duplicate_of == ("",)


def test_no_key_is_built_from_an_empty_part() -> None:
    with pytest.raises(ValueError, match="without a message id"):
        mark_key("")


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 2**40))
def test_mark_comes_back_as_it_was(ms: int, seq: int, expires: int) -> None:
    mark = Mark(f"{ms}-{seq}", event_id(7), expires)
    assert decode_mark(encode_mark(mark)) == mark


def test_mark_of_another_length_is_corrupt() -> None:
    with pytest.raises(TableCorruptError):
        decode_mark(b"short")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[DedupTable]:
    opened = DedupTable(tmp_path / "dedup-0")
    yield opened
    opened.close()


def marks(count: int, expires_ms: int, prefix: str = "m") -> list[tuple[bytes, bytes]]:
    return [
        (mark_key(f"{prefix}{n}"), encode_mark(Mark(f"1-{n}", event_id(n), expires_ms)))
        for n in range(count)
    ]


def test_marks_and_position_outlive_the_process(tmp_path: Path) -> None:
    first = DedupTable(tmp_path / "dedup-0")
    assert first.position() == "0-0"
    first.apply(marks(3, 100), "5-1")
    with pytest.raises(TableError):
        DedupTable(tmp_path / "dedup-0")
    first.close()
    again = DedupTable(tmp_path / "dedup-0")
    assert again.position() == "5-1"
    assert set(again.get([mark_key("m0"), mark_key("m2"), mark_key("x")])) == {
        mark_key("m0"),
        mark_key("m2"),
    }
    again.close()


def test_purge_deletes_what_ended_and_nothing_else(table: DedupTable) -> None:
    table.apply(marks(50, 100, "old"), "1-1")
    table.apply(marks(50, 500, "new"), "1-2")
    # marked anew after its window ended: its first expiry must not take the new mark along
    table.apply(marks(1, 900, "old"), "1-3")
    assert table.purge(100) == 0
    assert table.purge(101) == 50
    assert len(table) == 51
    assert table.purge(101) == 0
    assert table.get([mark_key("old0")])[mark_key("old0")].expires_ms == 900
    assert table.purge(1000) == 51
    assert len(table) == 0


def test_purge_is_bounded_and_goes_on_where_it_stopped(table: DedupTable) -> None:
    table.apply(marks(25, 100), "1-1")
    assert [table.purge(1000, limit=10) for _ in range(4)] == [10, 10, 5, 0]


def test_table_whose_manifest_is_damaged_is_reported_as_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "dedup-0"
    table = DedupTable(path)
    table.apply(marks(3, 100), "1-1")
    table.close()
    [manifest] = path.glob("MANIFEST-*")
    manifest.write_bytes(b"\xff" * 200)
    with pytest.raises(TableCorruptError):
        DedupTable(path)
    DedupTable.wipe(path)
    DedupTable(path).close()


@st.composite
def remembered_streams(draw: st.DrawFn) -> list[Candidate]:
    """As :func:`streams`, with a history of some more milliseconds for some."""
    return [
        replace(entry, history_ms=draw(HISTORIES) if entry.window_ms else 0)
        for entry in draw(streams())
    ]


def replayed(entries: list[Candidate], cuts: list[int], *, away: bool = False) -> list[Verdict]:
    """Verdicts in batches that end at ``cuts``, with an exact record that is written in between.

    ``away``: the event log does not answer.
    """
    kept: dict[bytes, Mark] = {}
    recorded: dict[bytes, list[Record]] = {}
    verdicts = []
    edges = sorted({0, len(entries), *(cut % (len(entries) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        batch = entries[start:end]
        records: dict[bytes, Record | None] = {}
        for entry in batch:
            key, since = mark_key(entry.message_id), now_ms(entry) - entry.history_ms
            earlier = [record for record in recorded.get(key, ()) if record.at_ms > since]
            if entry.history_ms and key in recorded and (away or earlier):
                records.setdefault(key, None if away else earlier[0])
        verdict = decide(batch, kept, records)
        verdicts.append(verdict)
        kept |= {key: decode_mark(value) for key, value in verdict.changes}
        for entry, first in zip(batch, verdict.duplicate_of, strict=True):
            if not first and entry.window_ms:
                record = Record(entry.event_id, entry.entry_id, now_ms(entry))
                recorded.setdefault(mark_key(entry.message_id), []).append(record)
    return verdicts


def now_ms(entry: Candidate) -> int:
    return int(entry.entry_id.split("-")[0])


@given(remembered_streams(), st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_what_is_called_a_duplicate_names_a_fresh_event_with_its_message_id(
    entries: list[Candidate], cuts: list[int], away: bool
) -> None:
    """No false drop: whatever passes or not, each duplicate's first one was delivered."""
    by_id = {entry.event_id: entry for entry in entries}
    verdicts = replayed(entries, cuts, away=away)
    found = [first for verdict in verdicts for first in verdict.duplicate_of]
    layers = [layer for verdict in verdicts for layer in verdict.layers]
    fresh = {e.event_id for e, first in zip(entries, found, strict=True) if not first}
    for entry, first, layer in zip(entries, found, layers, strict=True):
        assert bool(first) == (layer in ("window", "history"))
        if not first:
            continue
        assert first in fresh
        assert first != entry.event_id
        assert by_id[first].message_id == entry.message_id
        age = now_ms(entry) - now_ms(by_id[first])
        assert age >= 0
        assert layer == "window" or age < entry.history_ms


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=40),
    st.lists(st.integers(0, 100), max_size=6),
)
def test_nothing_within_history_is_missed_while_the_record_answers(
    steps: list[tuple[int, int]], cuts: list[int]
) -> None:
    now, entries = 1000, []
    for number, (wait, message) in enumerate(steps):
        now += wait
        entries.append(
            Candidate(f"{now}-{number}", event_id(number), f"m{message}", 20, history_ms=200)
        )
    found = [first for verdict in replayed(entries, cuts) for first in verdict.duplicate_of]
    first_seen: dict[str, tuple[int, str]] = {}
    for entry, first in zip(entries, found, strict=True):
        at, known = first_seen.get(entry.message_id, (-1000, ""))
        if now_ms(entry) < at + 200:
            assert first == known
        else:
            assert first == ""
            first_seen[entry.message_id] = (now_ms(entry), entry.event_id)


def test_a_suspicion_that_nobody_can_confirm_passes_marked() -> None:
    late = Candidate("5000-0", event_id(2), "m", 50, history_ms=10_000)
    verdict = decide([late], {}, {mark_key("m"): None})
    assert verdict.duplicate_of == ("",)
    assert verdict.layers == ("unconfirmed",)
    assert verdict.remembered == ((0, mark_key("m")),)


def test_its_own_record_makes_no_event_a_duplicate() -> None:
    entry = Candidate("5000-0", event_id(2), "m", 50, history_ms=10_000)
    itself = Record(event_id(2), "1000-0", 1000)
    assert decide([entry], {}, {mark_key("m"): itself}).duplicate_of == ("",)


def test_an_event_that_is_tried_again_is_judged_by_no_history() -> None:
    again = Candidate("5000-0", event_id(1), "m", 50, again=True, history_ms=10_000)
    other = Record(event_id(2), "4000-0", 4000)
    assert decide([again], {}, {mark_key("m"): other}).duplicate_of == ("",)


def test_history_ends_to_the_millisecond() -> None:
    records: dict[bytes, Record | None] = {mark_key("m"): Record(event_id(1), "1000-0", 1000)}
    inside = Candidate("1499-0", event_id(2), "m", 50, history_ms=500)
    outside = Candidate("1500-0", event_id(2), "m", 50, history_ms=500)
    assert decide([inside], {}, records).duplicate_of == (event_id(1),)
    assert decide([outside], {}, records).duplicate_of == ("",)


def test_a_copy_that_history_found_opens_a_window_for_the_first_event() -> None:
    """A storm of late copies is one look-up, and ends when the first one's history does."""
    records: dict[bytes, Record | None] = {mark_key("m"): Record(event_id(1), "1000-0", 1000)}
    late = Candidate("1480-0", event_id(2), "m", 50, history_ms=500)
    [(_, value)] = decide([late], {}, records).changes
    assert decode_mark(value) == Mark("1000-0", event_id(1), 1500)


def note(number: int, received_ms: int, at_ms: int, history_ms: int = 0) -> Candidate:
    """An event that came by an import."""
    return Candidate(
        f"{at_ms}-{number}",
        event_id(number),
        "m0",
        50,
        history_ms=history_ms,
        noted_ms=received_ms,
    )


def test_an_imported_event_s_window_began_when_it_was_received() -> None:
    noted = decide([note(1, 1000, 1020)], {})
    assert noted.duplicate_of == (event_id(1),)
    [(key, value)] = noted.changes
    assert decode_mark(value) == Mark("1020-1", event_id(1), 1050)
    known = {key: decode_mark(value)}
    for at_ms, first in ((1049, event_id(1)), (1050, "")):
        verdict = decide([Candidate(f"{at_ms}-2", event_id(2), "m0", 50)], known)
        assert verdict.duplicate_of == (first,)
    # the same note again, in its entry or in another, changes nothing
    assert decide([note(1, 1000, 1020)], known).changes == ()
    assert decide([note(1, 1000, 1030)], known).changes == ()


def test_an_imported_event_whose_time_is_over_leaves_nothing() -> None:
    assert decide([note(1, 1000, 1050)], {}) == Verdict((event_id(1),), (), ("",), ())


def test_an_imported_event_takes_no_mark_from_one_that_came_itself() -> None:
    key = mark_key("m0")
    known = {key: Mark("1010-0", event_id(9), 1060)}
    assert decide([note(1, 1000, 1020)], known).changes == ()
    known = {key: Mark("960-0", event_id(9), 1010)}
    assert decide([note(1, 1000, 1020)], known).changes != ()


def test_history_remembers_an_imported_event_while_it_lasts() -> None:
    key = mark_key("m0")
    assert decide([note(1, 1000, 1100, history_ms=200)], {}).remembered == ((0, key),)
    assert decide([note(1, 1000, 1200, history_ms=200)], {}).remembered == ()
