"""What makes events wait, and what is written of them: also while their tool changes."""

from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from hookstream.app.failures.blocking import blocked_key, bury_failed, judge, mark_waiting
from hookstream.app.failures.failed_events import write_failures
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import Blocked
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event


def catalog(on_error: str, order_by: str = "tool", field: str = "") -> Any:
    tool = SimpleNamespace(
        tool_id="tool", tenant="default", on_error=on_error, order_by=order_by, order_field=field
    )
    return SimpleNamespace(tools={"tool": tool})


def batch(*entries: Entry, **state: Any) -> Batch:
    partition = Partition(0, 1, "n")
    partition.add(FailureState(**state))
    return Batch("events", partition, list(entries), lambda *_: None)


def entry(n: int, **more: Any) -> Entry:
    event: Event = make_event({"n": n}, tool_id="tool")
    return Entry(f"{n}-0", b"raw", event, **more)


def commits(mine: Batch, catalog: Any = None) -> Writes:
    """What the end of a batch writes."""
    writes, settings = Writes(), Settings()
    write_failures(writes, mine, judge(mine, settings, 1, catalog), settings, 1)
    return writes


def written(writes: Writes, command: str) -> list[tuple[str, tuple[object, ...]]]:
    return [(key, args) for name, key, args in writes.commands if name == command]


KEY = blocked_key(make_event({}, tool_id="tool"), catalog("hold"))
LIST = keys.blocked_events(0, KEY)


def test_an_event_that_waits_is_listed_though_its_tool_holds_back_no_more() -> None:
    """Its tool may be changed while its batch is on its way."""
    waiting = entry(2)
    mine = batch(waiting, blocked={KEY: "first"})
    mark_waiting(mine, catalog("hold"))
    assert waiting.outcome == Blocked("held", KEY)
    writes = commits(mine, catalog("skip"))
    assert written(writes, "RPUSH") == [(LIST, (waiting.value.event_id,))]


def test_a_letter_from_before_its_tool_held_back_is_listed_behind_its_holder() -> None:
    old = entry(1, failed_event_id="old", attempts=1)
    mine = batch(old, blocked={KEY: "holder"})
    mark_waiting(mine, catalog("hold"))
    writes = commits(mine, catalog("hold"))
    assert old.outcome == Blocked("held", KEY)
    assert written(writes, "RPUSH") == [(LIST, ("old",))]


def test_a_letter_of_another_key_changes_lists() -> None:
    moved = entry(1, failed_event_id="moved", listed="elsewhere")
    mine = batch(moved, blocked={KEY: "holder"})
    mark_waiting(mine, catalog("hold"))
    writes = commits(mine, catalog("hold"))
    assert (keys.blocked_events(0, "elsewhere"), (0, "moved")) in written(writes, "LREM")
    assert written(writes, "RPUSH") == [(LIST, ("moved",))]


def test_what_waits_in_its_list_already_stays_where_it_is() -> None:
    listed = entry(1, failed_event_id="listed", listed=KEY)
    mine = batch(listed, blocked={KEY: "holder"})
    mark_waiting(mine, catalog("hold"))
    writes = commits(mine, catalog("hold"))
    assert listed.outcome == Blocked("held", KEY)
    assert not written(writes, "RPUSH")


def test_a_letter_that_was_sent_and_fails_again_keeps_that_entry_for_its_origin() -> None:
    again = entry(7, failed_event_id="letter", attempts=1, sent=True)
    again.fail("stage", ValueError("broken once more"))
    mine = batch(again)
    writes = commits(mine)
    assert (keys.pins(0), ("letter", "7-0")) in written(writes, "HSET")
    # what is pinned already keeps the first one
    other = batch(again, pins={"letter": "3-0"})
    writes = commits(other)
    assert not [1 for key, _ in written(writes, "HSET") if key == keys.pins(0)]


async def test_a_refused_commit_of_what_failed_leaves_the_batch_whole() -> None:
    bad, good = entry(1), entry(2)
    bad.fail("decode", ValueError("nobody of ours wrote that"), final=True)
    mine = batch(bad, good)

    class Full:
        async def call(self, *_: Any) -> None:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'")

    full: Any = Full()
    with pytest.raises(OutOfMemoryError):
        await bury_failed(full, mine, Settings(), 1)
    assert mine.entries == [bad, good]
