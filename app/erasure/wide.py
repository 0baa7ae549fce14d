"""Places of no partition: the archive, PostgreSQL, refusals, dictionaries, Redis' files.

Whoever has partition 0 looks through them. Each step may be done again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from mode.utils.logging import get_logger

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.objects import MissingObjectError
from hookstream.app.archive.rows import ArchivedEvent, Row, entry_id, join
from hookstream.app.erasure.blobs import ClearBlobs
from hookstream.app.erasure.partition import NotYetError
from hookstream.app.erasure.plan import AUDIT
from hookstream.app.erasure.progress import Saw, nobody_counts
from hookstream.app.erasure.resealing import Resealing, sealed_by
from hookstream.app.erasure.targets import ERASED_TEXT, Target
from hookstream.app.errors import ArchiveDamagedError, SealingKeyError
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.ids import id_range
from hookstream.app.keyring.error_texts import ErrorTexts
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster
from hookstream.app.stores.erasures import EVENT, SUBJECT, TENANT, TOOL, Tally
from hookstream.app.streams.rewriting import Fence, pages, rewrite
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError, ErasedError, UnknownDictionaryError
from hookstream.codecs.sealed import (
    KEYS,
    dictionary_place,
    is_sealed,
    key_ids,
    open_sealed,
    payload_place,
    refusal_place,
)
from hookstream.codecs.zstd import dictionary_id

__all__ = ["WideSweep"]

logger = get_logger(__name__)

#: Rows of one statement.
BATCH: Final = 500
#: Rounds over the archive's objects, which others put together meanwhile.
ROUNDS: Final = 5

#: What people have set, where nothing is changed for them: table, what it is called, its texts.
SETTINGS: Final = (
    (
        "tools",
        "tool",
        "tool_id",
        "options::text || coalesce(masking::text, '') || coalesce(source::text, '')"
        " || coalesce(forward::text, '')",
    ),
    ("contexts", "context", "context_id", "name"),
    (
        "subscriptions",
        "subscription",
        "context_id || '/' || name",
        "condition || follow || types::text",
    ),
    ("templates", "template", "name", "source || types"),
    ("template_versions", "version of the template", "name || ' ' || version", "source || types"),
    ("api_keys", "key", "key_id", "name"),
    ("schemas", "schema", "schema_id::text", "source"),
    ("retention_policies", "retention policy", "policy_id", "reason"),
    ("tenant_masking", "set of masking rules", "tenant", "masking::text"),
    ("holds", "hold", "hold_id::text", "reason || release_reason"),
)

Remember = Callable[[Sequence[tuple[str, Sequence[bytes]]]], Awaitable[None]]
NoteObjects = Callable[[Sequence[str]], Awaitable[None]]


class WideSweep:
    """Looks through what is no partition's for what an erasure is about."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        postgres: Postgres,
        archive: Archive,
        payloads: Payloads,
        target: Target,
        *,
        partitions: int,
        dry: bool,
        note: Remember,
        note_objects: NoteObjects,
        saw: Saw = nobody_counts,
    ) -> None:
        """``saw`` is told how much was looked at."""
        self._redis = redis
        self._scripts = scripts
        self._postgres = postgres
        self._archive = archive
        self._payloads = payloads
        self._seals = FeedSeals(payloads.data_keys)
        self._error_texts = ErrorTexts(payloads.data_keys)
        self._target = target
        self._partitions = partitions
        self._dry = dry
        self._note = note
        self._note_objects = note_objects
        self._saw = saw
        self._clear_blobs = ClearBlobs(redis)
        self._resealing = Resealing(payloads.data_keys, target.doomed)
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    # --- the archive

    async def archive(self) -> None:
        """Objects are made anew without what has to go; each is read back before the old one goes.

        Raises:
            UnavailableError: the archive or its manifest is away.
            NotYetError: others put objects together meanwhile, or a payload cannot be read now.
            SealingKeyError: an object's data key cannot be had now; it is named.
        """
        target = self._target
        if not self._dry:
            await self._forget_erased()
        #: Those that nobody can read.
        damaged: set[str] = set()
        for _ in range(ROUNDS):
            hits = 0
            for found in await self._archive.objects_of(target.tenant, target.tool or None):
                if self._may_have(found) and found["name"] not in damaged:
                    try:
                        hits += await self._object(found["name"], found["tool_id"])
                    except ArchiveDamagedError as error:
                        damaged.add(found["name"])
                        self.tallies["archive"].add(1, 0, 1, str(error))
                    except ErasedError:
                        # its key was destroyed: it is erased already
                        damaged.add(found["name"])
            if not hits or self._dry:
                return
        raise NotYetError("objects of the archive are put together while they are looked through")

    async def _forget_erased(self) -> None:
        """Have the manifest name no object that went by an erasure: an older copy of it does.

        Such an object lacks nothing that anybody waits for. One whose bytes are there all the same
        (they came back, too, or it had not gone yet) is looked through as any other.
        """
        tenant = self._target.tenant
        for row in await self._postgres.fetch(statement("erased_objects_named"), tenant):
            try:
                await self._archive.objects.size(row["name"])
            except MissingObjectError:
                await self._archive.manifest.remove(tenant, row["tool_id"], [row["name"]])

    def _may_have(self, found: Mapping[str, Any]) -> bool:
        """Whether an object can have one of the events, by the ids that it has."""
        if self._target.erasure.kind != EVENT:
            return bool(found["oldest_ms"] <= self._target.erasure.created_ms)
        first, last = found["first_event"].int, found["last_event"].int
        return any(first <= UUID(one).int <= last for one in self._target.events)

    async def _object(self, name: str, tool_id: str) -> int:
        gone: set[tuple[int, int, int]] = set()
        events: list[tuple[str, Sequence[bytes]]] = []
        async for rows in self._archive.rows_of(name):
            for row, event in await self._among(rows):
                gone.add((row.partition, row.entry_ms, row.entry_seq))
                events.append((event.event_id, self._target.sent(event)))
            await self._saw(len(rows))
        stale = self._resealing.is_on and await self._archive.sealed_by(name) in self._target.doomed
        if not gone and not stale:
            return 0
        await self._remember(events)
        if self._dry:
            self.tallies["archive"].add(len(gone))
            return len(gone)
        await self._note_objects([name])
        tenant = self._target.tenant
        by = await self._resealing.key(tenant)
        if await self._archive.leave_out(tenant, tool_id, name, gone, by):
            self.tallies["archive"].add(len(gone), len(gone))
        return 1

    async def _among(self, rows: Sequence[Row]) -> list[tuple[Row, Event]]:
        """Rows with their events, of those that have to go."""
        events = [_event(row) for row in rows]
        readable: Sequence[Event | None] = events
        if self._target.searches:
            try:
                readable = await self._payloads.open(events)
            except UnknownDictionaryError as error:
                raise NotYetError(f"a payload cannot be read now: {error}") from error

        def chosen() -> list[tuple[Row, Event]]:
            return [
                (row, event)
                for row, event, opened in zip(rows, events, readable, strict=True)
                if event and self._target.takes_event(event, opened=opened is not None)
            ]

        return await asyncio.to_thread(chosen)

    async def delete_objects(self, names: Sequence[str]) -> None:
        """Delete objects once more that an older copy of the archive has brought back."""
        for name in names:
            await self._archive.objects.delete(name)

    async def _remember(self, events: Sequence[tuple[str, Sequence[bytes]]]) -> None:
        self._target.events.update(event_id for event_id, _ in events)
        await self._note(events)

    # --- PostgreSQL

    async def find_in_log(self) -> None:
        """Find events by their rows: duplicates of those that are known, and what names a person.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        target = self._target
        if target.events:
            rows = await self._postgres.fetch(
                statement("duplicates_of"), target.tenant, [UUID(one) for one in target.events]
            )
            same = [(str(row["event_id"]), ()) for row in rows]
            # their payloads are the same
            await self._remember([one for one in same if one[0] not in target.events])
        if target.subject is None:
            return
        after = UUID(int=0)
        while True:
            rows = await self._postgres.fetch(statement("event_texts"), target.tenant, after, BATCH)
            hits: list[tuple[str, Sequence[bytes]]] = []
            for row in rows:
                kept = (row["error"], *row["schema_errors"])
                said = await self._error_texts.opened(target.tenant, kept)
                if target.says(target.tenant, *said, *(row[name] for name in _TEXTS)):
                    hits.append((str(row["event_id"]), ()))
            await self._remember(hits)
            await self._saw(len(rows))
            if len(rows) < BATCH:
                return
            after = rows[-1]["event_id"]

    async def log(self) -> None:
        """Rows of events lose what is personal; summaries of days lose their text.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        kind = self._target.erasure.kind
        if kind in (EVENT, SUBJECT):
            known = sorted(self._target.events)
            for start in range(0, len(known), BATCH):
                ids = [UUID(one) for one in known[start : start + BATCH]]
                await self._erase_rows("erase_events", self._target.tenant, ids)
                await self._erase_days(ids)
        elif kind in (TOOL, TENANT):
            await self._erase_all_rows()
        await self._days()
        await self._errors()

    async def _erase_rows(self, name: str, *arguments: Any) -> int:
        count = await self._postgres.fetchrow(statement(name), *arguments, self._dry)
        found = int(count["found"]) if count else 0
        if found:
            self.tallies["event log"].add(found, 0 if self._dry else found)
        return found

    async def _erase_all_rows(self) -> None:
        target = self._target
        created = target.erasure.created_at
        below = id_range(None, created)[1]
        while True:
            found = await self._erase_rows(
                "erase_events_of", target.tenant, target.tool or None, below,
                1_000_000_000 if self._dry else BATCH,
            )  # fmt: skip
            if self._dry or found < BATCH:
                return

    async def _erase_days(self, ids: Sequence[UUID]) -> None:
        row = await self._postgres.fetchrow(
            statement("erase_days_of"), self._target.tenant, ids, ERASED_TEXT, self._dry
        )
        self._counted("daily summaries", int(row["found"]) if row else 0)

    async def _days(self) -> None:
        """Summaries of a context, of all contexts, or whose text names somebody."""
        target, hits = self._target, []
        rows = await self._postgres.fetch(statement("day_texts"), target.tenant, ERASED_TEXT)
        for row in rows:
            mine = target.erasure.kind == TENANT or row["context_id"] == target.context
            if mine or (target.searches and await self._says_day(row)):
                hits.append((row["context_id"], row["day"]))
        self._counted("daily summaries", len(hits))
        if hits and not self._dry:
            await self._postgres.execute(
                statement("erase_days"),
                target.tenant,
                [context for context, _ in hits],
                [day for _, day in hits],
                ERASED_TEXT,
            )

    async def _says_day(self, row: Mapping[str, Any]) -> bool:
        """Whether a day's summary, sealed or not, names the person; not where its key is gone."""
        context_id, day, tenant = row["context_id"], row["day"].isoformat(), self._target.tenant
        try:
            said = await self._seals.open_daily(tenant, context_id, day, row["summary"])
        except CodecError as error:
            told = f"the summary of {context_id} for {day} cannot be read: {error}"
            self.tallies["daily summaries"].add(1, 0, 1, told)
            return False
        return self._target.says(tenant, said or "")

    async def _errors(self) -> None:
        """What was said of replays and conditions that failed."""
        target = self._target
        row = await self._postgres.fetchrow(
            statement("erase_replay_errors"),
            target.tenant,
            [UUID(one) for one in target.events],
            self._dry,
        )
        self._counted("replays", int(row["found"]) if row else 0)
        if target.subject is None:
            return
        rows = await self._postgres.fetch(statement("condition_error_texts"), target.tenant)
        hits = [row for row in rows if target.says(target.tenant, row["error"])]
        self._counted("errors of conditions", len(hits))
        if not self._dry:
            for row in hits:
                await self._postgres.execute(
                    statement("erase_condition_error"),
                    target.tenant,
                    row["context_id"],
                    row["name"],
                )

    async def settings(self) -> None:
        """What people have set themselves is named to them, and left."""
        target = self._target
        if target.subject is None:
            return
        for table, called, name, texts in SETTINGS:
            rows = await self._postgres.fetch(
                # all of it is written here, above
                f"SELECT {name} AS name, {texts} AS said FROM {table} WHERE tenant = $1",  # noqa: S608
                target.tenant,
            )
            for row in rows:
                if target.says(target.tenant, str(row["said"])):
                    self.tallies[f"{called}s"].add(
                        1, 0, 1, f"the {called} {row['name']} names the person: change or delete it"
                    )
        after = 0
        while True:
            rows = await self._postgres.fetch(statement("audit_rows"), target.tenant, after, BATCH)
            hits = sum(target.says(target.tenant, row["record"]) for row in rows)
            if hits:
                said = "rows stay for HOOKSTREAM_AUDIT_DAYS: they are evidence, and append-only"
                self.tallies[AUDIT].add(hits, 0, hits, said)
            if len(rows) < BATCH:
                return
            after = rows[-1]["seq"]

    # --- Redis, what is no partition's

    async def refusals(self) -> None:
        """Refused webhooks that are kept for a day."""
        fence = Fence(self._scripts)
        pattern = f"{keys.UNKNOWN_REFUSALS}*"
        for name in sorted(
            {found.decode() async for found in self._redis.scan_iter(match=pattern)}
        ):
            gone: dict[str, bytes] = {}
            async for page in pages(self._redis, name):
                for entry, fields in page:
                    if await self._refusal(name, fields):
                        gone[entry] = b""
            self._counted("refusals", len(gone))
            if not self._dry:
                await rewrite(self._redis, fence, name, gone)

    async def _refusal(self, name: str, fields: Mapping[bytes, bytes]) -> bool:
        target = self._target
        owner = name.removeprefix(f"{keys.UNKNOWN_REFUSALS}:")
        tenant, _, tool_id = owner.partition("/")
        if owner == name:
            # of tools that there are not: whose they are nobody knows, but by which key sealed
            if any(map(self._resealing.stands_in, fields.values())):
                return True
            return target.searches and await self._says_refusal(name, fields)
        if tenant != target.tenant:
            return False
        if target.erasure.kind == TENANT or (target.tool and target.tool == tool_id):
            return True
        return target.searches and await self._says_refusal(name, fields)

    async def _says_refusal(self, stream: str, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a refused webhook, sealed or not, names the person.

        Raises:
            SealingKeyError: its data key cannot be had now.
        """
        parts = [fields[name] for name in (b"r", b"h", b"b") if name in fields]
        # a body alone is what its sender wrote: the first field says whether all are sealed
        if parts and is_sealed(parts[0]):
            await self._payloads.fetch_keys(parts[:1])
            try:
                parts = [open_sealed(part, refusal_place(stream)) for part in parts]
            except ErasedError:
                return False
            except CodecError as error:
                self.tallies["refusals"].add(1, 0, 1, f"one of {stream} cannot be read: {error}")
                return False
        return self._target.says(self._target.tenant, *parts)

    async def dictionaries(self) -> None:
        """Dictionaries with fragments of it are retired, and deleted once nothing needs them.

        Raises:
            NotYetError: payloads are still packed with one; the sentence says how many.
        """
        target = self._target
        rows = await self._postgres.fetch(
            statement("dictionaries_of"), target.tenant, target.tool or None
        )
        whole = target.erasure.kind in (TOOL, TENANT)
        hits = [
            (row["dictionary_id"], row["tool_id"])
            for row in rows
            if whole
            or target.says(
                target.tenant, await self._fragments(row["dictionary_id"], bytes(row["content"]))
            )
        ]
        hits += await self._brought_back()
        retired = await self._redis.smembers(keys.retired_dictionaries(target.erasure.erasure_id))
        self._counted("dictionaries", len(hits) if self._dry else 0)
        if self._dry or not (hits or retired):
            return
        for number, tool_id in hits:
            if int(await self._redis.hget(keys.DICTIONARIES, tool_id) or 0) == number:
                await self._redis.hdel(keys.DICTIONARIES, tool_id)
            await self._redis.sadd(keys.retired_dictionaries(target.erasure.erasure_id), number)
            # else the trainer would name it again
            await self._postgres.execute(statement("delete_dictionary"), number)
        if hits:
            raise NotYetError(
                "dictionaries "
                + ", ".join(str(number) for number, _ in hits)
                + " have what is to go: they are retired, and deleted once no payload needs them"
            )
        wanted = {int(number) for number in retired}
        used = await self._uses(wanted)
        if used:
            told = ", ".join(
                f"{number} ({count} payloads)" for number, count in sorted(used.items())
            )
            raise NotYetError(
                f"the dictionaries {told} have what is to go, and payloads in Redis are packed "
                "with them: these leave their streams as their tools' ttl.hot says, dead letters "
                "when they are retried or discarded"
            )
        for number in sorted(wanted):
            await self._redis.delete(keys.dictionary(number))
            await self._redis.srem(keys.retired_dictionaries(target.erasure.erasure_id), number)
        self.tallies["dictionaries"].add(len(wanted), len(wanted))

    async def data_keys(self) -> None:
        """Destroy the keys that the tenant had, once nothing that stays is sealed by them.

        Raises:
            NotYetError: something is; the sentence says how much, and where.
        """
        tenant, doomed = self._target.tenant, self._target.doomed
        data_keys = self._payloads.data_keys
        if self._dry or not doomed or data_keys is None:
            return
        used = await sealed_by(self._redis, self._partitions, tenant, self._resealing.heads)
        for found in await self._archive.objects_of(tenant, None):
            used["objects of the archive"] += await self._archive.sealed_by(found["name"]) in doomed
        if told := ", ".join(f"{count} in {place}" for place, count in sorted((+used).items())):
            raise NotYetError(
                f"what came since is sealed by keys that are to be destroyed ({told}): it leaves "
                "as its time is over, or is sealed anew when workers look again"
            )
        count = await data_keys.destroy(tenant, sorted(doomed))
        said = "what older copies of Redis and the archive have of it cannot be opened any more"
        self.tallies["data keys"].add(count, count, 0, said)

    async def _fragments(self, number: int, content: bytes) -> bytes:
        """What a dictionary consists of; nothing where it is another tenant's, or erased.

        Raises:
            SealingKeyError: its data key cannot be had now.
        """
        if not self._target.searches or not is_sealed(content):
            return content
        await self._payloads.fetch_keys((content,))
        [sealed_by] = key_ids((content,))
        key = KEYS.get(sealed_by)
        if key is None or key.tenant != self._target.tenant:
            return b""
        try:
            return open_sealed(content, dictionary_place(number))
        except ErasedError:
            return b""
        except CodecError as error:
            told = f"the dictionary {number} cannot be read: {error}"
            self.tallies["dictionaries"].add(1, 0, 1, told)
            return b""

    async def _brought_back(self) -> list[tuple[int, str]]:
        """Dictionaries that only Redis has, with the person in them: an older copy of it did."""
        if self._target.subject is None:
            return []
        # those of other tenants that PostgreSQL knows are theirs
        rows = await self._postgres.fetch("SELECT dictionary_id FROM dictionaries")
        known = {row["dictionary_id"] for row in rows}
        named = {
            int(number): tool.decode()
            for tool, number in (await self._redis.hgetall(keys.DICTIONARIES)).items()
        }
        retired = {
            int(number)
            for number in await self._redis.smembers(
                keys.retired_dictionaries(self._target.erasure.erasure_id)
            )
        }
        found = []
        async for name in self._redis.scan_iter(match="hs:dictionary:*", count=1000):
            number = int(name.rpartition(b":")[2])
            if number not in known and number not in retired:
                content = await self._redis.get(name) or b""
                said = await self._fragments(number, content)
                if self._target.says(self._target.tenant, said):
                    found.append((number, named.get(number, "")))
        return found

    async def _uses(self, wanted: set[int]) -> dict[int, int]:
        """How many payloads in Redis are packed with each of some dictionaries.

        Raises:
            SealingKeyError: it cannot be said of one that is sealed, whose key is not here now.
        """
        used: dict[int, int] = defaultdict(int)

        async def count(values: Sequence[bytes]) -> None:
            stored = [event.stored for event in map(_decoded, values) if event and event.stored]
            if self._payloads.data_keys is not None:
                # a payload in the clear may look as if it were sealed: its envelope knows
                await self._payloads.data_keys.fetch({one.key_id for one in stored} - {0})
            for one in stored:
                if one.dictionary_id in wanted:
                    used[one.dictionary_id] += 1

        for partition in range(self._partitions):
            async for page in pages(self._redis, keys.events(partition)):
                await count([fields.get(b"d", b"") for _, fields in page])
        async for name in self._redis.scan_iter(match="{hs:*}:letter:*", count=1000):
            await count([await self._redis.hget(name, "raw") or b""])
        async for name in self._redis.scan_iter(match="{hs:*}:blob:*", count=1000):
            data = await self._redis.getrange(name, 0, 63)
            if is_sealed(data):
                data = await self._inside(name.decode(), await self._redis.get(name) or b"")
            number = _frame_dictionary(data)
            if number in wanted:
                used[number] += 1
        return dict(used)

    async def _inside(self, name: str, data: bytes) -> bytes:
        """What a sealed payload beside its stream is packed as; nothing where nobody can say."""
        try:
            await self._payloads.fetch_keys((data,))
        except SealingKeyError:
            partition = int(name.partition(":")[2].partition("}")[0])
            if not await self._clear_blobs.has(partition, name):
                raise
            return data
        for number in key_ids((data,)):
            key = KEYS.get(number)
            try:
                place = payload_place(key.tenant if key else "", name.rpartition(":")[2])
                return open_sealed(data, place)
            except CodecError:
                # destroyed, or damaged: no dictionary helps
                return b""
        return b""

    async def files(self) -> None:
        """Have Redis write its files anew: they are a log of what was written before."""
        if self._dry:
            return
        try:
            if is_cluster(self._redis):
                await self._redis.execute_command("BGREWRITEAOF", target_nodes="primaries")
            else:
                await self._redis.execute_command("BGREWRITEAOF")
        except REDIS_ERRORS as error:
            if "in progress" not in str(error):
                said = (
                    f"Redis does not write its files anew when asked ({error}): it has to be done"
                )
                self.tallies["Redis' files"].add(detail=said)

    def _counted(self, place: str, found: int) -> None:
        if found:
            self.tallies[place].add(found, 0 if self._dry else found)


_TEXTS: Final = ("type", "message_id", "delivery_id", "enrichment")


def _event(row: Row) -> Event | None:
    try:
        archived = ArchivedEvent(row.partition, entry_id((row.entry_ms, row.entry_seq)), join(row))
        return decode_event(archived.envelope)
    except CodecError:
        return None


def _decoded(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except CodecError:
        return None


def _frame_dictionary(head: bytes) -> int:
    try:
        return dictionary_id(head)
    except Exception:  # noqa: BLE001 it is no frame
        return 0
