"""Which entries of a partition go next."""

from dataclasses import replace
from typing import Any

from hookstream.app.streams.batch import Entry
from hookstream.app.streams.deaths import GROUP, Deaths, Trials
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.slot import Slot
from hookstream.app.streams.suspects import Suspects
from hookstream.testing import make_event


def slot_of(*entries: Entry, deaths: dict[str, tuple[int, int]] | None = None) -> Slot:
    partition, nobody = Partition(0, 1, "n"), Any
    suspects = Suspects(nobody, partition, "events", Trials(), Deaths(deaths or {}))
    slot = Slot(nobody, partition, suspects, limit=100)
    slot.buffer.extend(entries)
    return slot


def test_a_batch_is_cut_by_what_its_payloads_may_take_parsed() -> None:
    bomb = replace(make_event({}), payload=b"[" + b"[]," * 99_999 + b"0]")
    slot = slot_of(*(Entry(f"{number + 1}-0", b"x", bomb) for number in range(10)))
    # 300 KB each, which may take 7.5 MB
    assert [len(slot.take()) for _ in range(3)] == [4, 4, 2]


def test_a_batch_has_what_is_suspected_or_what_waited_or_what_was_read() -> None:
    names = [f"{number}-0" for number in range(1, 50)]
    entries = [Entry(name, b"x", "value") for name in names]
    entries[0].listed = entries[1].listed = "key"
    deaths = {names[4]: (3, 0)} | dict.fromkeys(names[5:45], (2, 0))
    slot = slot_of(*entries, deaths=deaths)
    batches = [slot.take() for _ in range(6)]
    assert [len(batch) for batch in batches] == [2, 2, 1, GROUP, 40 - GROUP, 4]
    assert [entry for batch in batches for entry in batch] == entries
