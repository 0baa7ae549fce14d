"""The changelog of stages' tables: it has all that lives, and not much more."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.app.stage_tables import state as state_module
from hookstream.app.stage_tables.state import ChangelogSize, TablesState, settle, write_tables
from hookstream.app.stage_tables.window import Window
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import Partition
from hookstream.codecs.routed import decode_changes
from hookstream.tables.errors import TableError
from hookstream.tables.stages import StageTable
from hookstream.testing import make_event

NUMBER = 3
CHANGELOG = keys.changelog(NUMBER, "stages")


class Log:
    """Of Redis: one stream and one hash, as commit.lua writes them."""

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, dict[bytes, bytes]]] = []
        self.sizes: dict[bytes, bytes] = {}
        self.time = 0
        #: bytes that each entry of ``entries`` counts for, by its id
        self._counted: dict[bytes, int] = {}

    async def xrange(self, key: str, first: str, last: str, count: int) -> Any:
        assert (key, first) == (CHANGELOG, "-")
        end = entry_order(last)
        return [e for e in self.entries if entry_order(e[0].decode()) <= end][:count]

    def commit(self, writes: Writes) -> None:
        ids = []
        for command, key, args in writes.commands:
            if command == "XADD":
                assert key == CHANGELOG
                self.time += 1
                ids.append(f"{self.time}-0".encode())
                self.entries.append((ids[-1], {b"d": args[2]}))  # type: ignore[dict-item]
            elif command == "XTRIM":
                least = entry_order(str(args[1]))
                self.entries = [e for e in self.entries if entry_order(e[0].decode()) >= least]
            else:
                assert (command, key) == ("HSET", keys.table_log(NUMBER))
                pairs = zip(args[::2], args[1::2], strict=True)
                self.sizes = {str(k).encode(): str(v).encode() for k, v in pairs}
        writes.follow(ids)

    def bytes(self) -> int:
        return sum(self._counted.get(e[0]) or self._count(*e) for e in self.entries)

    def _count(self, entry_id: bytes, fields: dict[bytes, bytes]) -> int:
        changes = decode_changes(fields[b"d"])[1]
        counted = sum(len(key) + len(value) + state_module.CHANGE_BYTES for key, value in changes)
        self._counted[entry_id] = counted
        return counted

    def rebuilt(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for _, fields in self.entries:
            found |= dict(decode_changes(fields[b"d"])[1])
        return {key: value for key, value in found.items() if value}


class Rig:
    """One partition with a table on disk and such a changelog."""

    def __init__(self, folder: Path, windows: dict[bytes, Window] | None = None) -> None:
        self.log = Log()
        self.partition = Partition(NUMBER, 1, "n")
        self.table = StageTable(folder / "stages-3")
        self.state = TablesState(self.table, windows or {})
        self.partition.add(self.state)
        self.made = 0

    async def batch(self, at_ms: int, changes: dict[bytes, bytes]) -> None:
        self.made += 1
        event = make_event(number=self.made, received_at_ms=at_ms)
        batch = Batch("events", self.partition, [Entry("1-0", b"", event)], lambda *_: None)
        for key, value in changes.items():
            batch.tables.put(key, value, batch.entries[0])
        writes = Writes()
        await write_tables(self.log, writes, batch, settle(batch))
        self.log.commit(writes)

    def holds(self) -> dict[bytes, bytes]:
        return dict(self.table.scan(b"", b"\xff" * 40))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.state.close()


async def test_a_changelog_is_bounded_by_what_lives(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "COMPACT_BYTES", 2000)
    draw, model = random.Random(5), dict[bytes, bytes]()
    largest = 0
    for number in range(3000):
        changes = {}
        for _ in range(draw.randint(1, 4)):
            key = f"t\0vkey{draw.randint(0, 60)}".encode()
            changes[key] = b"" if draw.random() < 0.1 else str(number).encode()
        await rig.batch(number, changes)
        model |= changes
        largest = max(largest, rig.log.bytes())
        if number % 500 == 0:
            assert rig.log.rebuilt() == {k: v for k, v in model.items() if v}
        assert rig.state.size.logged == rig.log.bytes()
    alive = {key: value for key, value in model.items() if value}
    assert rig.holds() == rig.log.rebuilt() == alive
    size = sum(len(k) + len(v) + state_module.CHANGE_BYTES for k, v in alive.items())
    assert largest < 5 * size + 2000, "it grew beyond its bound"
    known = ChangelogSize.decode("key", rig.log.sizes)
    assert known == rig.state.size


async def test_a_size_that_cannot_be_read_begins_anew() -> None:
    assert ChangelogSize.decode("k", {b"logged": b"x", b"until": b"?"}) == ChangelogSize()
    found = ChangelogSize.decode("k", {b"logged": b"5", b"kept": b"2", b"until": b"7-1"})
    assert found == ChangelogSize(5, 2, "7-1")


async def test_windows_that_are_over_are_deleted_and_not_written_again(tmp_path: Path) -> None:
    prefix = b"counts\0w"
    rig = Rig(tmp_path, {prefix: Window(60_000, 60_000, 120_000)})
    start = 1_800_000_000_000 - 1_800_000_000_000 % 60_000

    def key(minute: int) -> bytes:
        return prefix + Window.encode(start + minute * 60_000) + b'"a"'

    for minute in range(10):
        await rig.batch(start + minute * 60_000, {key(minute): b"1"})
    # the window of minute 6 ended at minute 7, and is kept for two minutes more
    assert list(rig.holds()) == [key(minute) for minute in (6, 7, 8, 9)]
    assert rig.log.rebuilt() == rig.holds()
    # one batch with an event that is late beyond that, and one that is not
    await rig.batch(start + 9 * 60_000, {key(2): b"1", key(8): b"2"})
    assert rig.holds()[key(8)] == b"2"
    assert key(2) not in rig.holds()
    await rig.batch(start + 5 * 60_000, {key(5): b"1"})
    assert list(rig.holds()) == [key(minute) for minute in (6, 7, 8, 9)]
    rig.state.close()


async def test_what_was_not_committed_is_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.batch(1, {b"a": b"1"})
    before = rig.state.size
    batch = Batch(
        "events", rig.partition, [Entry("2-0", b"", make_event(number=2))], lambda *_: None
    )
    batch.tables.put(b"a", b"2", batch.entries[0])
    await write_tables(rig.log, Writes(), batch, settle(batch))
    assert rig.state.size == before
    assert rig.holds() == {b"a": b"1"}


def test_a_table_says_who_wrote_last(tmp_path: Path) -> None:
    table = StageTable(tmp_path / "stages-0")
    table.apply([(b"a", b"1"), (b"b", b"1")], "1-0")
    table.apply([(b"b", b"2"), (b"c", b"3")], "2-0")
    assert table.newest([(b"a", b"1"), (b"b", b"1")], "1-0") == [(b"a", b"1")]
    assert table.newest([(b"b", b"2"), (b"c", b"3")], "2-0") == [(b"b", b"2"), (b"c", b"3")]
    table.apply([(b"c", b"")], "3-0")
    assert table.newest([(b"c", b"3")], "2-0") == []
    assert table.get(b"c") is None
    assert table.position() == "3-0"
    table.close()
    with pytest.raises(TableError):
        table.get(b"a")
