"""One partition's part of an erasure: what its owner finds in its keys and tables, and takes out.

First the places that events are in, then, once all events are known that have to go, what was made
of them. Every step may be done again: what is gone is not found.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson
from mode.utils.logging import get_logger

from hookstream.app.erasure.blobs import ClearBlobs
from hookstream.app.erasure.progress import Saw, nobody_counts
from hookstream.app.erasure.resealing import Resealing
from hookstream.app.erasure.targets import (
    ERASED_TEXT,
    Target,
    erased_digest,
    left_of,
    told_of,
)
from hookstream.app.errors import SealingKeyError
from hookstream.app.feeds.inheritance import kept_whole
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.ids import entry_order
from hookstream.app.keyring.error_texts import ErrorTexts
from hookstream.app.lifecycle.blocks import block_of, open_block
from hookstream.app.lifecycle.warm import done_until
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.stage_tables.state import TablesState
from hookstream.app.stores.erasures import Tally
from hookstream.app.stores.tiers import warm_entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.rewriting import Fence, has_tombstones, pages, rewrite
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError, ErasedError, UnknownDictionaryError
from hookstream.codecs.routed import Finished, decode_changes, decode_routed, encode_changes
from hookstream.codecs.sealed import is_sealed, payload_place
from hookstream.codecs.warm_block import KeptEvent
from hookstream.proto.pipeline_pb2 import AuditBatch, DailyAudit
from hookstream.tables.stages import StageTable

__all__ = ["PRIORITIES", "NotYetError", "PartitionSweep"]

logger = get_logger(__name__)

PRIORITIES: Final = ("high", "normal", "low")
#: The channel of commits of erasures.
CHANNEL: Final = "erasures"
SCAN: Final = 1000
#: Larger payloads are looked through in a thread.
ASIDE_BYTES: Final = 64 * 1024
#: Rounds over tables of stages until nothing is found: a commit that compacts may write once more.
TABLE_ROUNDS: Final = 5
_KEY_END: Final = b"\xff" * 8
#: What is counted and cannot be searched: it is damaged, or what it is packed with is lost.
UNREADABLE: Final = "payloads that cannot be read"
UNREADABLE_UPDATES: Final = "updates that cannot be read"


class NotYetError(Exception):
    """Something that has to go is still on its way; the sentence says what. It is looked again."""


class PartitionSweep:
    """Looks through one partition for what an erasure is about."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        payloads: Payloads,
        partition: Partition,
        target: Target,
        *,
        dry: bool,
        note: Any,
        saw: Saw = nobody_counts,
    ) -> None:
        """``note``: an async function that remembers events (id, hashes of what was sent) before
        they go. ``saw``: one that is told how much was looked at."""
        self._redis = redis
        self._payloads = payloads
        self._seals = FeedSeals(payloads.data_keys)
        self._error_texts = ErrorTexts(payloads.data_keys)
        self._scripts = scripts
        self._partition = partition
        self._number = partition.number
        self._target = target
        self._dry = dry
        self._note = note
        self._saw = saw
        self._fence = Fence(scripts, partition)
        self._clear_blobs = ClearBlobs(redis)
        self._resealing = Resealing(payloads.data_keys, target.doomed)
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    # --- events

    async def events(self) -> None:
        """Dead letters and what else has failed, the stream, its blobs, warm blocks.

        Raises:
            NotYetError: one of its events is still being worked on.
            FencedError, UnavailableError, redis.exceptions.RedisError: it is done again later; so
                is what is sealed by a data key that cannot be had now (SealingKeyError names it).
        """
        if self._target.context:
            return
        await self._failed_events()
        await self._stream()
        await self._warm()

    async def _stream(self) -> None:
        key = keys.events(self._number)
        gone: dict[str, bytes] = {}
        blobs: set[str] = set()
        async for page in pages(self._redis, key):
            events = [_event(fields.get(b"d", b"")) for _, fields in page]
            hits = await self._hits(events)
            await self._saw(len(page))
            await self._remember(hits)
            chosen = {event.event_id for event in hits}
            for (entry_id, _), event in zip(page, events, strict=True):
                if event and event.event_id in chosen:
                    gone[entry_id] = b""
                    blobs.add(keys.blob(key, event.event_id))
        self._count("events stream", len(gone), len(gone))
        if not gone or self._dry:
            return
        done = await done_until(self._redis, key)
        last = max(gone, key=entry_order)
        if done is None or entry_order(done) < entry_order(last):
            self.tallies.pop("events stream", None)
            raise NotYetError(
                f"partition {self._number} has events of it that are still being processed"
            )
        await rewrite(self._redis, self._fence, key, gone)
        await self._fence.write([("UNLINK", blob, ()) for blob in sorted(blobs)])

    async def _hits(self, events: Sequence[Event | None]) -> list[Event]:
        """Those events that have to go; payloads are opened only where texts are searched."""
        if not self._target.searches:
            return [event for event in events if event and self._target.takes_event(event)]
        # others' are not opened: a key of theirs that is away is in nobody's way
        mine = [one if one and one.tenant == self._target.tenant else None for one in events]
        try:
            opened = await self._payloads.open(mine)
        except UnknownDictionaryError as error:
            raise NotYetError(f"a payload cannot be read now: {error}") from error
        hits = []
        for event, readable in zip(mine, opened, strict=True):
            if event is None:
                continue
            if readable is None and not _is_destroyed(event):
                self.tallies[UNREADABLE].add(1, 0, 0)
            there = readable is not None
            if event.payload_bytes > ASIDE_BYTES:
                # 0.2 s a megabyte
                takes = await asyncio.to_thread(self._target.takes_event, event, opened=there)
            else:
                takes = self._target.takes_event(event, opened=there)
            if takes:
                hits.append(event)
            event.release()
            await asyncio.sleep(0)
        return hits

    async def _remember(self, hits: Sequence[Event]) -> None:
        if hits:
            self._target.events.update(event.event_id for event in hits)
            await self._note([(event.event_id, self._target.sent(event)) for event in hits])

    async def _warm(self) -> None:
        names = await self._redis.smembers(keys.warm_tools(self._number))
        for name in sorted(names):
            tenant, _, tool_id = name.decode().partition("/")
            if tenant != self._target.tenant:
                continue
            if self._target.tool and tool_id != self._target.tool:
                continue
            await self._warm_of(tenant, tool_id)

    async def _warm_of(self, tenant: str, tool_id: str) -> None:
        index = keys.warm_index(self._number, tenant, tool_id)
        for member in await self._redis.zrange(index, 0, -1):
            entry = warm_entry(member)
            name = keys.warm_block(self._number, tenant, tool_id, entry.last)
            data = await self._redis.get(name)
            if data is None:
                continue
            try:
                kept = await open_block(self._payloads.data_keys, name, data)
            except ErasedError:
                continue  # its key was destroyed: it is erased already
            except CodecError as error:
                self.tallies["warm blocks"].add(1, 0, 1, f"{name} cannot be read: {error}")
                continue
            events = [_event(one.envelope) for one in kept]
            hits = await self._hits(events)
            await self._saw(len(kept))
            await self._remember(hits)
            chosen = {event.event_id for event in hits}
            left = [
                one
                for one, event in zip(kept, events, strict=True)
                if not (event and event.event_id in chosen)
            ]
            gone = len(kept) - len(left)
            self._count("warm blocks", gone, gone)
            stale = self._resealing.is_on and self._resealing.concerns(data)
            if (gone or stale) and not self._dry:
                await self._replace_block(index, name, f"{tenant}/{tool_id}", member, data, left)

    async def _replace_block(
        self,
        index: str,
        name: str,
        tool: str,
        member: bytes,
        old: bytes,
        left: Sequence[KeptEvent],
    ) -> None:
        entry = warm_entry(member)
        try:
            by = await self._resealing.key(self._target.tenant)
            block = await block_of(left, name, old, by)
        except ErasedError:
            return  # its key was destroyed meanwhile
        # its key, and the range that it stands for, stay: what it lacks is gone
        told = f"{entry.first}:{entry.last}:{len(left)}:{len(block)}"
        self._fence.check()
        await self._scripts.call(
            "rewrite_warm",
            [keys.lease(self._number), index, keys.warm_tools(self._number), name],
            [self._partition.epoch, self._partition.nonce, tool, member, block, told],
        )

    async def _failed_events(self) -> None:
        """Dead letters, and what waits for its next attempt, a breaker, its turn."""
        async for name in self._scan("letter"):
            letter = await self._redis.hgetall(name)
            event = await self._event_of_letter(letter)
            tenant = letter.get(b"tenant", b"").decode() or self._target.tenant
            takes = bool(event and await self._hits([event])) or await self._says_errors(
                tenant, *_said_in(letter)
            )
            if not takes and event is None:
                raw = letter.get(b"raw", b"")
                takes = await self._says_routed(letter.get(b"channel", b"").decode(), raw)
            if not takes:
                continue
            if event is not None:
                await self._remember([event])
            self._count("dead letters", 1, 1)
            if not self._dry:
                await self._drop_letter(name, letter, event)

    async def _event_of_letter(self, letter: dict[bytes, bytes]) -> Event | None:
        if letter.get(b"channel") != b"events":
            return None
        return _event(letter.get(b"raw", b""))

    async def _drop_letter(
        self, name: str, letter: dict[bytes, bytes], event: Event | None
    ) -> None:
        number, letter_id = self._number, name.partition(":letter:")[2]
        writes: list[tuple[str, str, Sequence[Any]]] = [
            ("ZREM", keys.dead(number), (letter_id,)),
            ("ZREM", keys.retries(number), (letter_id,)),
            ("HDEL", keys.pins(number), (letter_id,)),
        ]
        if tool_id := letter.get(b"tool_id"):
            writes.append(("ZREM", keys.parked(number, tool_id.decode()), (letter_id,)))
        if event is not None:
            writes.append(("UNLINK", keys.blob(keys.events(number), event.event_id), ()))
        # last: without it nobody finds what is in the lists, and they are passed over
        writes.append(("UNLINK", name, ()))
        await self._fence.write(writes)

    # --- what was made of events

    async def derived(self) -> None:
        """What is on its way to feeds and the event log, feeds, tables of stages, blobs left alone.

        Raises: as :meth:`events`.
        """
        for name in ("updates", *(f"deferred:{one}" for one in PRIORITIES), "audit"):
            await self._queue(name)
        await self._feeds()
        await self._throttled()
        if self._target.searches:
            await self._tables()
        if not self._target.context:
            await self._blobs()
        if self._resealing.is_on:
            await self._reseal()

    async def _reseal(self) -> None:
        """Seal anew what came since, and was sealed by a key that goes.

        Raises:
            NotYetError: some of it is still being worked on.
        """
        await self._warm()
        await self._reseal_stream()
        writes: list[tuple[str, str, Sequence[Any]]] = []
        async for name in self._scan("letter"):
            event = _event(await self._redis.hget(name, "raw") or b"")
            if event is not None and (raw := await self._resealing.envelope(event)):
                writes.append(("HSET", name, ("raw", raw)))
        async for name in self._scan("blob"):
            data = await self._redis.get(name) or b""
            if self._resealing.concerns(data):
                tenant = self._target.tenant
                place = payload_place(tenant, name.rpartition(":")[2])
                if anew := await self._resealing.again(tenant, data, place):
                    writes.append(("SET", name, (anew, "KEEPTTL")))
        for start in range(0, len(writes), SCAN):
            await self._fence.write(writes[start : start + SCAN])

    async def _reseal_stream(self) -> None:
        key = keys.events(self._number)
        instead: dict[str, bytes] = {}
        async for page in pages(self._redis, key):
            for entry_id, fields in page:
                event = _event(fields.get(b"d", b""))
                if event is not None and (envelope := await self._resealing.envelope(event)):
                    instead[entry_id] = envelope
        done = await done_until(self._redis, key) if instead else None
        if instead and (done is None or entry_order(done) < max(map(entry_order, instead))):
            raise NotYetError(
                f"partition {self._number} has events that are still being processed, sealed by "
                "keys that go"
            )
        await rewrite(self._redis, self._fence, key, instead)

    async def _queue(self, name: str) -> None:
        """A stream between stages: what is worked off goes, what is not is waited for."""
        key = keys.stream(name, self._number)
        done = await done_until(self._redis, key)
        gone: dict[str, bytes] = {}
        hits = waiting = 0
        async for page in pages(self._redis, key):
            for entry_id, fields in page:
                worked_off = done is not None and entry_order(entry_id) <= entry_order(done)
                if worked_off:
                    gone[entry_id] = b""
                data = fields.get(b"d", b"")
                if self._resealing.stands_in(data) or await self._says_routed(name, data):
                    hits += 1
                    waiting += not worked_off
        place = f"{name.partition(':')[0]} stream"
        self._count(place, hits, hits)
        # what was taken along to a feed is there still, although nobody finds it
        stream = name.removeprefix("deferred:")
        torn = stream in PRIORITIES and await has_tombstones(self._redis, key)
        if self._dry or not (hits or torn):
            return
        if waiting:
            self.tallies.pop(place, None)
            raise NotYetError(f"{waiting} entries of {key} are still on their way")
        if stream not in PRIORITIES:
            await rewrite(self._redis, self._fence, key, gone)
            return
        async with kept_whole(self._partition, stream):
            await rewrite(self._redis, self._fence, key, gone, torn=torn)

    async def _says_routed(self, channel: str, data: bytes) -> bool:
        """Whether an entry between stages tells of something that has to go."""
        target = self._target
        if channel == "audit":
            return await self._says_audit(data)
        try:
            routed = decode_routed(data)
        except CodecError:
            return target.says(target.tenant, data)
        event = routed.event
        if target.context:
            return event.tenant == target.tenant and any(
                one.context_id == target.context for one in routed.targets
            )
        if target.takes_id(event.tenant, event.tool_id, event.event_id):
            return True
        if isinstance(event, Event) or event.tenant != target.tenant or not target.searches:
            return False
        return target.says(event.tenant, *await self._updates_of(event), *event.keys)

    async def _updates_of(self, event: Finished) -> list[bytes]:
        """Finished updates of an event in the clear, but for those whose key was destroyed."""
        await self._seals.ready((), event.updates)
        opened = []
        for update in event.updates:
            try:
                opened.append(self._seals.open_finished(event.tenant, event.event_id, update))
            except ErasedError:
                continue
            except CodecError:
                self.tallies[UNREADABLE_UPDATES].add(1, 0, 0)
        return opened

    async def _says_audit(self, data: bytes) -> bool:
        target = self._target
        try:
            batch = AuditBatch.FromString(data)
        except Exception:  # noqa: BLE001 protobuf raises what it likes: it is looked at as text
            return target.says(target.tenant, data)
        told = False
        for event in batch.events:
            texts = (event.error, *event.schema_errors)
            told = (
                told
                or target.takes_id(event.tenant, event.tool_id, event.event_id)
                or target.says(event.tenant, event.enrichment, event.message_id, event.delivery_id)
                or await self._says_errors(event.tenant, *texts)
            )
        for one in batch.dailies:
            if told or one.tenant != target.tenant:
                continue
            told = one.context_id == target.context
            if not told and target.searches:
                told = target.says(one.tenant, await self._daily(one))
        return told

    async def _says_errors(self, tenant: str, *texts: str) -> bool:
        """Whether what is said of failures, sealed or not, names the person."""
        target = self._target
        if not target.searches or tenant != target.tenant:
            return False
        return target.says(tenant, *await self._error_texts.opened(tenant, texts))

    async def _daily(self, daily: DailyAudit) -> str:
        """The text of a day's summary; "" where its key was destroyed."""
        who = (daily.tenant, daily.context_id, daily.day)
        try:
            return await self._seals.open_daily(*who, daily.summary) or ""
        except CodecError:
            self.tallies[UNREADABLE_UPDATES].add(1, 0, 0)
            return ""

    async def _opened(self, tenant: str, context_id: str, bodies: Sequence[bytes]) -> list[bytes]:
        """Updates of one context in the clear; what is damaged is counted, and nothing."""
        opened = await self._seals.opened(tenant, context_id, bodies)
        if damaged := sum(map(is_sealed, opened)):
            self.tallies[UNREADABLE_UPDATES].add(damaged, 0, 0)
        return opened

    async def _feeds(self) -> None:
        async for name in self._scan("feed"):
            tenant, _, context_id = name.partition(":feed:")[2].partition("/")
            if tenant != self._target.tenant:
                continue
            if self._target.context and context_id != self._target.context:
                continue
            await self._feed(name, tenant, context_id)

    async def _feed(self, name: str, tenant: str, context_id: str) -> None:
        """Updates become ``erased``, digests lose their text: numbers go on without a hole."""
        instead: dict[str, bytes] = {}
        #: What stays, sealed by another key.
        resealed: dict[str, bytes] = {}
        told: dict[str, tuple[bytes, dict[str, Any]]] = {}
        times: list[int] = []
        gone: list[str] = []
        await self._resealing.key(tenant)
        async for page in pages(self._redis, name):
            bodies = [fields.get(b"d", b"") for _, fields in page]
            opened = await self._opened(tenant, context_id, bodies)
            for (entry_id, _), body, clear in zip(page, bodies, opened, strict=True):
                value = _value(clear)
                if self._resealing.concerns(body) and not is_sealed(clear):
                    resealed[entry_id] = self._seals.seal(tenant, context_id, clear)
                if value.get("kind") in ("digest", "daily") and not self._target.context:
                    told[entry_id] = body, value
                elif self._target.takes_update(tenant, context_id, value):
                    left = left_of(context_id, value)
                    instead[entry_id] = self._again(tenant, context_id, body, left)
                    times.append(int(value.get("received_at") or 0))
                    if value.get("event_id"):
                        gone.append(value["event_id"])
                    if value.get("kind") == "digest":
                        await self._drop_list(tenant, context_id, entry_id)
            await self._saw(len(page))
            await asyncio.sleep(0)
        self._count("feeds", len(instead), len(instead))
        lists = [
            [entry_id, await self._list(tenant, context_id, entry_id, times, gone)]
            for entry_id, (_, value) in told.items()
            if value.get("kind") == "digest"
        ]
        touched = {entry_id for entry_id, hits in lists if hits}
        known = [*gone, *self._target.events]
        digests = {
            entry_id: self._again(tenant, context_id, body, erased_digest(value, known))
            for entry_id, (body, value) in told.items()
            if entry_id in touched or self._tells(tenant, value, times)
        }
        self._count("digests and daily summaries", len(digests), len(digests))
        if not self._dry:
            await rewrite(self._redis, self._fence, name, resealed | instead | digests)

    def _again(self, tenant: str, context_id: str, old: bytes, body: bytes) -> bytes:
        """What comes in place of an update: sealed as that was, if need be by another key."""
        if self._resealing.concerns(old):
            return self._seals.seal(tenant, context_id, body)
        return self._seals.again(tenant, context_id, old, body)

    def _tells(self, tenant: str, value: dict[str, Any], times: Sequence[int]) -> bool:
        """Whether a digest's text may tell of something that goes."""
        if value.get("summary") == ERASED_TEXT:
            return False
        named = (value.get("folded") or {}).get("event_ids") or ()
        if not self._target.events.isdisjoint(named) or told_of(value, times):
            return True
        return self._target.takes_update(tenant, "", {**value, "kind": "update"})

    async def _list(
        self, tenant: str, context_id: str, entry_id: str, times: list[int], gone: list[str]
    ) -> int:
        """Take out of the list that a digest stands for what has to go; how many there were."""
        seq = int(entry_id.partition("-")[0])
        key = keys.coalesced_updates(self._number, tenant, context_id, seq)
        hits = await self._swap(key, tenant, context_id, times, gone)
        self._count("lists of digests", hits, hits)
        return hits

    async def _swap(
        self, key: str, tenant: str, context_id: str, times: list[int], gone: list[str]
    ) -> int:
        writes: list[tuple[str, str, Sequence[Any]]] = []
        bodies = await self._redis.lrange(key, 0, -1)
        opened = await self._opened(tenant, context_id, bodies)
        await self._resealing.key(tenant)
        hits = 0
        for at, (body, clear) in enumerate(zip(bodies, opened, strict=True)):
            value = _value(clear)
            if not self._target.takes_update(tenant, context_id, value):
                if self._resealing.concerns(body) and not is_sealed(clear):
                    anew = self._seals.seal(tenant, context_id, clear)
                    writes.append(("LSWAP", key, (at, body, anew)))
                continue
            hits += 1
            times.append(int(value.get("received_at") or 0))
            if value.get("event_id"):
                gone.append(value["event_id"])
            left = self._again(tenant, context_id, body, left_of(context_id, value))
            writes.append(("LSWAP", key, (at, body, left)))
        if not self._dry:
            for start in range(0, len(writes), SCAN):
                await self._fence.write(writes[start : start + SCAN])
        return hits

    async def _drop_list(self, tenant: str, context_id: str, entry_id: str) -> None:
        key = keys.coalesced_updates(
            self._number, tenant, context_id, int(entry_id.partition("-")[0])
        )
        size = await self._redis.llen(key)
        self._count("lists of digests", size, size)
        if not self._dry:
            await self._fence.write([("UNLINK", key, ())])

    async def _throttled(self) -> None:
        """What waits for its context's rate."""
        async for name in self._scan("withheld"):
            tenant, _, context_id = name.partition(":withheld:")[2].partition("/")
            if tenant == self._target.tenant:
                hits = await self._swap(name, tenant, context_id, [], [])
                self._count("throttled updates", hits, hits)

    async def _tables(self) -> None:
        """What stages keep: keys and values that name the person, and their changelog."""
        try:
            state = self._partition[TablesState]
        except KeyError:
            state = None
        if state is not None:
            for _ in range(TABLE_ROUNDS):
                found = [
                    (key, b"")
                    for key, value in state.values.scan(b"", _KEY_END)
                    if self._target.says(self._target.tenant, key, value)
                ]
                self._count("tables of stages", len(found), len(found))
                if not found or self._dry:
                    break
                writes = Writes()
                changelog = keys.changelog(self._number, StageTable.name)
                writes.append(
                    changelog,
                    encode_changes(StageTable.name, found),
                    then=partial(state.values.apply, found),
                )
                await commit(self._scripts, self._partition, CHANNEL, writes)
            if isinstance(state.values, StageTable) and not self._dry:
                await asyncio.to_thread(state.values.compact)
        await self._changelog(StageTable.name)

    async def _changelog(self, table: str) -> None:
        key = keys.changelog(self._number, table)
        instead: dict[str, bytes] = {}
        hits = 0
        async for page in pages(self._redis, key):
            for entry_id, fields in page:
                try:
                    name, changes = decode_changes(fields.get(b"d", b""))
                except CodecError:
                    continue
                # a deletion names its key: without it the table of another worker would keep it
                left = [
                    change
                    for change in changes
                    if not change[1] or not self._target.says(self._target.tenant, *change)
                ]
                if len(left) < len(changes):
                    hits += len(changes) - len(left)
                    instead[entry_id] = encode_changes(name, left)
        self._count("changelogs", hits, hits)
        if not self._dry:
            await rewrite(self._redis, self._fence, key, instead)

    async def _blobs(self) -> None:
        """Payloads beside their stream that no entry names any more."""
        writes: list[tuple[str, str, Sequence[Any]]] = []
        async for name in self._scan("blob"):
            event_id = name.rpartition(":")[2]
            takes = event_id in self._target.events
            if not takes and self._target.searches:
                takes = await self._says_blob(name, await self._redis.get(name) or b"")
            if takes:
                writes.append(("UNLINK", name, ()))
        self._count("blobs", len(writes), len(writes))
        if not self._dry:
            await self._fence.write(writes)

    async def _says_blob(self, name: str, data: bytes) -> bool:
        """Whether a payload beside its stream names the person; whose it is only its key says."""
        try:
            tenant, payload = await self._payloads.beside(data, name.rpartition(":")[2])
        except SealingKeyError:
            if not await self._clear_blobs.has(self._number, name):
                raise
            return self._target.says(self._target.tenant, data)
        except CodecError:
            self.tallies[UNREADABLE].add(1, 0, 0)
            return self._target.says(self._target.tenant, data)
        return self._target.says(tenant or self._target.tenant, payload)

    # --- shared

    def _count(self, place: str, found: int, erased: int) -> None:
        if found:
            self.tallies[place].add(found, 0 if self._dry else erased)

    async def _scan(self, kind: str) -> AsyncIterator[str]:
        """Keys of this partition: ``{hs:p}:kind:…``."""
        pattern = f"{{hs:{self._number}}}:{kind}:*".replace("[", "\\[")
        names = [name.decode() async for name in self._redis.scan_iter(match=pattern, count=SCAN)]
        for name in sorted(set(names)):
            yield name


def _event(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except CodecError:
        return None


def _said_in(letter: Mapping[bytes, bytes]) -> list[str]:
    """What a letter says of its failures, as it is kept."""
    said = [letter.get(name, b"").decode("utf-8", "replace") for name in (b"error", b"traceback")]
    attempts = [value for field, value in letter.items() if field.startswith(b"attempt:")]
    return said + [str(_value(attempt).get("error", "")) for attempt in attempts]


def _value(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_destroyed(event: Event) -> bool:
    """Whether a payload cannot be read because its data key was destroyed: it is erased already."""
    return event.stored is not None and isinstance(event.stored.problem(), ErasedError)
