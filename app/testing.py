"""For stream developers: test a stage, or a dedup function, without a server.

>>> event = make_event({"action": "opened"}, type="pull_request.opened")
>>> [result] = run_stage(my_stage, [event])          # doctest: +SKIP
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from hookstream.app.errors import StageResultError
from hookstream.app.ids import new_event_id
from hookstream.app.routing.event_keys import DedupFunction, custom_message_id
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event, encode_event
from hookstream.tables.dedup import DAY_MS, Candidate, decide

__all__ = ["find_duplicates", "make_event", "run_batch", "run_stage", "stage_results"]


def make_event(payload: Any = None, *, number: int = 0, **fields: Any) -> Event:
    """An event with sensible values; ``fields`` replaces any of :class:`Event`'s.

    ``payload`` is JSON, or bytes as they are. ``number`` tells events of one test apart.
    """
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    values: dict[str, Any] = {
        "event_id": new_event_id(1_767_225_600_000 + number, 0, number),
        "tenant": "default",
        "tool_id": "test",
        "provider": "none",
        "type": "unknown",
        "message_id": f"test:unknown:{number}",
        "received_at_ms": 1_767_225_600_000 + number,
        "content_type": "application/json",
        "payload": body,
    }
    return Event(**{**values, **fields})


def run_stage(
    stage: Callable[[Event], Awaitable[Event | None]], events: Iterable[Event]
) -> list[Event | None]:
    """What a per-event stage makes of each event, in order; None where it drops one.

    From a plain test, as often as it likes, and also while a loop runs (in a notebook, say): it has
    a loop of its own. In an ``async def`` test :func:`stage_results` keeps to that test's loop, as
    clients that belong to it want.

    Raises what the stage raises: in the pipeline that event would become a dead letter; and
    StageResultError where it returns something else than an event or None.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(stage_results(stage, events))).result()


async def stage_results(
    stage: Callable[[Event], Awaitable[Event | None]], events: Iterable[Event]
) -> list[Event | None]:
    """:func:`run_stage` for tests that are ``async def``."""
    found = []
    for event in events:
        result = await stage(event)
        if result is not None and not isinstance(result, Event):
            raise StageResultError(
                f"{stage.__name__} returned {type(result).__name__}: Event or None is wanted"
            )
        found.append(result)
    return found


async def run_batch(
    stage: Callable[[Batch], Awaitable[None] | None], events: Iterable[Any]
) -> list[Entry]:
    """What a stage over batches (``@app.batches``) makes of one batch of events.

    Over a stream channel of one's own: of one batch of its values, whatever they are.

    Each entry says what became of its event: ``entry.outcome`` (accepted, dropped, failed, …),
    ``entry.value``. The partition has no server behind it: a stage that commits needs one.

    Raises what the stage raises: in the pipeline the batch would come again.
    """
    entries = [
        Entry(f"{event.received_at_ms}-{number}", encode_event(event), event)
        if isinstance(event, Event)
        else Entry(f"1-{number}", b"", event)
        for number, event in enumerate(events)
    ]
    batch = Batch("test", Partition(0, 1, "test"), entries, lambda *_: None, own=True)
    result = stage(batch)
    if inspect.isawaitable(result):
        await result
    return entries


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
