"""A scan's order, whatever the row groups are, and whatever becomes of them meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.archive.manifest import Located
from hookstream.app.archive.objects import MissingObjectError
from hookstream.app.archive.ranges import Covered, merged
from hookstream.app.archive.rows import Row
from hookstream.app.archive.scan import Ordered, in_order, key_of
from hookstream.app.durations import DAY_MS

DAY = 20_000 * DAY_MS


def row(number: int, at_ms: int) -> Row:
    event_id, at = number.to_bytes(16, "big"), DAY + at_ms
    return Row(event_id, at, "", "", "", "", "", "{}", number % 3, at_ms, number, b"", b"")


class Objects:
    """Row groups of some rows, of which some are put together while they are read."""

    def __init__(self, groups: list[list[Row]], page: int) -> None:
        self.groups = {f"o{number}": rows for number, rows in enumerate(groups) if rows}
        self.page = page
        self.reads = 0

    def located(self) -> list[Located]:
        found = []
        for name, rows in self.groups.items():
            times = [each.received_at for each in rows]
            found.append(Located(name, 0, 1, 1, min(times), max(times)))
        return sorted(found, key=lambda group: group.position)

    async def source(
        self, behind: tuple[int, str, int], since_ms: int, until_ms: int
    ) -> list[Located]:
        return [
            group
            for group in self.located()
            if group.position > behind
            and group.newest_ms >= since_ms
            and group.oldest_ms < until_ms
        ][: self.page]

    async def read(self, group: Located) -> list[Ordered]:
        self.reads += 1
        if group.object not in self.groups:
            raise MissingObjectError(group.object)
        return [(key_of(each), each) for each in self.groups[group.object]]

    def compact(self, names: list[str]) -> None:
        rows = [each for name in names for each in self.groups.pop(name)]
        self.groups[f"c{self.reads}-{names[0]}"] = rows


TIMES = st.lists(st.lists(st.integers(0, 40), max_size=6), max_size=8)


@given(TIMES, st.integers(1, 4), st.integers(0, 40), st.integers(0, 41), st.data())
async def test_each_event_once_and_in_order_while_objects_are_compacted(
    times: list[list[int]], page: int, since: int, until: int, data: st.DataObject
) -> None:
    number = 0
    groups: list[list[Row]] = []
    for some in times:
        groups.append([row(number + at, at_ms) for at, at_ms in enumerate(some)])
        number += len(some)
    objects = Objects(groups, page)
    wanted = sorted(
        (each for rows in groups for each in rows if since <= each.received_at - DAY < until),
        key=key_of,
    )
    found = []
    async for some_rows in in_order(objects.source, objects.read, DAY + since, DAY + until):
        found += some_rows
        names = sorted(objects.groups)
        if len(names) > 1 and data.draw(st.booleans()):
            objects.compact(data.draw(st.permutations(names))[:2])
    assert found == wanted


async def test_an_object_that_the_manifest_names_and_nobody_has_is_an_error() -> None:
    objects = Objects([[row(1, 1)], [row(2, 2)]], 10)
    listed = objects.located()

    async def source(behind: tuple[int, str, int], since_ms: int, until_ms: int) -> list[Located]:
        return [each for each in listed if each.position > behind and each.newest_ms >= since_ms]

    del objects.groups["o1"]
    found: list[Row] = []

    async def read_all() -> None:
        async for some in in_order(source, objects.read, DAY, DAY + 100):
            found.extend(some)

    with pytest.raises(MissingObjectError, match="o1"):
        await read_all()
    assert found == [row(1, 1)]


RANGES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 6)).map(
        lambda each: Covered(each[0], (each[1], 0), (each[1] + each[2], 0), each[1])
    ),
    max_size=8,
)


@given(RANGES)
def test_merged_ranges_cover_the_same_and_do_not_overlap(ranges: list[Covered]) -> None:
    found = merged(ranges)
    for partition in (0, 1):
        for number in range(40):
            entry = (number, 0)
            had = any(each.has(partition, entry) for each in ranges)
            assert sum(each.has(partition, entry) for each in found) == had
