"""What is stored is found, in order, once, in a folder and in a bucket, until it is taken away."""

import asyncio
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hookstream.app import metrics
from hookstream.app.archive import archive as module
from hookstream.app.archive import parquet
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.cache import ReadCache
from hookstream.app.archive.rows import Place, folder_of
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.errors import ArchiveDamagedError
from hookstream.app.postgres.pool import Postgres
from hookstream.codecs.envelope import decode_event, encode_event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.payload import StoredPayload
from tests.support.archived import HOUR, T0, alone, archived, everything, places, store, values

DAY = 24 * HOUR
NOW = datetime.fromtimestamp((T0 + 400 * DAY) / 1000, UTC)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of a few events."""
    monkeypatch.setattr(parquet, "GROUP_BYTES", 500)


async def names(archive: Archive) -> list[str]:
    return sorted([found.name async for found in archive.objects.list()])


async def differences(archive: Archive) -> list[str]:
    later = datetime.now(UTC) + timedelta(days=2)
    return [str(found) async for found in archive.verify(now=later)]


async def test_what_is_stored_is_found_as_it_was(archive: Archive) -> None:
    events = [archived(number) for number in range(50)]
    [name] = await store(archive, events)
    assert name.startswith("tenant=default/tool=github/day=2026-01-01/hour=00/")
    asked = [*places(events), Place("default", "github", 3, f"{T0 + 5}-0")]
    assert values(await archive.find(asked)) == [*values(e.envelope for e in events), None]
    assert await archive.find([]) == []
    totals = await archive.totals()
    assert (totals.objects, totals.events) == (1, 50)
    assert totals.bytes == (await archive.objects.size(name))
    assert await differences(archive) == []


async def test_nothing_is_found_under_another_name(archive: Archive) -> None:
    events = [archived(0)]
    await store(archive, events)
    [place] = places(events)
    others = [
        place._replace(tenant="other"),
        place._replace(tool_id="gitlab"),
        place._replace(partition=4),
        place._replace(entry_id=f"{T0}-1"),
    ]
    assert await archive.find(others) == [None] * 4
    assert await archive.holds([*others, place]) == [False] * 4 + [True]


async def test_tools_with_the_same_number_do_not_see_each_others_events(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hookstream.app.archive.manifest.place_number",):
        monkeypatch.setattr(name, lambda tenant, tool_id: 7)
    mine, other = archived(0), archived(1, at_ms=T0, tool_id="gitlab")
    await store(archive, [mine])
    await store(archive, [other], "gitlab")
    found = await archive.find(
        [*places([mine]), *places([other], tool_id="gitlab"), *places([mine], "nobody")]
    )
    assert values(found) == [*values([mine.envelope, other.envelope]), None]
    assert len(await everything(archive)) == 1


async def test_each_hour_has_an_object_of_its_own(archive: Archive) -> None:
    events = [archived(number, at_ms=T0 + number * HOUR // 2) for number in range(6)]
    stored = await store(archive, events)
    assert [name.rpartition("/")[0] for name in stored] == [
        f"tenant=default/tool=github/day=2026-01-01/hour={hour:02d}" for hour in range(3)
    ]
    assert values(await archive.find(places(events))) == values(e.envelope for e in events)


async def test_stored_again_it_is_there_once(archive: Archive) -> None:
    events = [archived(number) for number in range(20)]
    assert len(await store(archive, events)) == 1
    before = await names(archive)
    assert await store(archive, events) == []
    # with what has come since, only that is new
    more = [*events, archived(20)]
    [name] = await store(archive, more)
    assert await names(archive) == sorted([*before, name])
    assert (await archive.totals()).events == 21
    assert values(e.envelope for e in await everything(archive)) == values(e.envelope for e in more)


async def test_covered_is_what_was_stored_and_nothing_between(archive: Archive) -> None:
    first, between, last = archived(1), archived(5), archived(9)
    whole = [(first.entry_id, last.entry_id)]
    given = [(3, first.entry_id, first.entry_id), (3, last.entry_id, last.entry_id)]
    await archive.store("default", "github", [first, last], given)
    assert await archive.covered("default", "github", 3, whole) == [False]
    assert await archive.holds(places([first, between, last])) == [True, False, True]
    # compaction, too, does not make more of it
    await archive.compact(T0 + DAY)
    assert await archive.holds(places([first, between, last])) == [True, False, True]
    await archive.store("default", "github", [between, last], [(3, *whole[0])])
    assert await archive.covered("default", "github", 3, whole) == [True]
    assert await archive.covered("default", "github", 4, whole) == [False]
    assert await archive.covered("default", "github", 3, []) == []
    assert (await archive.totals()).events == 3


async def test_events_that_come_late_are_covered_where_they_were_appended(
    archive: Archive,
) -> None:
    # out of a spool: received in another hour than the entries around it
    late = archived(1, at_ms=T0, entry_id=f"{T0 + 2 * HOUR + 5}-0")
    events = [
        archived(0, at_ms=T0 + 2 * HOUR, entry_id=f"{T0 + 2 * HOUR}-0"),
        late,
        archived(2, at_ms=T0 + 2 * HOUR + 9, entry_id=f"{T0 + 2 * HOUR + 9}-0"),
    ]
    assert len(await store(archive, events)) == 2
    assert values(await archive.find(places(events))) == values(e.envelope for e in events)
    ends = [(events[0].entry_id, events[2].entry_id)]
    assert await archive.covered("default", "github", 3, ends) == [True]
    found = await everything(archive)
    assert [event.entry_id for event in found] == [
        late.entry_id, events[0].entry_id, events[2].entry_id,
    ]  # fmt: skip


@pytest.mark.usefixtures("small_groups")
async def test_a_scan_is_in_order_over_partitions_and_objects(archive: Archive) -> None:
    events = [archived(number, partition=number % 4) for number in range(200)]
    for partition in range(4):
        for half in (events[:100], events[100:]):
            some = [event for event in half if event.partition == partition]
            await store(archive, some)
    found = await everything(archive)
    assert values(e.envelope for e in found) == values(e.envelope for e in events)
    assert [(e.partition, e.entry_id) for e in found] == [(e.partition, e.entry_id) for e in events]
    some = await everything(archive, since_ms=T0 + 30_000, until_ms=T0 + 60_000)
    assert values(e.envelope for e in some) == values(e.envelope for e in events[30:60])
    assert await everything(archive, since_ms=T0 + DAY) == []
    assert await everything(archive, tool_id="gitlab") == []


async def test_a_scan_of_all_tools_is_in_order_and_of_one_tenant(archive: Archive) -> None:
    one = [archived(number) for number in range(0, 20, 2)]
    two = [archived(number, tool_id="gitlab") for number in range(1, 20, 2)]
    other = [archived(number, tenant="other") for number in range(20)]
    await store(archive, one)
    await store(archive, two, "gitlab")
    await store(archive, other, tenant="other")
    found = values(e.envelope for e in await everything(archive, tool_id=None))
    assert [event.received_at_ms for event in found if event] == [
        T0 + number * 1000 for number in range(20)
    ]
    assert {event.tenant for event in found if event} == {"default"}


@pytest.mark.usefixtures("small_groups")
async def test_a_row_group_is_read_once_for_many(archive: Archive) -> None:
    events = [archived(number) for number in range(60)]
    [name] = await store(archive, events)
    groups = len(await archive.manifest.ranges_of([name]))
    assert groups > 5
    misses = metrics.ARCHIVE_READS.labels("row group", "miss")
    before = misses._value.get()
    wanted = values(e.envelope for e in events)
    found = await asyncio.gather(*(archive.find(places(events)) for _ in range(8)))
    assert all(values(each) == wanted for each in found)
    assert misses._value.get() == before + groups
    await archive.find(places(events))
    assert misses._value.get() == before + groups


@pytest.mark.usefixtures("small_groups")
async def test_one_event_is_found_without_reading_all_of_its_object(archive: Archive) -> None:
    noise = [random.Random(number).randbytes(2000) for number in range(100)]
    events = [archived(number, payload=body) for number, body in enumerate(noise)]
    await store(archive, events)
    size = (await archive.totals()).bytes
    read = metrics.ARCHIVE_READ_BYTES
    before = read._value.get()
    assert values(await archive.find(places(events[50:51]))) == values([events[50].envelope])
    footer = 100 * 1500
    assert 0 < read._value.get() - before < footer + size / 50


async def test_what_is_read_is_kept_within_its_bytes(
    postgres: Postgres, address: ArchiveAddress
) -> None:
    async with Archive(address, postgres, cache_bytes=20_000) as archive:
        for hour in range(8):
            events = [archived(n, at_ms=T0 + hour * HOUR + n) for n in range(40)]
            await store(archive, events)
            await archive.find(places(events[:1]))
            assert 0 < archive.cache.bytes <= 20_000


async def test_expiry_takes_whole_objects_that_are_older(archive: Archive) -> None:
    old = [archived(number) for number in range(3)]
    new = [archived(number, at_ms=T0 + HOUR + number) for number in range(3)]
    other = [archived(number, tool_id="gitlab") for number in range(3)]
    await store(archive, [*old, *new])
    await store(archive, other, "gitlab")
    newest = T0 + 2000
    assert await archive.expire("default", "github", newest) == (0, 0)
    assert await archive.expire("default", "github", newest + 1) == (1, 3)
    assert await archive.find(places([*old, new[0]])) != [None] * 4
    assert values(await archive.find(places([*old, *new]))) == [
        None, None, None, *values(e.envelope for e in new),
    ]  # fmt: skip
    assert len(await names(archive)) == 2
    assert await differences(archive) == []
    assert (await archive.totals()).events == 6


async def test_a_deleted_tool_leaves_nothing(archive: Archive) -> None:
    mine = [archived(number) for number in range(3)]
    other = [archived(number, tool_id="gitlab") for number in range(3)]
    await store(archive, mine)
    await store(archive, other, "gitlab")
    assert await archive.delete_tool("default", "github") == (1, 3)
    assert await archive.find(places(mine)) == [None] * 3
    assert await archive.holds(places(mine)) == [False] * 3
    assert len(await names(archive)) == 1
    # made anew, it may store the same again
    assert len(await store(archive, mine)) == 1
    assert values(await archive.find(places(mine))) == values(e.envelope for e in mine)


async def test_small_objects_of_a_day_become_one(archive: Archive) -> None:
    events = [archived(number, at_ms=T0 + number * HOUR // 3) for number in range(144)]
    for event in events:
        await store(archive, [event])
    assert len(await names(archive)) == 144
    # the day that is not over yet stays as it is
    assert await archive.compact(T0 + DAY) == (72, 72)
    assert await archive.compact(T0 + DAY) == (0, 0)
    assert len(await names(archive)) == 73
    assert await archive.compact(T0 + 2 * DAY) == (72, 72)
    days = {name.rpartition("/")[0] for name in await names(archive)}
    assert days == {folder_of("default", "github", T0 + day * DAY) for day in range(2)}
    assert values(await archive.find(places(events))) == values(e.envelope for e in events)
    assert values(e.envelope for e in await everything(archive)) == values(
        e.envelope for e in events
    )
    assert (await archive.totals()).events == 144
    assert await differences(archive) == []
    # what was stored before is known to be
    assert await store(archive, events[10:20]) == []


async def test_what_has_grown_large_is_left_alone(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await store(archive, [archived(number)])
    size = max((await archive.totals()).bytes // 4, 1)
    monkeypatch.setattr(module, "SMALL_BYTES", size // 2)
    assert await archive.compact(T0 + DAY) == (0, 0)
    monkeypatch.setattr(module, "SMALL_BYTES", 2 * size)
    monkeypatch.setattr(module, "COMPACTED_BYTES", 2 * size + size // 2)
    assert await archive.compact(T0 + DAY) == (2, 2)


@pytest.mark.usefixtures("small_groups")
async def test_readers_go_on_while_what_they_read_is_compacted(archive: Archive) -> None:
    events = [archived(number, partition=number % 3) for number in range(90)]
    for number in range(9):
        some = events[number::9]
        await archive.store("default", "github", some, alone(some))
    scanned = []
    async for some in archive.scan("default", "github", 0, T0 + DAY):
        scanned += some
        if len(scanned) < 40:
            await archive.compact(T0 + DAY)
            # a worker that was told of the old objects, and one that begins now
            found = await archive.find(places(events[:5]))
            assert values(found) == values(e.envelope for e in events[:5])
    assert values(e.envelope for e in scanned) == values(e.envelope for e in events)


async def test_a_location_that_is_old_is_asked_for_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [archived(number) for number in range(4)]
    for event in events:
        await store(archive, [event])
    locate, asked = archive.manifest.locate, []

    async def then_compacted(wanted: list[Place]) -> object:
        found = await locate(wanted)
        if not asked:
            await archive.compact(T0 + DAY)
        asked.append(wanted)
        return found

    monkeypatch.setattr(archive.manifest, "locate", then_compacted)
    assert values(await archive.find(places(events))) == values(e.envelope for e in events)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("tenant", "tool_id"),
    [
        ("..", ".."),
        ("a/b", "../../etc"),
        ("%2e%2e", "a%2Fb"),
        ("a b+c", "tool=x/day=1"),
        ("ünï", "工具\n"),
        ("~", "'; DROP TABLE archive_objects; --"),
        ("-", "x" * 128),
        ("", "."),
        ("a\\b", '*?[]{}|"<>'),
    ],
)
async def test_hostile_names_stay_names(
    archive: Archive, tenant: str, tool_id: str, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    events = [archived(number, tenant=tenant, tool_id=tool_id) for number in range(3)]
    [name] = await store(archive, events, tool_id, tenant)
    assert name.count("/") == 4
    assert await names(archive) == [name]
    for path in set(tmp_path.rglob("*.parquet")) - before:
        assert path.is_relative_to(tmp_path / "archive")
    asked = places(events, tenant, tool_id)
    assert values(await archive.find(asked)) == values(e.envelope for e in events)
    assert len(await everything(archive, tenant, tool_id)) == 3
    assert await differences(archive) == []
    assert await archive.delete_tool(tenant, tool_id) == (1, 3)
    assert await names(archive) == []


async def test_any_payload_comes_back(archive: Archive) -> None:
    bodies = [
        b"",
        b"\x00\xff" * 10,
        b"not json",
        b'{"a": NaN}',
        b"\xef\xbb\xbf{}",
        random.Random(1).randbytes(1 << 20),
        b"x" * (9 << 20),
        b'{"a":1}',
    ]
    events = [archived(number, payload=body) for number, body in enumerate(bodies)]
    await store(archive, events)
    found = values(await archive.find(places(events)))
    assert [event.payload for event in found if event] == bodies
    assert found == values(e.envelope for e in events)


async def test_every_field_of_an_event_comes_back(archive: Archive) -> None:
    full = archived(
        1,
        headers={"x-a": "", "x-delivery": "d-1", "ünï": '"\n\\'},
        content_type="application/json; charset=utf-8",
        trace_context="00-1-2-01",
        dedup_history_ms=5,
        dedup_function="mine:of",
        schema_errors=("a", "b"),
        registry_token=-7,
        enriched=b'{"x":1}',
        replay_id="r",
        replay_context_id="c",
        batch_id="01926c3f-0000-7000-8000-000000000000",
        batch_index=3,
    )
    # a field of a newer release, and a payload that could not be unpacked where it came from
    newer = archived(2)
    unknown = newer.envelope + bytes([0xFA, 0x3F, 0x03]) + b"new"
    packed = encode_event(decode_event(archived(3).envelope), StoredPayload(1, 100, b"no zstd"))
    events = [
        full,
        type(newer)(newer.partition, newer.entry_id, unknown),
        type(newer)(3, f"{T0 + 3000}-0", packed),
    ]
    await store(archive, events)
    found = await archive.find(places(events))
    assert decode_event(found[0] or b"") == decode_event(full.envelope)
    assert b"\xfa\x3f\x03new" in (found[1] or b"")
    stored = decode_event(found[2] or b"").stored
    assert stored is not None
    assert (stored.encoding, stored.size, stored.data) == (1, 100, b"no zstd")


async def test_what_is_no_event_is_refused_and_nothing_is_stored(archive: Archive) -> None:
    good = archived(1)
    for bad, error in (
        (type(good)(3, good.entry_id, b"\xff\xff"), CodecError),
        (type(good)(3, good.entry_id, b""), CodecError),
        (type(good)(3, "nonsense", good.envelope), ValueError),
        (type(good)(3, f"{1 << 63}-0", good.envelope), ValueError),
        (type(good)(3, f"{T0}-0", good.envelope), ValueError),
    ):
        with pytest.raises(error):
            await archive.store("default", "github", [good, bad], alone([good]))
    assert await names(archive) == []
    assert (await archive.totals()).objects == 0


async def test_differences_are_told_and_nothing_is_changed(archive: Archive) -> None:
    stored = [(await store(archive, [archived(number)]))[0] for number in range(4)]
    gone, cut, other, _ = stored
    await archive.objects.delete(gone)
    data = await archive.objects.get(cut)
    size = len(data)
    await archive.objects.put(cut, data[:-1])
    data = await archive.objects.get(other)
    await archive.objects.put(other, data[:20] + bytes([data[20] ^ 1]) + data[21:])
    await archive.objects.put("tenant=default/stray.parquet", b"stray")
    # begun, and not given up: not a difference
    before = await names(archive)
    assert sorted(await differences(archive)) == sorted(
        [
            f"{gone}: is in the manifest, and not in the archive",
            f"{cut}: has {size - 1} bytes; the manifest says {size}",
            f"{other}: has another checksum than the manifest says",
            "tenant=default/stray.parquet: is in the archive (5 bytes), and not in the manifest",
        ]
    )
    # what is young may be on its way into another database's manifest
    young = [found.kind async for found in archive.verify(read=False)]
    assert sorted(young) == ["bytes", "missing"]
    assert await names(archive) == before


@pytest.mark.usefixtures("small_groups")
async def test_a_damaged_object_says_its_name(archive: Archive) -> None:
    events = [archived(number) for number in range(30)]
    [name] = await store(archive, events)
    data = await archive.objects.get(name)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    for place in (len(data) - footer // 2, len(data) - 6, 40, len(data) // 4):
        broken = bytearray(data)
        broken[place] ^= 0x55
        await archive.objects.put(name, bytes(broken))
        archive.cache = ReadCache(1 << 20)
        outcome: object
        try:
            outcome = values(await archive.find(places(events)))
        except ArchiveDamagedError as error:
            outcome = error.object_name
        # where nothing was read by it, it has done no harm
        assert outcome in (name, values(e.envelope for e in events))
    archive.cache = ReadCache(1 << 20)
    await archive.objects.put(name, data[: len(data) // 2])
    with pytest.raises(ArchiveDamagedError, match=name):
        await archive.find(places(events))
    await archive.objects.delete(name)
    archive.cache = ReadCache(1 << 20)
    with pytest.raises(ArchiveDamagedError, match="is missing"):
        await archive.find(places(events))
    with pytest.raises(ArchiveDamagedError, match="is missing"):
        await everything(archive)
    assert (await archive.totals()).objects == 1


async def test_the_event_loop_goes_on_while_much_is_stored_and_found(archive: Archive) -> None:
    body = b"%x" * 100
    events = [
        archived(number, payload=random.Random(number).randbytes(5000).hex().encode() + body)
        for number in range(2000)
    ]
    seen = 0

    async def tick() -> None:
        nonlocal seen
        while True:
            await asyncio.sleep(0)
            seen += 1

    ticking = asyncio.ensure_future(tick())
    await store(archive, events)
    stored, seen = seen, 0
    await archive.find(places(events[::10]))
    ticking.cancel()
    assert stored > 20
    assert seen > 5


def test_processes_that_read_no_archive_do_not_pay_for_arrow() -> None:
    code = (
        "import sys, hookstream.app.main; "
        "print([name for name in ('pyarrow', 'obstore') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
