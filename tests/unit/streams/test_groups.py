"""What goes through the stages together; nobody's trouble or waiting is his neighbours'."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.application import Hookstream
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.channel import BatchChannel, pass_on
from hookstream.app.streams.consumer import GROUP_EVENTS, StreamReader
from hookstream.app.streams.deaths import Deaths, Trials
from hookstream.app.streams.group import Group
from hookstream.app.streams.partition import CountedLock, Partition
from hookstream.app.streams.slot import Slot
from hookstream.app.streams.suspects import Suspects


class Way:
    """A way of two stages, the first of which takes groups; what each was given, and the ends."""

    def __init__(
        self,
        folder: Path,
        *,
        first: Callable[[Batch], Awaitable[None]],
        together: Callable[[Group], Awaitable[None]] | None = None,
        last: Callable[[Group], Awaitable[None]] | None = None,
    ) -> None:
        self.app = Hookstream(Settings(state_dir=folder))
        self.begin, self.middle = (self.app.batch_channel(name) for name in ("begin", "middle"))
        self.passes: list[list[int]] = []
        self.ended: dict[int, BaseException | None] = {}
        self.app.batches(self.begin, out=self.middle, name="first", together=together)(first)

        async def end(batch: Batch) -> None:
            self.passes.append([batch.partition.number])
            batch.done()

        async def end_together(group: Group) -> None:
            self.passes.append([batch.partition.number for batch in group])
            if last is not None:
                await last(group)
            for batch in group:
                batch.done()

        self.app.batches(self.middle, name="last", together=end_together)(end)

    def batch(self, number: int) -> Batch:
        return Batch("begin", Partition(number, 1, "n"), [Entry("1-0", b"", number)], self._end)

    def _end(self, batch: Batch, error: BaseException | None) -> None:
        self.ended[batch.partition.number] = error


async def plain(batch: Batch) -> None:
    """A stage that has nothing to say."""


async def test_a_stage_of_ones_own_that_waits_holds_up_its_partition_only(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def wait(batch: Batch) -> None:
        if batch.partition.number == 1:
            await go_on.wait()

    way = Way(tmp_path, first=wait)
    going = asyncio.create_task(pass_on([way.batch(n) for n in range(4)], way.begin))
    async with asyncio.timeout(10):
        while len(way.ended) < 3:
            await asyncio.sleep(0)
        # those that are through at the same time are together again
        assert way.passes == [[0, 2, 3]]
        go_on.set()
        await going
    assert way.passes == [[0, 2, 3], [1]]
    assert way.ended == dict.fromkeys(range(4))


async def test_what_goes_wrong_with_one_batch_fails_it_alone(tmp_path: Path) -> None:
    async def together(group: Group) -> None:
        for batch in group:
            with group.alone(batch):
                if batch.partition.number == 2:
                    raise ValueError("this one")

    way = Way(tmp_path, first=plain, together=together)
    await pass_on([way.batch(n) for n in range(4)], way.begin)
    assert way.passes == [[0, 1, 3]]
    assert isinstance(way.ended.pop(2), ValueError)
    assert way.ended == dict.fromkeys((0, 1, 3))


async def test_what_a_pass_leaves_goes_by_itself(tmp_path: Path) -> None:
    alone = []

    async def together(group: Group) -> None:
        for batch in group:
            if batch.partition.number % 2:
                group.leave(batch)

    async def one(batch: Batch) -> None:
        alone.append(batch.partition.number)
        await asyncio.sleep(0)

    way = Way(tmp_path, first=one, together=together)
    await pass_on([way.batch(n) for n in range(4)], way.begin)
    assert alone == [1, 3]
    assert sorted(way.passes) == [[0, 2], [1, 3]]


async def test_a_pass_that_fails_as_a_whole_fails_all_of_it(tmp_path: Path) -> None:
    async def together(group: Group) -> None:
        raise ValueError("whose this is nobody knows")

    way = Way(tmp_path, first=plain, together=together)
    await pass_on([way.batch(n) for n in range(3)], way.begin)
    assert way.passes == []
    assert [type(error) for error in way.ended.values()] == [ValueError] * 3


async def test_who_looks_on_sees_every_batch(tmp_path: Path) -> None:
    async def together(group: Group) -> None:
        pass

    way = Way(tmp_path, first=plain, together=together)
    way.app.flow_control.resume()
    seen = [
        channel.looked_at_by("looker").clone(is_iterator=True)
        for channel in (way.begin, way.middle)
    ]
    await pass_on([way.batch(n) for n in range(3)], way.begin)
    for channel in seen:
        queue = channel.queue
        assert [queue.get_nowait().value.partition.number for _ in range(3)] == [0, 1, 2]


async def test_a_batch_whose_task_was_ended_comes_again(tmp_path: Path) -> None:
    async def end_oneself(batch: Batch) -> None:
        if batch.partition.number == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    way = Way(tmp_path, first=end_oneself)
    await pass_on([way.batch(n) for n in range(3)], way.begin)
    assert isinstance(way.ended.pop(1), asyncio.CancelledError)
    assert way.ended == {0: None, 2: None}


async def test_a_stop_in_the_middle_ends_what_was_begun(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), []

    async def hang(batch: Batch) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(batch.partition.number)

    way = Way(tmp_path, first=hang)
    going = asyncio.create_task(pass_on([way.batch(n) for n in range(2)], way.begin))
    async with asyncio.timeout(10):
        await begun.wait()
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    assert sorted(ended) == [0, 1]
    assert way.ended == {}


class Told:
    """A channel that keeps what it is handed."""

    name = "events"
    linger_seconds = 0.0

    def __init__(self) -> None:
        self.groups: list[list[Batch]] = []

    async def put_batches(self, batches: list[Batch]) -> None:
        self.groups.append(batches)

    def decode_value(self, raw: bytes) -> Any:
        return raw

    def sizes(self) -> list[list[int]]:
        """Partitions of each group."""
        return [[batch.partition.number for batch in group] for group in self.groups]


class Reads:
    """A reader of partitions with entries, and its channel."""

    def __init__(self) -> None:
        self.channel = Told()
        nobody: Any = None
        payloads: Any = Payloads(nobody, nobody, nobody)
        channel: Any = self.channel
        turns: Any = type("Turns", (), {"wake": lambda *_: None})()
        self.trials = Trials()
        self.reader = StreamReader(
            channel,
            nobody,
            nobody,
            "w",
            payloads,
            turns,
            batch_max=64,
            buffer_max=1000,
            trials=self.trials,
            is_urgent=lambda entry: entry.value == b"urgent",
        )

    def slot(self, number: int, *values: bytes) -> Slot:
        partition, nobody = Partition(number, 1, "n"), Any
        suspects = Suspects(nobody, partition, "events", self.trials, Deaths())
        slot = Slot(self.reader, partition, suspects, limit=64)
        slot.buffer.extend(Entry(f"{at}-0", value, value) for at, value in enumerate(values, 1))
        self.reader.slots[number] = slot
        return slot

    async def sent(self) -> list[list[int]]:
        """What goes on now, by group."""
        for slot in self.reader.slots.values():
            self.reader.resume(slot.partition.number)
        for _ in range(20):
            await asyncio.sleep(0)
        return self.channel.sizes()


async def test_what_is_there_in_one_moment_goes_together_and_what_is_urgent_apart() -> None:
    reads = Reads()
    for number in range(3):
        reads.slot(number, b"a", b"b")
    reads.slot(3, b"a", b"urgent")
    reads.slot(4, b"urgent")
    assert sorted(await reads.sent()) == [[0, 1, 2], [3, 4]]


async def test_a_group_has_no_more_events_than_a_batch() -> None:
    reads = Reads()
    for number in range(3):
        reads.slot(number, *[b"a"] * (GROUP_EVENTS // 2))
    assert sorted(await reads.sent()) == [[0, 1], [2]]


async def test_a_batch_that_has_failed_is_tried_by_itself() -> None:
    reads = Reads()
    for number in range(4):
        reads.slot(number, b"a")
    assert await reads.sent() == [[0, 1, 2, 3]]
    [group] = reads.channel.groups
    reads.channel.groups.clear()
    # a stage on the group as a whole: all of them come again
    for batch in group[:2]:
        batch.fail(ValueError("a stage"))
    for batch in group[2:]:
        batch.done()
    for number in (2, 3):
        reads.reader.slots[number].buffer.append(Entry("2-0", b"b", b"b"))
    for slot in reads.reader.slots.values():
        if slot.waiting is not None:
            slot.waiting.cancel()
            slot.waiting = None
    assert sorted(await reads.sent()) == [[0], [1], [2, 3]]


async def test_a_lock_says_whether_it_is_free() -> None:
    lock = CountedLock()
    assert lock.free
    async with lock:
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
    # it was given back, and is meant for who waits
    assert not lock.free
    await waiting
    lock.release()
    assert lock.free
    await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lock.release()
    assert lock.free


def test_channels_without_a_taker_of_groups_are_given_batches(tmp_path: Path) -> None:
    way = Way(tmp_path, first=plain)
    assert isinstance(way.begin, BatchChannel)
    assert way.begin.taker is not None
    assert way.begin.taker.together is None
