"""An erasure opens what is sealed, seals again what it writes, and says which key it lacks."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from hookstream.app.erasure.blobs import ClearBlobs
from hookstream.app.erasure.partition import UNREADABLE, PartitionSweep
from hookstream.app.erasure.targets import Target
from hookstream.app.erasure.wide import WideSweep
from hookstream.app.errors import SealingKeyError
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.ingest.spool import Spool
from hookstream.app.ingest.spool_erasure import SpoolErasure, spools_that_lack
from hookstream.app.lifecycle.blocks import block_of, open_block
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.privacy.subjects import Subject
from hookstream.app.redis import keys
from hookstream.app.stores.erasures import SUBJECT
from hookstream.codecs.envelope import decode_event, encode_event
from hookstream.codecs.errors import ErasedError
from hookstream.codecs.payload import Packing, StoredPayload
from hookstream.codecs.routed import Finished, encode_routed
from hookstream.codecs.sealed import (
    KEYS,
    MonthKey,
    block_place,
    daily_place,
    dictionary_place,
    is_sealed,
    key_ids,
    payload_place,
    refusal_place,
    update_place,
)
from hookstream.codecs.warm_block import KeptEvent, pack_block
from hookstream.proto.envelope_pb2 import PayloadEncoding
from hookstream.proto.pipeline_pb2 import AuditBatch, DailyAudit
from tests.support.data_keys import new_key, sealing
from tests.unit.erasure.test_targets import KEY, MAIL, NOW, erasure, event

MONTH = "2023-11"
TEXT = f'{{"mail":"{MAIL}"}}'.encode()


class Shelf:
    """No dictionaries."""

    def current(self, tool_id: str, month: str = "") -> None:
        return None

    async def fetch(self, ids: Any) -> None:
        """There are none."""


def payloads() -> Payloads:
    return Payloads(None, cast(Any, Shelf()), Packing(), sealing(NOW))


def target() -> Target:
    return Target(erasure(SUBJECT), Subject.of(KEY, [MAIL]))


def partition_sweep() -> PartitionSweep:
    partition = cast(Any, SimpleNamespace(number=0, epoch=1, nonce="n"))
    return PartitionSweep(
        None, cast(Any, None), payloads(), partition, target(), dry=True, note=None
    )


def wide_sweep() -> WideSweep:
    nothing = cast(Any, None)
    return WideSweep(
        None, nothing, nothing, nothing, payloads(), target(),
        partitions=1, dry=True, note=nothing, note_objects=nothing,
    )  # fmt: skip


@pytest.fixture
def key() -> MonthKey:
    return new_key("default", MONTH)


def lost() -> MonthKey:
    return new_key("default", MONTH, known=False)


async def test_a_block_is_opened_and_sealed_again_by_its_own_key(key: MonthKey) -> None:
    name, kept = "{hs:0}:warm:default/tool:2-0", [KeptEvent("1-0", b"a"), KeptEvent("2-0", b"b")]
    packed = [(one.entry_id, (one.envelope,)) for one in kept]
    old = pack_block(packed, key, block_place(name))
    assert await open_block(sealing(NOW), name, old) == kept
    again = await block_of(kept[1:], name, old)
    assert key_ids([again]) == {key.key_id}
    assert await open_block(sealing(NOW), name, again) == kept[1:]
    assert not is_sealed(await block_of(kept[1:], name, pack_block(packed)))
    assert await block_of([], name, old) == b""
    other = pack_block(packed, gone := lost(), block_place(name))
    with pytest.raises(SealingKeyError, match=str(gone.key_id)):
        await open_block(sealing(NOW), name, other)
    KEYS.destroy(key.key_id)
    for later in (open_block(sealing(NOW), name, old), block_of(kept, name, old)):
        with pytest.raises(ErasedError):
            await later


def sealed_event(by: MonthKey, **fields: Any) -> Any:
    made = event(TEXT, **fields)
    kept = Packing(compress=False).pack(TEXT)
    packed = kept.sealed(by, payload_place(made.tenant, made.event_id))
    return decode_event(encode_event(made, packed))


async def test_events_are_found_in_sealed_payloads(key: MonthKey) -> None:
    sweep, mine = partition_sweep(), sealed_event(key)
    assert await sweep._hits([mine]) == [mine]
    gone = lost()
    # a key of another tenant that is away is in nobody's way
    assert await sweep._hits([sealed_event(gone, tenant="another")]) == []
    with pytest.raises(SealingKeyError, match=str(gone.key_id)):
        await sweep._hits([sealed_event(gone)])
    later = sealed_event(key)
    KEYS.destroy(key.key_id)
    assert await sweep._hits([later]) == []
    # it is erased, and not unreadable
    assert UNREADABLE not in sweep.tallies


class Stored:
    """Redis with one event in its stream, and nothing that has failed."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def xrange(self, key: str, *span: str, count: int) -> list[Any]:
        return [(b"1-0", {b"d": self.data})]

    async def scan_iter(self, match: str, count: int) -> AsyncIterator[bytes]:
        for _ in ():
            yield b""


async def test_a_payload_beside_its_stream_is_its_keys_tenants(key: MonthKey) -> None:
    sweep, made = partition_sweep(), event()
    name, place = keys.blob(keys.events(0), made.event_id), ("default", made.event_id)
    assert await sweep._says_blob(name, TEXT)
    assert await sweep._says_blob(name, key.seal(TEXT, payload_place(*place)))
    others = new_key("another", MONTH).seal(TEXT, payload_place("another", made.event_id))
    assert not await sweep._says_blob(name, others)
    unknown = lost().seal(TEXT, payload_place(*place))

    def stored(encoding: int) -> ClearBlobs:
        packed = StoredPayload(encoding, len(unknown), None, name)
        return ClearBlobs(Stored(encode_event(made, packed)))

    sweep._clear_blobs = stored(PayloadEncoding.PAYLOAD_ENCODING_SEALED)
    with pytest.raises(SealingKeyError):
        await sweep._says_blob(name, unknown)
    # a sender wrote what only looks sealed: its event says that it is not
    sweep._clear_blobs = stored(PayloadEncoding.PAYLOAD_ENCODING_RAW)
    assert not await sweep._says_blob(name, unknown)
    assert await sweep._says_blob(name, unknown + TEXT)


async def test_finished_updates_and_days_on_their_way_are_opened(key: MonthKey) -> None:
    sweep, event_id = partition_sweep(), event().event_id

    def entry(by: MonthKey) -> bytes:
        update = by.seal(TEXT, update_place("default", event_id))
        finished = Finished(event_id, "default", "tool", "t", "", NOW - 1000, (), (update,))
        return encode_routed(0, "1-0", "1-0", finished, [])

    assert await sweep._says_routed("updates", entry(key))
    with pytest.raises(SealingKeyError):
        await sweep._says_routed("deferred:high", entry(lost()))
    place = daily_place("default", "agent", "2023-11-14")
    text = "sealed:2:" + base64.b64encode(key.seal(TEXT, place)).decode()
    daily = DailyAudit(tenant="default", context_id="agent", day="2023-11-14", summary=text)
    batch = AuditBatch(dailies=[daily]).SerializeToString()
    assert await sweep._says_routed("audit", batch)
    KEYS.destroy(key.key_id)
    assert not await sweep._says_routed("updates", entry(key))
    assert not await sweep._says_routed("audit", batch)


class Lists:
    """A list in Redis, and what is written in its place."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)

    async def lrange(self, key: str, first: int, last: int) -> list[bytes]:
        return self.bodies

    async def write(self, writes: Any) -> None:
        for command, _, (at, old, new) in writes:
            assert (command, self.bodies[at]) == ("LSWAP", old)
            self.bodies[at] = new


async def test_what_stands_in_place_of_an_update_is_sealed_as_that_was(key: MonthKey) -> None:
    seals, sweep = FeedSeals(sealing(NOW)), partition_sweep()
    update = {"kind": "update", "summary": MAIL, "received_at": NOW - 1000, "priority": "high"}
    body = orjson.dumps(update)
    lists = Lists(seals.seal("default", "agent", body, event().event_id), body)
    cast(Any, sweep)._redis = cast(Any, sweep)._fence = lists
    sweep._dry = False
    name = keys.throttled_updates(0, "default", "agent")
    assert await sweep._swap(name, "default", "agent", [], []) == 2
    assert [is_sealed(one) for one in lists.bodies] == [True, False]
    assert key_ids(lists.bodies) == {key.key_id}
    left = [orjson.loads(one) for one in await seals.opened("default", "agent", lists.bodies)]
    assert left[0] == left[1]
    assert (left[0]["kind"], left[0]["priority"], left[0]["summary"]) == ("erased", "high", "")
    # the other form of it, of a key that is destroyed, is the same
    KEYS.destroy(key.key_id)
    [destroyed, _] = await seals.opened("default", "agent", lists.bodies)
    assert orjson.loads(destroyed).keys() == left[0].keys()
    assert seals.again("default", "agent", lists.bodies[0], b"{}") == lists.bodies[0]


class SpoolsHash:
    """What processes say of their spools, in Redis."""

    def __init__(self) -> None:
        self.said: dict[bytes, bytes] = {}

    async def hset(self, key: str, name: str, data: bytes) -> None:
        self.said[name.encode()] = data

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.said


async def test_a_spool_with_what_cannot_be_opened_says_so(tmp_path: Path, key: MonthKey) -> None:
    def entry(by: MonthKey, at: int, **fields: Any) -> tuple[str, bytes]:
        made = sealed_event(by, at=at, **fields)
        return keys.events(0), encode_event(made, made.stored)

    gone = lost()
    spool = Spool(tmp_path / "spool", 1 << 24)
    spool.open()
    spool.add([entry(key, NOW - 3000), entry(gone, NOW - 2000)])
    spool.add([entry(new_key("another", MONTH, known=False), NOW - 1000, tenant="another")])
    one = target()

    async def note_place(*said: Any) -> None:
        """It is counted in the receipt."""

    store = SimpleNamespace(
        known=lambda: [one.erasure],
        late_by=lambda found: one.erasure if one.takes_event(found) else None,
        note_place=note_place,
    )
    redis, appender = SpoolsHash(), SimpleNamespace(spool=spool)
    service = SpoolErasure(redis, cast(Any, appender), payloads(), cast(Any, store))
    await service.look()
    assert spool.entries == 2
    [lacking] = await spools_that_lack(redis, one.erasure.erasure_id)
    assert str(gone.key_id) in lacking
    KEYS.destroy(gone.key_id)
    await service.look()
    assert await spools_that_lack(redis, one.erasure.erasure_id) == []
    spool.close()


async def test_refusals_and_dictionaries_are_opened(key: MonthKey) -> None:
    sweep, stream = wide_sweep(), keys.refusals("default", "tool")

    def refusal(by: MonthKey) -> dict[bytes, bytes]:
        parts = {b"r": b"{}", b"h": b"{}", b"b": TEXT}
        return {name: by.seal(part, refusal_place(stream)) for name, part in parts.items()}

    assert await sweep._refusal(stream, refusal(key))
    assert not await sweep._refusal(keys.refusals("another", "tool"), refusal(key))
    with pytest.raises(SealingKeyError):
        await sweep._refusal(stream, refusal(lost()))
    sealed = key.seal(TEXT, dictionary_place(7))
    assert await sweep._fragments(7, sealed) == await sweep._fragments(7, TEXT) == TEXT
    others = new_key("another", MONTH).seal(TEXT, dictionary_place(7))
    assert await sweep._fragments(7, others) == b""
    KEYS.destroy(key.key_id)
    assert not await sweep._refusal(stream, refusal(key))
    assert await sweep._fragments(7, sealed) == b""
