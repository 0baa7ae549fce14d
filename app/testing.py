"""For stream developers: test a stage, or a dedup function, without a server.

>>> event = make_event({"action": "opened"}, type="pull_request.opened")
>>> [result] = run_stage(my_stage, [event])          # doctest: +SKIP
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hookstream.app.errors import StageResultError
from hookstream.app.ids import new_event_id
from hookstream.app.routing.event_keys import DedupFunction, custom_message_id
from hookstream.app.stage_tables.state import TablesState, latest_of, settle, with_expired
from hookstream.app.stage_tables.table import WORLD, World
from hookstream.app.stages import wrong_result
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.table_writes import SplitBatchError
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.json_payload import dump_json
from hookstream.codecs.routed import Change
from hookstream.tables.dedup import DAY_MS, Candidate, decide

__all__ = [
    "find_duplicates",
    "make_event",
    "run_batch",
    "run_stage",
    "stage_results",
    "tables",
]

#: What :func:`make_event` and :func:`tables` take for the present (Unix ms).
BEGIN_MS = 1_767_225_600_000


def make_event(payload: Any = None, *, number: int = 0, **fields: Any) -> Event:
    """An event with sensible values; ``fields`` replaces any of :class:`Event`'s.

    ``payload`` is JSON, or bytes as they are. ``number`` tells events of one test apart.
    """
    body = payload if isinstance(payload, bytes) else dump_json(payload)
    values: dict[str, Any] = {
        "event_id": new_event_id(BEGIN_MS + number, 0, number),
        "tenant": "default",
        "tool_id": "test",
        "provider": "none",
        "type": "unknown",
        "message_id": f"test:unknown:{number}",
        "received_at_ms": BEGIN_MS + number,
        "content_type": "application/json",
        "payload": body,
    }
    made = {**values, **fields}
    # as the pipeline has them: nobody changes them in place
    return Event(**made | {"headers": MappingProxyType(made.get("headers", {}))})


@dataclass(slots=True)
class Clock:
    """What time it is (Unix ms) for tables' ``.now()``; set it, or move it on."""

    now_ms: int = BEGIN_MS

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self.now_ms += round(seconds * 1000)


@contextmanager
def tables(now_ms: int = BEGIN_MS) -> Iterator[Clock]:
    """Empty tables (``app.Table``) for all that runs within this, and the clock they go by.

    What stages write is there for the next ``run_stage``, and to be read by the test itself and by
    pages that it calls. Windows go by the events' ``received_at_ms``, and ``.now()`` by the clock.

    >>> with tables() as clock:                          # doctest: +SKIP
    ...     run_stage(count, [make_event(), make_event(number=1)])
    ...     assert counts["test"].now() == 2
    """
    clock = Clock(now_ms)
    partition = Partition(0, 1, "test")
    partition.add(TablesState(_Memory()))
    token = WORLD.set(World(lambda: {0: partition}, lambda: clock.now_ms))
    try:
        yield clock
    finally:
        WORLD.reset(token)


def run_stage(
    stage: Callable[[Event], Awaitable[Event | None]], events: Iterable[Event]
) -> list[Event | None]:
    """What a per-event stage makes of each event, in order; None where it drops one.

    From a plain test, as often as it likes, and also while a loop runs (in a notebook, say): it has
    a loop of its own. In an ``async def`` test :func:`stage_results` keeps to that test's loop, as
    clients that belong to it want. Tables are empty, unless this runs within :func:`tables`.

    Raises what the stage raises: in the pipeline that event would become a dead letter; and
    StageResultError where it returns something else than an event or None.
    """
    context = copy_context()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(context.run, lambda: asyncio.run(stage_results(stage, events)))
        return run.result()


async def stage_results(
    stage: Callable[[Event], Awaitable[Event | None]], events: Iterable[Event]
) -> list[Event | None]:
    """:func:`run_stage` for tests that are ``async def``."""
    if WORLD.get() is None:
        with tables():
            return await stage_results(stage, events)
    found = []
    for event in events:
        batch = _batch([event])
        with batch.on(batch.entries[0]):
            result = await stage(event)
        if result is not event and (wrong := wrong_result(event, result)):
            raise StageResultError(f"{stage.__name__} returned {wrong}")
        _commit(batch)
        found.append(result)
    return found


async def run_batch(
    stage: Callable[[Batch], Awaitable[None] | None], events: Iterable[Any]
) -> list[Entry]:
    """What a stage over batches (``@app.batches``) makes of one batch of events.

    Over a stream channel of one's own: of one batch of its values, whatever they are.

    Each entry says what became of its event: ``entry.outcome`` (accepted, dropped, failed, …),
    ``entry.value``. The partition has no server behind it: a stage that commits needs one. Tables
    are as in :func:`run_stage`; as in the pipeline the batch is worked on again, in two parts,
    where an event has built on what one wrote that fails.

    Raises what the stage raises: in the pipeline the batch would come again.
    """
    if WORLD.get() is None:
        with tables():
            return await run_batch(stage, events)
    given = list(events)
    batch = _batch(given)
    result = stage(batch)
    if inspect.isawaitable(result):
        await result
    try:
        _commit(batch)
    except SplitBatchError as error:
        at = max(1, error.at)
        return [*await run_batch(stage, given[:at]), *await run_batch(stage, given[at:])]
    return batch.entries


def _batch(events: Sequence[Any]) -> Batch:
    world = WORLD.get()
    assert world is not None
    entries = [
        Entry(f"{event.received_at_ms}-{number}", encode_event(event), event)
        if isinstance(event, Event)
        else Entry(f"1-{number}", b"", event)
        for number, event in enumerate(events)
    ]
    return Batch("test", world.owned()[0], entries, lambda *_: None, own=True)


def _commit(batch: Batch) -> None:
    """What the stage ``commit`` does with what was written to tables."""
    changes, state = settle(batch), batch.partition[TablesState]
    if changes:
        latest_ms = latest_of(batch)
        written, reached = with_expired(state, changes, latest_ms)
        state.follow(written, "1-0", latest_ms, reached)


class _Memory:
    """A partition's values, as far as a test lasts."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, start: bytes, end: bytes, limit: int | None = None) -> list[Change]:
        found = sorted(item for item in self._values.items() if start <= item[0] < end)
        return found[:limit]

    def newest(self, changes: Sequence[Change], position: str) -> list[Change]:
        return [change for change in changes if self._values.get(change[0]) == change[1]]

    def apply(self, changes: Sequence[Change], position: str) -> None:
        for key, value in changes:
            if value:
                self._values[key] = value
            else:
                self._values.pop(key, None)

    def position(self) -> str:
        return "1-0"

    def close(self) -> None:
        pass


def find_duplicates(
    function: DedupFunction, events: Iterable[Event], *, window_ms: int = DAY_MS
) -> list[Event | None]:
    """What dedup by ``function`` makes of events that come in this order.

    For each the earlier event that it is a duplicate of, or None. Their times are their
    ``received_at_ms``.

    Raises what the function raises, and DedupFunctionError where it returns neither text nor None:
    in the pipeline that event would be tried again.
    """
    given = list(events)
    candidates = []
    for number, event in enumerate(given):
        found = custom_message_id({"tested": function}, "tested", event)
        entry_id = f"{event.received_at_ms}-{number}"
        window = window_ms if found else 0
        candidates.append(Candidate(entry_id, event.event_id, found, window))
    by_id = {event.event_id: event for event in given}
    return [by_id.get(first) for first in decide(candidates, {}).duplicate_of]
