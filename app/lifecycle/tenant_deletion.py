"""Deletes all that there is of a tenant, in passes, until two in a row have found nothing.

Each step deletes what it finds and may be broken off anywhere: the next pass, of this process or of
another one, begins anew with what is left. What is still on its way (an event that is being worked
on, a block that is being packed) shows in a later pass. Then the tenant's own row goes, which the
operator's audit trail tells of.

What stays is told in docs/tenants.md: how far numbers of contexts had come, hashes in dedup windows
until these are over, and the tenant's audit trail until its rows expire.
"""

import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.archive.archive import Archive
from hookstream.app.errors import HookstreamError, UnavailableError
from hookstream.app.failures.dead_letters import DeadLetterFilter, DeadLetters
from hookstream.app.ids import entry_order
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.lifecycle.warm import done_until
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.tenants import DELETING
from hookstream.app.stores.tiers import warm_entry
from hookstream.codecs.envelope import read_kept
from hookstream.codecs.errors import CodecError

__all__ = ["HeldBy", "TenantDeletion"]

logger = get_logger(__name__)

#: Which legal holds keep a tenant's data from being deleted: their names; none where it may go.
HeldBy = Callable[[str], Awaitable[Sequence[str]]]

TURN_SECONDS: Final = 1.0
#: PostgreSQL is asked where the catalog shows nobody to delete, this often: it may be old.
LOOK_SECONDS: Final = 30.0
LEASE_SECONDS: Final = 30.0
NOTE_SECONDS: Final = 5.0
#: Between two passes: what is on its way arrives somewhere.
REST_SECONDS: Final = 1.0
#: Passes in a row that have to find nothing.
CLEAN_PASSES: Final = 2
#: Entries of a stream, letters and rows at a time.
PAGE: Final = 500
ROWS: Final = 5_000

#: What a step has found: how many of what.
Found = AsyncIterator[tuple[str, int]]
Step = Callable[[str], Found]


class TenantDeletion(Service):
    """One process of all works on one tenant at a time, which PostgreSQL says."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        postgres: Postgres,
        archive: Archive,
        *,
        dead_letters: DeadLetters,
        refusals: Refusals,
        dictionaries: Dictionaries,
        use: TenantUse,
        partitions: int,
        catalog: Callable[[], Catalog],
        held_by: HeldBy,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._postgres = postgres
        self._archive = archive
        self._dead_letters = dead_letters
        self._refusals = refusals
        self._dictionaries = dictionaries
        self._use = use
        self._partitions = partitions
        self._catalog = catalog
        self._held_by = held_by
        self._name = secrets.token_hex(8)
        #: How many passes in a row have found nothing, by tenant.
        self._clean: Counter[str] = Counter()
        self.rest_seconds = REST_SECONDS
        self.steps: Mapping[str, Step] = {
            "keys": self._keys,
            "contexts": self._contexts,
            "tools": self._tools,
            "failed events": self._letters,
            "streams": self._streams,
            "warm blocks": self._blocks,
            "archive": self._objects,
            "event log": self._rows,
            "dictionaries": self._packing,
        }

    @tasks.loop
    async def _tend(self) -> None:
        looked = -LOOK_SECONDS
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            known = any(one.state == DELETING for one in self._catalog().tenants.values())
            if not known and time.monotonic() - looked < LOOK_SECONDS:
                continue
            looked = time.monotonic()
            try:
                await self.work()
            except (UnavailableError, asyncpg.PostgresError, *REDIS_ERRORS) as error:
                logger.debug("a tenant is deleted later: %s", error)

    async def work(self) -> bool:
        """Make one pass over a tenant that is to be deleted; False where there is none.

        Raises:
            UnavailableError: PostgreSQL is away. Redis's errors as they come.
        """
        row = await self._postgres.fetchrow(
            statement("take_tenant_deletion"), self._name, LEASE_SECONDS
        )
        if row is None:
            return False
        tenant = row["tenant_id"]
        if holds := await self._held_by(tenant):
            named = ", ".join(holds)
            self._clean[tenant] = 0
            await self._note(tenant, "held", {}, f"held by {named}: release it first")
            return True
        try:
            found = await self.pass_over(tenant)
        except (HookstreamError, asyncpg.PostgresError, *REDIS_ERRORS) as error:
            self._clean[tenant] = 0
            logger.warning("tenant %s is not deleted yet: %s; trying on", tenant, error)
            await self._note(tenant, "waits", {}, f"{type(error).__name__}: {error}"[:500])
            return True
        if found is None:
            return True  # another process has it now
        self._clean[tenant] = 0 if found else self._clean[tenant] + 1
        await self._note(tenant, "passed", {}, passes=1)
        if self._clean[tenant] >= CLEAN_PASSES:
            await self._use.forget(tenant)
            await self._postgres.execute(statement("finish_tenant_deletion"), tenant, self._name)
            del self._clean[tenant]
            logger.info("tenant %s is deleted", tenant)
        await self.sleep(self.rest_seconds)
        return True

    async def pass_over(self, tenant: str) -> int | None:
        """Delete all that is found now; how much that was. None where another process took over."""
        total = 0
        for name, step in self.steps.items():
            counts: Counter[str] = Counter()
            noted = time.monotonic()
            async for what, count in step(tenant):
                counts[what] += count
                total += count
                if time.monotonic() - noted > NOTE_SECONDS:
                    noted = time.monotonic()
                    if not await self._note(tenant, name, counts):
                        return None
                    counts.clear()
            if not await self._note(tenant, name, counts):
                return None
        return total

    async def _note(
        self,
        tenant: str,
        step: str,
        counts: Mapping[str, int],
        error: str = "",
        *,
        passes: int = 0,
    ) -> bool:
        """Write how far it has come; False where another process has it."""
        told = {what: count for what, count in counts.items() if count}
        row = await self._postgres.fetchrow(
            statement("note_tenant_deletion"),
            *(tenant, self._name, LEASE_SECONDS, step, told, error, passes),
        )
        return row is not None

    # --- steps, in the order in which nothing new comes after them

    async def _keys(self, tenant: str) -> Found:
        row = await self._postgres.fetchrow(statement("cut_tenant_keys"), tenant)
        assert row is not None
        yield "keys", row["keys"]
        yield "replays", row["cancelled"]

    async def _contexts(self, tenant: str) -> Found:
        while True:
            row = await self._postgres.fetchrow(statement("delete_tenant_contexts"), tenant, PAGE)
            assert row is not None
            yield "contexts", row["contexts"]
            if row["contexts"] < PAGE:
                break
        row = await self._postgres.fetchrow(statement("undeleted_feeds"), tenant)
        # the workers that have their partitions delete them
        yield "waiting for feeds", row["contexts"] if row else 0

    async def _tools(self, tenant: str) -> Found:
        rows = await self._postgres.fetch(
            "SELECT tool_id FROM tools WHERE tenant = $1 ORDER BY tool_id", tenant
        )
        for row in rows:
            await self._dictionaries.forget(row["tool_id"])
            await self._refusals.forget(tenant, row["tool_id"])
        deleted = await self._postgres.fetch(statement("delete_tenant_tools"), tenant)
        yield "tools", len(deleted)

    async def _letters(self, tenant: str) -> Found:
        before = None
        while True:
            page = await self._dead_letters.find(tenant, DeadLetterFilter(), PAGE, before)
            names = [letter["letter_id"] for letter in page.letters]
            if names:
                yield "dead letters", await self._dead_letters.discard(tenant, names)
            before = page.next
            if before is None:
                break
        for number in range(self._partitions):
            yield "waiting for retries", await self._hasten(number, tenant)

    async def _hasten(self, number: int, tenant: str) -> int:
        """Have failed events of a tenant be tried again now, which ends them; how many wait."""
        names = [name.decode() for name in await self._redis.zrange(keys.retries(number), 0, -1)]
        mine: list[str] = []
        for at in range(0, len(names), PAGE):
            some = names[at : at + PAGE]
            pipe = self._redis.pipeline(transaction=False)
            for name in some:
                pipe.hget(keys.failed_event(number, name), "tenant")
            owners = await pipe.execute()
            mine += [n for n, owner in zip(some, owners, strict=True) if owner == tenant.encode()]
        if mine:
            due = dict.fromkeys(mine, 0)
            await self._redis.zadd(keys.retries(number), due, xx=True)
        return len(mine)

    async def _streams(self, tenant: str) -> Found:
        """Hot events: those that are through are deleted, others are waited for."""
        for number in range(self._partitions):
            stream = keys.events(number)
            done = await done_until(self._redis, stream)
            through = entry_order(done) if done else (0, 0)
            after = "-"
            while page := await self._redis.xrange(stream, after, count=PAGE):
                after = f"({page[-1][0].decode()}"
                gone, waiting = self._of_tenant(tenant, stream, page, through)
                if gone:
                    await self._redis.unlink(*(blob for _, blob in gone))
                    yield "events", await self._redis.xdel(stream, *(entry for entry, _ in gone))
                yield "waiting for events", waiting

    @staticmethod
    def _of_tenant(
        tenant: str,
        stream: str,
        page: Sequence[tuple[bytes, Mapping[bytes, bytes]]],
        through: tuple[int, int],
    ) -> tuple[list[tuple[str, str]], int]:
        """Entries of a tenant that may go, with their blobs; and how many may not yet."""
        gone, waiting = [], 0
        for entry_id, fields in page:
            try:
                kept = read_kept(fields.get(b"d", b""))
            except CodecError:
                continue  # of nobody that can be said
            if kept.tenant != tenant:
                continue
            name = entry_id.decode()
            if entry_order(name) <= through:
                gone.append((name, keys.blob(stream, kept.event_id)))
            else:
                waiting += 1
        return gone, waiting

    async def _blocks(self, tenant: str) -> Found:
        prefix = f"{tenant}/"
        for number in range(self._partitions):
            for member in await self._redis.smembers(keys.warm_tools(number)):
                name = member.decode()
                if not name.startswith(prefix):
                    continue
                tool_id = name.removeprefix(prefix)
                index = keys.warm_index(number, tenant, tool_id)
                while True:
                    found = await self._redis.zrange(index, 0, PAGE - 1)
                    entries = [entry.decode() for entry in found]
                    blocks = [
                        keys.warm_block(number, tenant, tool_id, warm_entry(entry).last)
                        for entry in found
                    ]
                    yield (
                        "warm blocks",
                        await self._scripts.call(
                            "forget_warm",
                            [index, keys.warm_tools(number), *blocks],
                            [name, *entries],
                        ),
                    )
                    if len(found) < PAGE:
                        break

    async def _objects(self, tenant: str) -> Found:
        for owner, tool_id in await self._archive.tools():
            if owner == tenant:
                removed = await self._archive.delete_tool(tenant, tool_id)
                yield "archive objects", removed.objects
                yield "archived events", removed.events

    async def _rows(self, tenant: str) -> Found:
        while True:
            row = await self._postgres.fetchrow(statement("delete_tenant_rows"), tenant, ROWS)
            assert row is not None
            for what, count in row.items():
                yield f"rows of {what}", count
            if max(row.values()) < ROWS:
                return

    async def _packing(self, tenant: str) -> Found:
        rows = await self._postgres.fetch(statement("delete_tenant_dictionaries"), tenant)
        for row in rows:
            await self._redis.unlink(keys.dictionary(row["dictionary_id"]))
        yield "dictionaries", len(rows)
        prefix = f"{tenant}/".encode()
        current = await self._redis.hkeys(keys.DICTIONARIES)
        if mine := [name for name in current if name.startswith(prefix)]:
            await self._redis.hdel(keys.DICTIONARIES, *mine)
