"""Whose a write to a table is, and which of them count."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.streams.table_writes import SplitBatchError, TableWrites


@dataclass(eq=False)
class Worker:
    """An event of a batch: how often it counts ``key`` in each of two stages, and if it fails."""

    key: bytes
    fails: bool


def count(writes: TableWrites[Worker], worker: Worker) -> None:
    known = writes.read(worker.key, worker)
    writes.put(worker.key, str(int(known or b"0") + 1).encode(), worker)


def worked(workers: list[Worker]) -> dict[bytes, int]:
    """What a batch commits, worked on in ever smaller parts where it has to be."""
    writes: TableWrites[Worker] = TableWrites()
    for _ in ("first stage", "second stage"):
        for worker in workers:
            count(writes, worker)
    try:
        changes = writes.settle(workers, lambda worker: worker.fails)
        return {key: int(value) for key, value in changes}
    except SplitBatchError as error:
        at = max(1, error.at)
    assert at < len(workers), "a part is smaller, and one event alone builds on nobody"
    first, rest = worked(workers[:at]), worked(workers[at:])
    return {key: first.get(key, 0) + rest.get(key, 0) for key in first | rest}


@given(
    st.lists(
        st.builds(Worker, key=st.sampled_from([b"a", b"b", b"c"]), fails=st.booleans()),
        max_size=12,
    )
)
def test_what_gets_through_is_counted_and_what_fails_is_not(workers: list[Worker]) -> None:
    wanted: dict[bytes, int] = {}
    for worker in workers:
        if not worker.fails:
            wanted[worker.key] = wanted.get(worker.key, 0) + 2
    assert worked(workers) == wanted


def test_what_nobody_has_built_on_is_left_out_without_more_work() -> None:
    first, failed, other = Worker(b"a", False), Worker(b"b", True), Worker(b"a", False)
    writes: TableWrites[Worker] = TableWrites()
    for worker in (first, failed, other):
        count(writes, worker)
    assert writes.settle([first, failed, other], lambda w: w.fails) == [(b"a", b"2")]


def test_what_was_only_read_counts_as_built_on() -> None:
    failed, reader = Worker(b"a", True), Worker(b"a", False)
    writes: TableWrites[Worker] = TableWrites()
    count(writes, failed)
    assert writes.read(b"a", reader) == b"1"
    with pytest.raises(SplitBatchError):
        writes.settle([failed, reader], lambda w: w.fails)


def test_a_stage_that_raises_leaves_nothing_to_build_on() -> None:
    first, failed, other = Worker(b"a", False), Worker(b"a", True), Worker(b"a", False)
    writes: TableWrites[Worker] = TableWrites()
    count(writes, first)
    count(writes, failed)
    writes.undo(failed)
    count(writes, other)
    assert writes.settle([first, failed, other], lambda w: w.fails) == [(b"a", b"2")]


def test_what_was_looked_through_counts_as_built_on() -> None:
    failed, reader = Worker(b"a", True), Worker(b"b", False)
    writes: TableWrites[Worker] = TableWrites()
    count(writes, failed)
    assert list(writes.between(b"a", b"b", reader)) == [(b"a", b"1")]
    with pytest.raises(SplitBatchError):
        writes.settle([failed, reader], lambda w: w.fails)
