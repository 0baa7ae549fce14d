"""Deletes by retention policies, in every tier, and notes what was deleted, when, by which rule.

By whoever owns a partition in Redis, and looks after a tool in the archive. What goes is found by
what is there and how old it is: a run that breaks off is done again, and does what is left.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import ArchivedEvent, entry_id, join
from hookstream.app.errors import ArchiveDamagedError, SealingKeyError
from hookstream.app.ids import entry_order
from hookstream.app.lifecycle.blocks import block_of, open_block
from hookstream.app.lifecycle.warm import done_until
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.privacy.classes import ClassJudge
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.stores.holds import Hold, hold_against
from hookstream.app.stores.retention_policies import Policy, PolicyStore
from hookstream.app.stores.tiers import COLD, HOT, WARM, warm_entry
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.rewriting import Fence, pages, rewrite
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError, ErasedError
from hookstream.codecs.sealed import KEYS

__all__ = ["DEAD_LETTERS", "PolicyMover", "chosen"]

logger = get_logger(__name__)

DEAD_LETTERS: Final = "dead letters"
#: Blocks and objects that are remembered to have nothing for a policy.
MOST_CLEAN: Final = 100_000

#: By policy and tool: ids of what went.
Gone = dict[tuple[Policy, str], list[str]]


def chosen(
    event: Event,
    policies: Sequence[Policy],
    holds: Sequence[Hold],
    now_ms: int,
    has: Callable[[str, Event], bool],
) -> Policy | None:
    """The policy by which an event goes now; None where it stays.

    ``policies`` are in order, the shortest first; ``has`` says whether an event has data of a
    class. A hold wins over all of them.
    """
    for policy in policies:
        if (
            policy.concerns(event.tenant, event.tool_id, event.type)
            and policy.is_over(event.received_at_ms, now_ms)
            and (not policy.data_class or has(policy.data_class, event))
        ):
            events = (UUID(event.event_id), UUID(event.event_id))
            held = hold_against(holds, event.tenant, tool_id=event.tool_id, events=events)
            return None if held else policy
    return None


class PolicyMover:
    """Carries policies out."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        archive: Archive,
        payloads: Payloads,
        store: PolicyStore,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._archive = archive
        self._payloads = payloads
        self._store = store
        self._now_ms = now_ms
        self._judge = ClassJudge()
        self._clean: set[tuple[tuple[Policy, ...], str]] = set()

    async def enforce(
        self,
        owned: Mapping[int, Partition],
        is_mine: Callable[[str, str], bool],
        holds: Sequence[Hold],
    ) -> int:
        """Delete what is over now; how many events went.

        Raises:
            UnavailableError: PostgreSQL or the archive is away.
            FencedError: a partition is another's by now.
            redis.exceptions.RedisError: Redis does not answer.
        """
        policies = await self._store.all()
        if not policies:
            return 0
        count = 0
        for partition in list(owned.values()):
            count += await self._in_partition(partition, policies, holds)
        for tenant, tool_id in await self._archive.tools():
            mine = [one for one in policies if one.concerns(tenant, tool_id)]
            if mine and is_mine(tenant, tool_id):
                count += await self._in_archive(tenant, tool_id, mine, holds)
        if count:
            logger.info("retention policies have deleted %d events", count)
        return count

    async def _in_partition(
        self, partition: Partition, policies: Sequence[Policy], holds: Sequence[Hold]
    ) -> int:
        count = await self._hot(partition, policies, holds)
        for name in sorted(await self._redis.smembers(keys.warm_tools(partition.number))):
            tenant, _, tool_id = name.decode().partition("/")
            mine = [one for one in policies if one.concerns(tenant, tool_id)]
            if mine:
                count += await self._warm(partition, tenant, tool_id, mine, holds)
        return count + await self._dead(partition, policies, holds)

    async def _choose(
        self, events: Sequence[Event | None], policies: Sequence[Policy], holds: Sequence[Hold]
    ) -> list[Policy | None]:
        """By which policy each event goes; payloads are read where classes are asked for."""
        now_ms = self._now_ms()
        concerned = [
            event
            if event
            and any(
                policy.concerns(event.tenant, event.tool_id, event.type)
                and policy.is_over(event.received_at_ms, now_ms)
                for policy in policies
            )
            else None
            for event in events
        ]
        readable: Sequence[Event | None] = concerned
        if any(policy.data_class for policy in policies) and any(concerned):
            readable = await self._readable(concerned)
        found: list[Policy | None] = []
        for event, opened in zip(concerned, readable, strict=True):
            found.append(
                chosen(opened or event, policies, holds, now_ms, self._has) if event else None
            )
            if event:
                event.release()
                await asyncio.sleep(0)
        return found

    async def _readable(self, events: Sequence[Event | None]) -> Sequence[Event | None]:
        """Events whose payload can be looked into now; a key that is away holds up its own only."""
        try:
            return await self._payloads.open(events)
        except SealingKeyError as error:
            logger.debug("policies look into what a data key has sealed later: %s", error)
        there = [
            None if event and event.stored and KEYS.missing({event.stored.key_id} - {0}) else event
            for event in events
        ]
        return await self._payloads.open(there)

    def _has(self, data_class: str, event: Event) -> bool:
        try:
            return self._judge.has(data_class, event)
        except CodecError:
            # what cannot be read may be anything: it goes when its tool's time is over
            return False

    async def _hot(
        self, partition: Partition, policies: Sequence[Policy], holds: Sequence[Hold]
    ) -> int:
        number = partition.number
        key = keys.events(number)
        done = await done_until(self._redis, key)
        if done is None:
            return 0
        since_ms = self._now_ms() - policies[0].delete_after_seconds * 1000
        until = min(done, f"{max(0, since_ms)}-{2**64 - 1}", key=entry_order)
        gone: Gone = defaultdict(list)
        instead: dict[str, bytes] = {}
        blobs: set[str] = set()
        async for page in pages(self._redis, key, until=until):
            events = [_event(fields.get(b"d", b"")) for _, fields in page]
            found = await self._choose(events, policies, holds)
            for (entry, _), event, policy in zip(page, events, found, strict=True):
                if event and policy:
                    instead[entry] = b""
                    blobs.add(keys.blob(key, event.event_id))
                    gone[policy, event.tool_id].append(event.event_id)
        fence = Fence(self._scripts, partition)
        await rewrite(self._redis, fence, key, instead)
        await fence.write([("UNLINK", blob, ()) for blob in sorted(blobs)])
        return await self._note(HOT, gone)

    async def _warm(
        self,
        partition: Partition,
        tenant: str,
        tool_id: str,
        policies: Sequence[Policy],
        holds: Sequence[Hold],
    ) -> int:
        number, count = partition.number, 0
        index = keys.warm_index(number, tenant, tool_id)
        for member in await self._redis.zrange(index, 0, -1):
            entry = warm_entry(member)
            name = keys.warm_block(number, tenant, tool_id, entry.last)
            known = (tuple(policies), f"{name} {member.decode()}")
            if known in self._clean or not policies[0].is_over(entry.first_ms, self._now_ms()):
                continue
            data = await self._redis.get(name)
            if data is None:
                continue
            try:
                kept = await open_block(self._payloads.data_keys, name, data)
            except ErasedError:
                self._remember(known)
                continue
            except (CodecError, SealingKeyError) as error:
                logger.error("policies cannot look into %s: %s", name, error)
                continue
            events = [_event(one.envelope) for one in kept]
            found = await self._choose(events, policies, holds)
            left = [one for one, policy in zip(kept, found, strict=True) if policy is None]
            if len(left) == len(kept):
                if policies[-1].is_over(entry.last_ms, self._now_ms()) and not holds:
                    self._remember(known)
                continue
            gone: Gone = defaultdict(list)
            for event, policy in zip(events, found, strict=True):
                if event and policy:
                    gone[policy, tool_id].append(event.event_id)
            try:
                block = await block_of(left, name, data)
            except ErasedError:
                continue  # its key was destroyed meanwhile
            told = f"{entry.first}:{entry.last}:{len(left)}:{len(block)}"
            partition.check()
            replaced = await self._scripts.call(
                "rewrite_warm",
                [keys.lease(number), index, keys.warm_tools(number), name],
                [partition.epoch, partition.nonce, f"{tenant}/{tool_id}", member, block, told],
            )
            if replaced:
                count += await self._note(WARM, gone)
        return count

    async def _dead(
        self, partition: Partition, policies: Sequence[Policy], holds: Sequence[Hold]
    ) -> int:
        """Dead letters: they have payloads, too."""
        number = partition.number
        gone: Gone = defaultdict(list)
        fence = Fence(self._scripts, partition)
        for name in await self._redis.zrange(keys.dead(number), 0, -1):
            letter = keys.failed_event(number, name.decode())
            channel, raw = await self._redis.hmget(letter, "channel", "raw")
            event = _event(raw or b"") if channel == b"events" else None
            [policy] = await self._choose([event], policies, holds)
            if event and policy:
                await fence.write(
                    [
                        ("ZREM", keys.dead(number), (name,)),
                        ("HDEL", keys.pins(number), (name,)),
                        ("UNLINK", letter, ()),
                    ]
                )
                gone[policy, event.tool_id].append(event.event_id)
        return await self._note(DEAD_LETTERS, gone)

    async def _in_archive(
        self, tenant: str, tool_id: str, policies: Sequence[Policy], holds: Sequence[Hold]
    ) -> int:
        count = 0
        for found in await self._archive.objects_of(tenant, tool_id):
            known = (tuple(policies), found["name"])
            if known in self._clean or not policies[0].is_over(found["oldest_ms"], self._now_ms()):
                continue
            try:
                gone, places = await self._over_in(found["name"], policies, holds)
                if not places:
                    over = policies[-1].is_over(found["newest_ms"], self._now_ms())
                    if over and not holds:
                        self._remember(known)
                    continue
                if await self._archive.leave_out(tenant, tool_id, found["name"], places):
                    count += await self._note(COLD, gone)
            except ErasedError:
                self._remember(known)
            except (ArchiveDamagedError, SealingKeyError) as error:
                logger.error("policies cannot look into the archive: %s", error)
        return count

    async def _over_in(
        self, name: str, policies: Sequence[Policy], holds: Sequence[Hold]
    ) -> tuple[Gone, set[tuple[int, int, int]]]:
        gone: Gone = defaultdict(list)
        places: set[tuple[int, int, int]] = set()
        async for rows in self._archive.rows_of(name):
            events = [
                _event(
                    ArchivedEvent(
                        row.partition, entry_id((row.entry_ms, row.entry_seq)), join(row)
                    ).envelope
                )
                for row in rows
            ]
            found = await self._choose(events, policies, holds)
            for row, event, policy in zip(rows, events, found, strict=True):
                if event and policy:
                    places.add((row.partition, row.entry_ms, row.entry_seq))
                    gone[policy, event.tool_id].append(event.event_id)
        return gone, places

    def _remember(self, known: tuple[tuple[Policy, ...], str]) -> None:
        if len(self._clean) >= MOST_CLEAN:
            self._clean.clear()
        self._clean.add(known)

    async def _note(self, tier: str, gone: Gone) -> int:
        count = 0
        for (policy, tool_id), events in gone.items():
            await self._store.note(policy, tier, tool_id, events)
            metrics.POLICY_DELETED.labels(tier=tier).inc(len(events))
            count += len(events)
        return count


def _event(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except CodecError:
        return None
