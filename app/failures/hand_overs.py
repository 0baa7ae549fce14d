"""Tools that move from old workers to here: which path each event works in, and what waits.

The rule is :func:`hookstream.app.routing.paths.step`; this asks it about batches, keeps what it
says in the partition, and lets keys go whose hand-over is over. What waits stands in the lists
that blocked keys have: a key is blocked by its hand-over as by an event that has failed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.failures.failed_events import is_first
from hookstream.app.failures.rules import BLOCKED, Decision
from hookstream.app.failures.state import FailureState
from hookstream.app.ids import new_event_id
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import key_name_of
from hookstream.app.routing.paths import (
    OLD,
    OURS,
    KeyState,
    Migration,
    Path,
    Taken,
    confirmed_field,
    sent_field,
    step,
)
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import Blocked, Dropped, Failed
from hookstream.app.streams.partition import OpenState, Partition, decoded
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import CodecError
from hookstream.tables.dedup import entry_ms

__all__ = [
    "OLD_PATH",
    "PathState",
    "decide_paths",
    "holder_of",
    "is_hand_over",
    "let_go_hand_overs",
    "opens_paths",
    "settle_old",
    "tools_in_doubt",
    "write_paths",
]

logger = get_logger(__name__)

#: The stage of events that old workers work on, as the event log has it.
OLD_PATH: Final = "old-path"
#: What blocks a key that is handed over: no failed event is called so.
_HOLDER: Final = "hand-over~"


@dataclass(slots=True, eq=False)
class PathState:
    """Of tools that move: by tool and ordering key where that is, if it is not simply old."""

    keys: dict[tuple[str, str], KeyState] = field(default_factory=dict)

    def change(self, changes: Mapping[tuple[str, str], KeyState]) -> None:
        """Take over what a commit has written."""
        for place, state in changes.items():
            if state == KeyState():
                self.keys.pop(place, None)
            else:
                self.keys[place] = state

    def close(self) -> None:
        """Nothing is open."""

    def wipe(self) -> None:
        """There is no table."""


def opens_paths(redis: Any) -> OpenState:
    """Reads where a partition's keys are."""

    def place(name: bytes) -> tuple[str, str]:
        key, tool_id = name.decode().split(" ")
        return tool_id, key

    async def open_state(partition: Partition, lease: Mapping[bytes, bytes]) -> None:
        name = keys.paths(partition.number)
        kept = await redis.hgetall(name)
        known = decoded(name, kept, place, lambda text: KeyState.decode(text.decode()))
        partition.add(PathState(known))

    return open_state


def holder_of(mark: str) -> str:
    """What blocks a key while its hand-over is under way."""
    return _HOLDER + mark


def is_hand_over(holder: str) -> bool:
    """Whether what blocks a key is its hand-over."""
    return holder.startswith(_HOLDER)


def tools_in_doubt(batch: Batch, catalog: Catalog) -> set[str]:
    """Tools of a batch's events that move by now, perhaps, and do not in an older catalog.

    There both paths would have an event, or neither.
    """
    found = set()
    for entry in batch.live():
        event = entry.value
        if isinstance(event, Event) and not event.replay_id:
            tool = catalog.tools.get(event.tool_id)
            if tool is None or (tool.forward is not None and tool.migration is None):
                found.add(event.tool_id)
    return found - catalog.unreadable_tools


def decide_paths(batch: Batch, catalog: Catalog, now_ms: int, random_bits: int) -> None:
    """Say which path each event works in whose tool moves; take those out of the way that wait.

    Nothing is written: until the batch is committed all is as it was.
    """
    blocked = batch.partition[FailureState].blocked
    batch.paths.clear()
    batch.modes.clear()
    for at, entry in enumerate(batch.live()):
        event = entry.value
        if not isinstance(event, Event) or event.replay_id:
            continue
        tool = catalog.tools.get(event.tool_id)
        if tool is None:
            continue
        batch.modes[tool.tool_id] = tool.migration
        if tool.migration is None:
            continue
        if not (is_first(entry) or entry.listed):
            # what has failed here is tried again here
            entry.taken = Taken()
            continue
        try:
            _decide(batch, entry, tool, blocked, now_ms, random_bits + at)
        except CodecError as error:
            entry.fail("dedupe", error)


def _decide(
    batch: Batch, entry: Entry, tool: Tool, blocked: Mapping[str, str], now_ms: int, bits: int
) -> None:
    event, migration = entry.value, tool.migration
    assert migration is not None
    own = key_name_of(tool, event)
    key = entry.listed or own
    if tool.order_by == "none" and not entry.listed:
        path = migration.wanted(key)
        if entry.sent and migration.may_have_been_ours(key, entry_ms(entry.entry_id)):
            path = OURS
        _take(entry, tool, migration, path, "")
        return
    place = (tool.tool_id, key)
    known = batch.paths.get(place) or batch.partition[PathState].keys.get(place, KeyState())
    number = batch.partition.number
    found = step(
        known,
        migration.wanted(key),
        waiting=key in blocked,
        released=bool(entry.listed),
        sent=entry.sent,
        new_mark=new_event_id(now_ms, number, bits),
    )
    if found.key != known:
        batch.paths[place] = found.key
    entry.begins = found.begins
    if found.waits:
        entry.mark = found.key.mark if found.begins == "mark" else ""
        entry.outcome = Blocked(BLOCKED, key)
        return
    _take(entry, tool, migration, found.path, key)


def _take(entry: Entry, tool: Tool, migration: Migration, path: Path, key: str) -> None:
    shown = tool.forward is not None and tool.forward.shadow
    works_here = path != OLD or migration.works_here
    entry.path = path
    entry.taken = Taken(key, migration.copies(path, shown=shown), works_here)
    if not works_here:
        entry.outcome = Dropped(OLD_PATH)


def settle_old(entries: Iterable[Entry], now_ms: int) -> None:
    """End here what old workers work on: nothing of it is delivered, nor tried again.

    What it came to is told by its stage: ``old-path``, or ``old-path:`` and the stage that failed.
    """
    for entry in entries:
        taken = entry.taken
        if taken is None:
            continue
        taken.at_ms = now_ms
        if isinstance(entry.outcome, Dropped) and taken.works_here:
            taken.dropped_by = entry.outcome.stage
        if entry.path != OLD:
            continue
        stage, result = OLD_PATH, "reaches" if entry.targets else "unrouted"
        if isinstance(entry.outcome, Failed):
            stage, result = f"{OLD_PATH}:{entry.outcome.stage}", "fails"
            taken.error = entry.outcome.error
            logger.warning(
                "event %s, which old workers work on, fails here in stage %s: %s",
                entry.value.event_id,
                entry.outcome.stage,
                entry.outcome.error,
            )
        elif isinstance(entry.outcome, Dropped):
            result = "dropped"
        metrics.OLD_PATH.labels(tool=entry.value.tool_id, here=result).inc()
        entry.outcome = Dropped(stage)


def write_paths(writes: Writes, batch: Batch, decision: Decision, now_ms: int) -> None:
    """Add where keys are after this batch, and hand-overs that begin with it.

    A key that something else of this batch has come to block stays where it is.
    """
    number = batch.partition.number
    for entry in batch.entries:
        if not entry.begins:
            continue
        waits = entry.outcome.key if isinstance(entry.outcome, Blocked) else ""
        if entry.begins == "mark" and decision.blocked.get(waits) == holder_of(entry.mark):
            record = {"tool_id": entry.value.tool_id, "key": waits, "since_ms": now_ms}
            writes.add("HSET", keys.hand_overs(number), entry.mark, orjson.dumps(record))
        elif waits:
            batch.paths.pop((entry.value.tool_id, waits), None)
            entry.begins = entry.mark = ""
    if batch.paths:
        _write(writes, batch.partition, dict(batch.paths))


def _write(
    writes: Writes, partition: Partition, changes: Mapping[tuple[str, str], KeyState]
) -> None:
    for (tool_id, key), state in changes.items():
        if text := state.encode():
            writes.add("HSET", keys.paths(partition.number), f"{key} {tool_id}", text)
        else:
            writes.add("HDEL", keys.paths(partition.number), f"{key} {tool_id}")
    writes.then(partial(partition[PathState].change, changes))


async def let_go_hand_overs(
    redis: Any, writes: Writes, partition: Partition, catalog: Catalog
) -> None:
    """Release keys whose hand-over is confirmed, or cancelled since they are to be old again.

    What has waited comes next, in its order. To be called with the partition's lock held.
    """
    state = partition[FailureState]
    held = {key: each for key, each in state.blocked.items() if is_hand_over(each)}
    if not held:
        return
    number = partition.number
    pipe = redis.pipeline(transaction=False)
    for holder in held.values():
        mark = holder.removeprefix(_HOLDER)
        pipe.hmget(keys.hand_overs(number), mark, confirmed_field(mark))
    for (key, holder), (record, confirmed) in zip(held.items(), await pipe.execute(), strict=True):
        mark = holder.removeprefix(_HOLDER)
        tool_id = orjson.loads(record)["tool_id"] if record else ""
        tool = catalog.tools.get(tool_id)
        migration = tool.migration if tool else None
        back = migration is not None and migration.wanted(key) == OLD
        if not back and not confirmed and migration is not None:
            continue
        if record is None:
            # Redis has lost it, and nobody can confirm it any more
            logger.error("the hand-over %s is not there: its key is released", mark)
            tool_id = next((t for (t, k), s in partition[PathState].keys.items() if k == key), "")
        _write(writes, partition, {(tool_id, key): KeyState() if back else KeyState(OURS)})
        writes.add("HDEL", keys.hand_overs(number), mark, sent_field(mark), confirmed_field(mark))
        writes.add("HSET", keys.blocked_keys(number), key, "")
        writes.then(partial(state.blocked.__setitem__, key, ""))
        metrics.HAND_OVERS.labels(tool=tool_id, end="cancelled" if back else "done").inc()
