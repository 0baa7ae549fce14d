"""Updates that are finished before an event is committed: once for all of its contexts."""

from dataclasses import replace

import orjson
import pytest

from hookstream.app.feeds.rendering import Renderer
from hookstream.app.feeds.update import addressed
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.outputs import outputs
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.scheduler import Scheduler
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.routed import Finished, Target, decode_routed

PARTITIONS = 4
#: Its contexts: three take all of it, one has room for a few tokens.
BUDGETS = {"a": None, "b": 4000, "c": 8, "d": None}
CATALOG = Catalog(
    1,
    contexts={
        ("default", name): Context("default", name, "", "normal", token_budget=budget)
        for name, budget in BUDGETS.items()
    },
)
TARGETS = tuple(Target(name, "normal", "all") for name in BUDGETS)
EVENT = make_event(
    {"action": "opened", "issue": {"title": "The door does not close " * 5, "number": 7}},
    event_id="019b76da-a800-7003-8000-00000000002a",
)


def test_contexts_share_what_says_the_same_and_each_gets_what_it_would_alone() -> None:
    renderer = Renderer(lambda: CATALOG)
    finished, targets = renderer.finish(EVENT, TARGETS)
    assert len(finished.updates) == 2
    assert [target.update for target in targets] == [0, 0, 1, 0]
    for target in targets:
        made = orjson.loads(addressed(finished.updates[target.update], target))
        assert made == orjson.loads(renderer.render(EVENT, target))
        budget = BUDGETS[target.context_id]
        assert (made["context_id"], made["tokens"] <= (budget or 1000)) == (target.context_id, True)
    assert list(finished.keys) == orjson.loads(finished.updates[0])["keys"]


@pytest.mark.parametrize(
    ("provider", "source", "signature"),
    [
        ("github", "", "verified"),
        ("github", "queue", "none"),
        ("github", "topic", "none"),
        ("github", "import", "none"),
        ("none", "", "none"),
    ],
)
def test_only_what_came_to_the_door_signed_is_verified(
    provider: str, source: str, signature: str
) -> None:
    event = decode_event(encode_event(replace(EVENT, provider=provider, source=source)))
    made = orjson.loads(Renderer(lambda: CATALOG).render(event, TARGETS[0]))
    told = {"provider": provider, "source": source or "webhook", "signature": signature}
    assert made["provenance"] == {**told, "author": made["provenance"]["author"]}


async def sent(entry: Entry) -> list[object]:
    """What goes on of an entry, for the contexts of each partition."""
    batch = Batch("events", Partition(0, 1, "n"), [entry], lambda *_: None)
    async with Scheduler().slot(0.0) as slot:
        groups = await outputs(batch, slot, encode=encode_event, pins={}, partitions=PARTITIONS)
    return [decode_routed(value).event for _, values in groups for value in values]


async def test_what_goes_on_is_finished_unless_a_stage_changed_the_event_since() -> None:
    raw = encode_event(EVENT)
    event = decode_event(raw)
    entry = Entry("1-1", raw, event, targets=TARGETS)
    assert set(map(type, await sent(entry))) == {Event}
    finished, entry.targets = Renderer(lambda: CATALOG).finish(event, TARGETS)
    entry.finished = (event, finished)
    assert set(map(type, await sent(entry))) == {Finished}
    entry.value, entry.changed = event.enrich(more=1), True
    for said in await sent(entry):
        assert isinstance(said, Event)
        assert said.enrichment == {"more": 1}
