"""A partition's table after its changelog: missing, older, ahead, damaged in any file."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.ids import new_event_id
from hookstream.app.redis import keys
from hookstream.app.streams.recovery import open_restored
from hookstream.codecs.routed import encode_changes
from hookstream.tables.dedup import DedupTable, Mark, encode_mark, mark_key
from hookstream.tables.errors import TableCorruptError, TableError
from hookstream.tables.stages import StageTable
from tests.support.faults import full_disk
from tests.support.stack import Stack, eventually

NUMBER = 3
COUNT = 2500


def change(n: int) -> tuple[bytes, bytes]:
    mark = Mark(f"{n + 1}-0", new_event_id(n, NUMBER, n), 2**40 + n)
    return mark_key(f"m{n}"), encode_mark(mark)


async def log(redis: Any, numbers: range) -> None:
    """What a commit writes to the changelog, some entries a transaction."""
    async with redis.pipeline() as pipe:
        for n in numbers:
            changes = encode_changes("dedup", [change(n)])
            pipe.xadd(keys.changelog(NUMBER), {"d": changes}, id=f"{n + 1}-0")
        await pipe.execute()


def holds(table: DedupTable, numbers: range) -> bool:
    """Whether the table holds exactly the marks of ``numbers``, and is where they end."""
    wanted = dict(change(n) for n in numbers)
    found = table.get(list(wanted))
    same = {key: encode_mark(mark) for key, mark in found.items()} == wanted
    return same and len(table) == len(numbers) and table.position() == f"{numbers[-1] + 1}-0"


async def opened(redis: Any, folder: Path, numbers: range) -> None:
    """Open, look, close."""
    table = await open_restored(redis, folder, NUMBER, DedupTable)
    try:
        assert holds(table, numbers)
    finally:
        table.close()


@pytest.fixture
async def folder(redis_client: Any, tmp_path: Path) -> Path:
    """A folder with a table that has seen all of a changelog."""
    await log(redis_client, range(COUNT))
    await opened(redis_client, tmp_path, range(COUNT))
    return tmp_path


async def test_a_missing_table_is_built_from_the_changelog(redis_client: Any, folder: Path) -> None:
    shutil.rmtree(folder / f"dedup-{NUMBER}")
    await opened(redis_client, folder, range(COUNT))


async def test_an_older_table_reads_only_what_it_has_missed(
    redis_client: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log(redis_client, range(COUNT, COUNT + 10))
    applied = []
    apply = DedupTable.apply
    monkeypatch.setattr(
        DedupTable, "apply", lambda *given: (applied.append(given[2]), apply(*given))[1]
    )
    await opened(redis_client, folder, range(COUNT + 10))
    assert applied == [f"{n + 1}-0" for n in range(COUNT, COUNT + 10)]


@pytest.mark.parametrize("junk", [{"zz": "notanumber"}, {"d": b"\xff\xff\xff"}])
async def test_what_nobody_of_ours_wrote_is_passed_over(
    redis_client: Any, folder: Path, junk: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Standing still for ever would be worse."""
    await redis_client.xadd(keys.changelog(NUMBER), junk, id=f"{COUNT + 1}-0")
    await log(redis_client, range(COUNT + 1, COUNT + 5))
    table = await open_restored(redis_client, folder, NUMBER, DedupTable)
    try:
        assert (len(table), table.position()) == (COUNT + 4, f"{COUNT + 5}-0")
    finally:
        table.close()
    assert f"entry {COUNT + 1}-0 is passed over" in caplog.text


async def test_a_table_ahead_of_redis_is_built_anew(redis_client: Any, folder: Path) -> None:
    """A failover took back the end of the changelog, and others have written since."""
    gone = [f"{n + 1}-0" for n in range(COUNT - 7, COUNT)]
    assert await redis_client.xdel(keys.changelog(NUMBER), *gone) == 7
    await opened(redis_client, folder, range(COUNT - 7))


async def test_a_table_older_than_the_changelog_is_built_anew(
    redis_client: Any, folder: Path
) -> None:
    await log(redis_client, range(COUNT, COUNT + 10))
    await redis_client.xtrim(keys.changelog(NUMBER), minid=f"{COUNT + 6}-0", approximate=False)
    await opened(redis_client, folder, range(COUNT + 5, COUNT + 10))


async def test_a_table_outlives_a_changelog_that_was_lost(redis_client: Any, folder: Path) -> None:
    """Nothing else is missing: what the table knows is true, and without it copies would pass."""
    await redis_client.xadd(keys.audit(NUMBER), {"d": b"of the same commit"}, id=f"{COUNT}-1")
    await redis_client.delete(keys.changelog(NUMBER))
    await opened(redis_client, folder, range(COUNT))


async def test_a_table_is_not_believed_where_redis_is_behind_it(
    redis_client: Any, folder: Path
) -> None:
    """An older copy, which had no changelog yet: the same commits are missing elsewhere too."""
    await redis_client.xadd(keys.audit(NUMBER), {"d": b"earlier"}, id=f"{COUNT - 1}-1")
    await redis_client.delete(keys.changelog(NUMBER))
    table = await open_restored(redis_client, folder, NUMBER, DedupTable)
    try:
        assert len(table) == 0
    finally:
        table.close()


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(64))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "overwritten": overwrite,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_to_any_file_is_mended(redis_client: Any, folder: Path, damage: str) -> None:
    """A table is right, or it is built anew, also where reading finds out later."""
    table = folder / f"dedup-{NUMBER}"
    shutil.copytree(table, folder / "whole")
    names = sorted(path.name for path in table.iterdir() if path.name not in ("LOCK", "LOG"))
    assert len(names) >= 4
    for name in names:
        DedupTable.wipe(table)
        shutil.copytree(folder / "whole", table)
        DAMAGES[damage](table / name)
        try:
            await opened(redis_client, folder, range(COUNT))
        except TableCorruptError:
            # found out on the first read: ownership wipes it and opens it again
            DedupTable.wipe(table)
            await opened(redis_client, folder, range(COUNT))


async def test_a_table_in_use_is_not_wiped(redis_client: Any, folder: Path) -> None:
    table = await open_restored(redis_client, folder, NUMBER, DedupTable)
    with pytest.raises(TableError, match="lock"):
        await open_restored(redis_client, folder, NUMBER, DedupTable)
    assert holds(table, range(COUNT))
    table.close()


async def test_full_disk_is_no_damage(redis_client: Any, folder: Path) -> None:
    table = await open_restored(redis_client, folder, NUMBER, DedupTable)
    big = [(mark_key(f"big{n}"), change(n)[1]) for n in range(20_000)]
    with full_disk(300_000):
        with pytest.raises(TableError) as caught:
            table.apply(big, f"{COUNT + 1}-0")
        assert not isinstance(caught.value, TableCorruptError)
        table.close()
    DedupTable(folder / f"dedup-{NUMBER}").close()


def _delete(tables: Path, kept: Path) -> None:
    shutil.rmtree(tables)


def _put_back(tables: Path, kept: Path) -> None:
    shutil.rmtree(tables)
    shutil.copytree(kept, tables)


def _corrupt(tables: Path, kept: Path) -> None:
    for path in tables.rglob("*"):
        if path.is_file() and path.name != "LOCK":
            overwrite(path)


@pytest.mark.parametrize("harm", [_delete, _put_back, _corrupt])
async def test_duplicates_are_known_whatever_became_of_the_table(
    tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    with Stack(tmp_path) as stack:
        await stack.opened()
        await stack.context("kept", {"provider": "none"})
        first = [await stack.hook("kept", b'{"n": %d}' % n) for n in range(5)]
        await stack.updates("kept", 5)
        tables, kept = stack.state_dir / "state" / "tables", tmp_path / "kept"
        shutil.copytree(tables, kept)
        first += [await stack.hook("kept", b'{"n": %d}' % n) for n in range(5, 10)]
        await stack.updates("kept", 10)
        stack.find("worker").kill()
        harm(tables, kept)
        again = [await stack.hook("kept", b'{"n": %d}' % n) for n in range(10)]
        fresh = await stack.hook("kept", b'{"n": 10}')
        updates = await stack.updates("kept", 11)
        assert [update["event_id"] for update in updates] == [*first, fresh]
        for copy, original in zip(again, first, strict=True):

            async def known(copy: str = copy, original: str = original) -> bool:
                return (await stack.get(f"/events/{copy}"))["duplicate_of"] == original

            await eventually(known, "the copy is known as one")


async def test_table_that_could_not_be_read_anew_is_not_left_open(
    redis_client: Any, folder: Path
) -> None:
    class Away:
        """Redis is away in the middle of it."""

        async def xrange(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError("away")

    with pytest.raises(ConnectionError) as raised:
        await open_restored(Away(), folder, NUMBER, DedupTable)
    # the error is still remembered, as it is by whoever logs it
    assert raised.traceback
    await opened(redis_client, folder, range(COUNT))


async def test_a_table_that_missed_a_compaction_is_built_anew(
    redis_client: Any, tmp_path: Path
) -> None:
    async def write(entry_id: str, *changes: tuple[bytes, bytes]) -> None:
        entry = {"d": encode_changes("stages", changes)}
        await redis_client.xadd(keys.changelog(NUMBER, "stages"), entry, id=entry_id)

    async def found() -> list[tuple[bytes, bytes]]:
        table = await open_restored(redis_client, tmp_path, NUMBER, StageTable)
        try:
            return table.scan(b"", b"\xff")
        finally:
            table.close()

    await write("1-0", (b"a", b"1"), (b"b", b"1"))
    assert await found() == [(b"a", b"1"), (b"b", b"1")]
    await write("2-0", (b"a", b""))
    await write("3-0", (b"b", b"1"))
    await redis_client.xtrim(keys.changelog(NUMBER, "stages"), minid="3-0", approximate=False)
    # Redis has lost nothing
    await redis_client.xadd(keys.audit(NUMBER), {"d": b""}, id="3-0")
    assert await found() == [(b"b", b"1")]
