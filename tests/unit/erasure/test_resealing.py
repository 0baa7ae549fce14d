"""Of a tenant whose keys go: what stays is sealed by another one, and no byte by those."""

import pytest

from hookstream.app.erasure.plan import phases
from hookstream.app.erasure.resealing import Resealing
from hookstream.app.errors import SealingKeyError, UnavailableError
from hookstream.app.lifecycle.blocks import block_of, open_block
from hookstream.app.stores.erasures import TENANT
from hookstream.codecs.envelope import decode_event, encode_event
from hookstream.codecs.sealed import KEYS, MonthKey, block_place, key_ids
from hookstream.codecs.warm_block import KeptEvent, pack_block
from tests.support.data_keys import new_key, sealing
from tests.unit.erasure.test_sealed import MONTH, TEXT, sealed_event
from tests.unit.erasure.test_targets import NOW, erasure


@pytest.fixture
def old() -> MonthKey:
    """A key that is to go, and seals nothing more."""
    key = new_key("default", MONTH)
    KEYS.retire(key.key_id)
    return key


@pytest.fixture
def new(old: MonthKey) -> MonthKey:
    return new_key("default", MONTH)


async def test_an_event_is_sealed_by_another_key(old: MonthKey, new: MonthKey) -> None:
    resealing, made = Resealing(sealing(NOW), {old.key_id}), sealed_event(old)
    kept = encode_event(made, made.stored)
    assert resealing.stands_in(kept)
    envelope = await resealing.envelope(made)
    assert envelope is not None
    assert not resealing.stands_in(envelope)
    again = decode_event(envelope)
    assert (again.stored.key_id, again.payload, again.event_id) == (
        new.key_id,
        TEXT,
        made.event_id,
    )
    # others' and its own new ones stay as they are
    assert await resealing.envelope(again) is None
    assert await resealing.envelope(sealed_event(new)) is None
    # once it is destroyed nobody can
    KEYS.destroy(old.key_id)
    assert await resealing.envelope(decode_event(kept)) is None


async def test_a_block_is_sealed_by_another_key(old: MonthKey, new: MonthKey) -> None:
    name, kept = "{hs:0}:warm:default/tool:2-0", [KeptEvent("1-0", b"a"), KeptEvent("2-0", b"b")]
    block = pack_block([(one.entry_id, (one.envelope,)) for one in kept], old, block_place(name))
    resealing = Resealing(sealing(NOW), {old.key_id})
    assert resealing.concerns(block)
    again = await block_of(kept[1:], name, block, await resealing.key("default"))
    assert key_ids([again]) == {new.key_id}
    assert await open_block(sealing(NOW), name, again) == kept[1:]
    # what was in the clear stays so
    clear = pack_block([(one.entry_id, (one.envelope,)) for one in kept])
    assert key_ids([await block_of(kept, name, clear, new)]) == set()


async def test_a_process_that_has_not_heard_of_it_asks_first() -> None:
    old = new_key("default", MONTH)
    # here PostgreSQL is away: better nothing is sealed than by a key that goes
    with pytest.raises(UnavailableError):
        await Resealing(sealing(NOW), {old.key_id}).key("default")
    KEYS.retire(old.key_id)
    with pytest.raises(SealingKeyError):
        await Resealing(sealing(NOW), {old.key_id}).key("default")


def test_without_such_keys_there_is_nothing_to_do() -> None:
    resealing = Resealing(sealing(NOW), ())
    assert not resealing.is_on
    assert not resealing.concerns(new_key().seal(b"", b""))
    assert not Resealing(None, {1}).is_on


@pytest.mark.parametrize("keys", [[], ["7"]])
def test_keys_go_last_and_what_is_sealed_anew_after_all_processes_know(keys: list[str]) -> None:
    order = [step for phase in phases(erasure(TENANT, data_keys=keys), 2) for step in phase]
    assert len(order) == len(set(order))
    assert ("data-keys" in order) == bool(keys)
    if keys:
        assert order[-1] == "data-keys"
        assert order.index("spools") < order.index("derived:0")
        assert erasure(TENANT, data_keys=keys).data_keys == {7}
