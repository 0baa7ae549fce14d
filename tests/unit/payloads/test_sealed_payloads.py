"""Payloads are sealed when they are packed; who lacks a key waits, and loses nothing."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hookstream.app.errors import SealingKeyError
from hookstream.app.feeds.plan import FeedPlan, Limits, Ready
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.lifecycle.packing import Packable, Seal, pack
from hookstream.app.lifecycle.warm import Gathered, Taken
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.payloads.trainer import Trainer
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.readable import is_away, make_readable
from hookstream.app.testing import make_event
from hookstream.codecs.dictionaries import BOOK
from hookstream.codecs.envelope import Event, decode_event, encode_event, read_kept
from hookstream.codecs.errors import UnknownKeyError
from hookstream.codecs.payload import Packing
from hookstream.codecs.routed import Finished, Routed, Target
from hookstream.codecs.sealed import (
    KEYS,
    block_place,
    dictionary_place,
    is_sealed,
    month_of_event,
    update_place,
)
from hookstream.codecs.training import train
from hookstream.codecs.warm_block import read_block
from hookstream.tables.rates import Rate
from tests.support.data_keys import Away, new_key, sealing
from tests.support.fixtures import github_examples

BODIES = [example.body for example in github_examples()][:64]
EVENT = make_event(b'{"n": 1, "text": "%s"}' % (b"words " * 60))
MONTH = month_of_event(EVENT.event_id)
NOW = EVENT.received_at_ms


class Shelf:
    """No dictionaries."""

    def current(self, tool_id: str, month: str = "") -> None:
        return None

    async def fetch(self, ids: Any) -> None:
        """There are none."""


class NoRedis:
    """Holds dictionaries by their keys."""

    def __init__(self, **held: bytes) -> None:
        self.held = held
        self.asked: list[str] = []

    def pipeline(self, transaction: bool) -> "NoRedis":
        return self

    def get(self, key: str) -> None:
        self.asked.append(key)

    async def execute(self) -> list[bytes | None]:
        asked, self.asked = self.asked, []
        return [self.held.get(key) for key in asked]

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        return {b"tool": self.held_id} if self.held else {}

    @property
    def held_id(self) -> bytes:
        [name] = self.held
        return name.rpartition(":")[2].encode()


def payloads(keys: DataKeys) -> Payloads:
    return Payloads(NoRedis(), cast(Dictionaries, Shelf()), Packing(), keys)


def entry(data: bytes, value: Any = None) -> Entry:
    return Entry("1-1", data, value or decode_event(data))


async def test_a_payload_that_would_be_sealed_is_not_kept_in_the_clear() -> None:
    tenant = "without-a-key"
    made = payloads(sealing(NOW))
    assert made.seals
    with pytest.raises(SealingKeyError, match=tenant):
        made.pack(tenant, "tool", EVENT.event_id, b"{}")
    with pytest.raises(SealingKeyError, match="PostgreSQL is away"):
        await made.encode_aside(make_event(b"{}", tenant=tenant))


async def test_with_this_months_key_nobody_is_asked() -> None:
    new_key("default", MONTH)
    made = payloads(sealing(NOW))
    data = await made.encode_aside(EVENT)
    read = entry(data)
    assert not is_away([read])
    await make_readable(made, [read])
    assert read.value.payload == EVENT.payload
    assert b"words" not in data
    # what came sealed goes on as it came
    assert made.encode(read.value) == data
    # and what came in the clear before is sealed where it is written anew
    for clear in (encode_event(EVENT), encode_event(EVENT, Packing().pack(EVENT.payload))):
        again = await made.resealed(clear)
        assert b"words" not in again
        assert decode_event(again).payload == EVENT.payload
    assert await made.resealed(data) is data


async def test_a_batch_waits_for_a_key_that_opens_it_and_for_one_that_seals_it() -> None:
    key = new_key("default", MONTH, known=False)
    KEYS.add(other := new_key("default", MONTH))
    keys = sealing(NOW)
    made = payloads(keys)
    sealed = (
        Packing().pack(EVENT.payload).sealed(key, f"payload\0default\0{EVENT.event_id}".encode())
    )
    data = encode_event(EVENT, sealed)
    waiting = entry(data)
    assert is_away([waiting])
    with pytest.raises(SealingKeyError, match=str(key.key_id)):
        await make_readable(made, [waiting])
    # nothing was decided of it
    assert waiting.failure is None
    assert list(keys.missing) == [str(key.key_id)]
    KEYS.add(key)
    await make_readable(made, [entry(data)])
    # without one that seals, what is made of it could not be kept
    for one in (key, other):
        KEYS.destroy(one.key_id)
    with pytest.raises(SealingKeyError, match=f"default for {MONTH}"):
        await make_readable(made, [entry(encode_event(EVENT))])


async def test_what_is_erased_is_a_dead_letter_and_its_neighbour_goes_on() -> None:
    key = new_key("default", MONTH)
    made = payloads(sealing(NOW))
    first, second = entry(made.encode(EVENT)), entry(encode_event(make_event(b"{}", number=2)))
    KEYS.destroy(key.key_id)
    new_key("default", MONTH)
    await make_readable(made, [first, second])
    assert first.failure is not None
    assert first.failure.final
    assert "erased" in first.failure.error
    assert (second.failure, second.value.payload) == (None, b"{}")


async def test_finished_updates_wait_for_their_key_too() -> None:
    key = new_key("default", MONTH, known=False)
    update = key.seal(b'{"summary": "x"}', update_place("default", EVENT.event_id))
    finished = Finished(
        EVENT.event_id, "default", "tool", "t", "", EVENT.received_at_ms, (), (update,)
    )
    routed = Routed(0, "1-1", "0-0", finished, (Target("c", "normal", "s"),))
    waiting = entry(b"", routed)
    assert is_away([waiting])
    with pytest.raises(SealingKeyError, match=str(key.key_id)):
        await make_readable(payloads(sealing(NOW)), [waiting])


def test_what_is_throttled_lies_sealed_and_comes_back_as_a_sealed_digest() -> None:
    new_key("default", MONTH)
    seals = FeedSeals(sealing(NOW))
    who = ("default", "c")

    def update(n: int) -> Ready:
        body = (
            b'{"kind":"update","context_id":"c","priority":"normal","event_id":"e%d","tool_id":"t",'
            b'"event_type":"x","summary":"secret %d","received_at":%d,"keys":[]}' % (n, n, NOW)
        )
        return Ready("c", "normal", f"e{n}", "", seals.seal(*who, body, EVENT.event_id))

    def plan(waiting: list[bytes]) -> FeedPlan:
        return FeedPlan(
            0,
            NOW,
            seqs={"default/c": 3},
            throttled={"default/c": len(waiting)} if waiting else {},
            arrivals={"default/c": 0.0 if waiting else NOW + 10_000_000.0},
            limits=lambda *_: Limits(Rate(1, 1)),
            waiting={"default/c": waiting},
            seals=seals,
        )

    first = plan([])
    first.add("default", update(1))
    first.add("default", update(2))
    first.finish(lambda *_: None)
    pushed = next(one for one in _writes(first) if one[0] == "RPUSH")
    assert all(is_sealed(body) for body in pushed[2:])
    later = plan(list(pushed[2:]))
    later.coalesce(*who)
    [added] = [one for one in _writes(later) if one[0] == "XADD"]
    assert is_sealed(added[-1])
    digest = seals.open(*who, added[-1])
    # both are about the same, of which the latest is told
    assert b"secret 2" in digest
    assert [delivery.event_id for delivery in later.deliveries] == ["e1", "e2"]
    # of another context it is no update at all
    assert seals.open("default", "other", added[-1]) == added[-1]


async def test_an_erased_update_keeps_its_place_in_the_feed() -> None:
    key = new_key("default", MONTH)
    seals = FeedSeals(sealing(NOW))
    body = seals.seal("default", "c", b'{"kind":"update"}', EVENT.event_id)
    assert await seals.opened("default", "c", [body, b"{}"]) == [b'{"kind":"update"}', b"{}"]
    KEYS.destroy(key.key_id)
    [opened] = await seals.opened("default", "c", [body])
    assert b'"kind":"erased"' in opened


def _writes(plan: FeedPlan) -> list[tuple[Any, ...]]:
    return [(command, key, *args) for command, key, args in plan.writes.commands]


async def test_a_dictionary_packs_its_own_month_only_and_goes_with_its_key() -> None:
    key = new_key("default", MONTH)
    found = train(BODIES)
    assert found is not None
    own = found.named_for(f"default/tool/{MONTH}")
    assert own.dictionary_id != found.dictionary_id
    BOOK.remove(own.dictionary_id)
    content = key.seal(own.content, dictionary_place(own.dictionary_id))
    keys = sealing(NOW)
    made = Dictionaries(
        NoRedis(**{f"hs:dictionary:{own.dictionary_id}": content}),
        cast(Any, Away()),
        cast(Any, None),
        enabled=True,
        data_keys=keys,
    )
    await made.look()
    current = made.current("tool", MONTH)
    assert current is not None
    assert current.content == own.content
    assert made.current("tool", "2020-01") is None
    assert made.current("tool") is None
    # a payload that it packed comes back
    packing = Packing()
    assert packing.pack(BODIES[0], current).open() == BODIES[0]
    # what watches for destroyed keys tells it
    keys._destroyed({"key_id": key.key_id, "tenant": "default", "month": MONTH})
    assert made.current("tool", MONTH) is None
    assert BOOK.get(own.dictionary_id) is None
    await made.look()
    assert made.current("tool", MONTH) is None


def test_a_new_month_has_its_tools_looked_at_soon() -> None:
    month = [MONTH]
    counted = Payloads(NoRedis(), cast(Dictionaries, Shelf()), Packing(), sealing(NOW))
    counted.month_now = lambda: month[0]  # type: ignore[method-assign]
    tool = SimpleNamespace(tool_id="tool", tenant="default")
    trainer = Trainer(
        None,
        cast(Any, None),
        counted,
        cast(Any, Shelf()),
        cast(Any, SimpleNamespace(dictionary_min_events=64)),
        worker_id="w",
        catalog=cast(Any, lambda: SimpleNamespace(tools={"tool": tool})),
        samples=cast(Any, None),
    )
    counted.seen["tool"] = 5000
    # what was counted before its first look counts
    assert trainer.due() == [tool]
    trainer._look_at["tool"] = 60_000
    assert trainer.due() == []
    month[0] = "2027-01"
    assert trainer.due() == []
    counted.seen["tool"] += 64
    assert trainer.due() == [tool]


def test_a_child_packs_with_the_keys_of_its_task_and_keeps_none() -> None:
    key = new_key("default", MONTH, known=False)
    sealed = (
        Packing().pack(EVENT.payload).sealed(key, f"payload\0default\0{EVENT.event_id}".encode())
    )
    data = encode_event(EVENT, sealed)
    work = [Packable("1-1", data, None)]
    with pytest.raises(UnknownKeyError):
        pack(work, {})
    block = pack(work, {}, Seal([key], key, "name"))
    assert isinstance(block, bytes)
    assert is_sealed(block)
    assert KEYS.get(key.key_id) is None
    with KEYS.lent([key]):
        [kept] = read_block(block, block_place("name"))
    assert decode_event(kept.envelope).payload == EVENT.payload
    # what is erased stays as it is, and does not keep the others from going
    [stuck] = read_block(pack(work, {}, Seal(erased=[key.key_id])))  # type: ignore[arg-type]
    assert stuck.envelope == data


def test_events_of_the_same_hour_and_another_month_are_in_other_blocks() -> None:
    def taken(event: Event) -> Taken:
        data = encode_event(event)
        return Taken("1796083200001-0", 1_796_083_200_001, data, read_kept(data))

    # a millisecond before and after the end of November, appended in the same one
    before = make_event(b"{}", number=1, event_id="01a22ee6-afff-7000-8000-000000000000")
    after = make_event(b"{}", number=2, event_id="01a22ee6-b000-7000-8000-000000000000")
    months = {month_of_event(one.event_id) for one in (before, after)}
    gathered = Gathered()
    gathered.add(taken(before))
    assert gathered.takes(taken(before))
    assert not gathered.takes(taken(after))
    assert sorted(months) == ["2026-11", "2026-12"]
