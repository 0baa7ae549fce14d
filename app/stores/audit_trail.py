"""The audit trail in PostgreSQL: who has changed or read what, when, from where.

What a statement changes is recorded by triggers, in its own transaction. What is changed elsewhere,
and reads of payloads, go through a stream in Redis that this service empties: they are recorded
while PostgreSQL is away, and cost a request no more than that. The event log, what became of
events, is another thing (:mod:`hookstream.app.stores.recorder`).
"""

import asyncio
import ipaddress
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import orjson
from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError

from hookstream.app import metrics, tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.acting import Acting
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.postgres.tenancy import whole
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.stores.audit_chain import (
    COLUMNS,
    FIRST,
    ChainRow,
    Head,
    Link,
    Problem,
    check_end,
    check_rows,
)

__all__ = ["ACTIONS", "AuditFilter", "AuditTrail", "RefusedKeys", "Verified", "moment"]

logger = get_logger(__name__)

_MADE: Final = ("made", "changed", "deleted")
#: Every word that a row's ``action`` can be.
ACTIONS: Final = frozenset(
    f"{kind}.{verb}"
    for kind, verbs in {
        "tool": _MADE,
        "context": _MADE,
        "subscription": (*_MADE, "tried"),
        "template": (*_MADE, "previewed"),
        "key": (*_MADE, "refused"),
        "tenant": _MADE,
        "masking": _MADE,
        "schema": _MADE,
        "schema_mode": _MADE,
        "migration": ("made", "deleted"),
        "replay": ("begun", "cancelled"),
        "import": ("begun", "changed"),
        "erasure": ("begun", "finished"),
        "hold": ("placed", "released"),
        "retention_policy": (*_MADE, "enforced"),
        "event": ("read", "exported"),
        "dead_letter": ("read", "retried", "discarded"),
        "refusal": ("read", "replayed"),
        "lifecycle": ("run",),
        "data_key": ("shredded", "rewrapped", "deleted"),
        "audit": ("exported", "expired"),
        "api": ("called",),
        "session": ("made", "refused", "ended"),
    }.items()
    for verb in verbs
)
#: Records that wait in Redis for PostgreSQL; beyond, what is to be recorded is refused.
MOST_WAITING = 100_000
#: Records of one transaction.
BATCH = 256
#: How long records are gathered, and how often it is looked for those of processes that ended.
LINGER_SECONDS = 0.2
LOOK_SECONDS = 5.0
#: Refused keys are counted by address for so long, and for so many addresses.
COUNTED_SECONDS = 60.0
MOST_COUNTED = 64
#: Rows of one page of a chain that is verified or exported.
PAGE = 2000
#: Any number: the advisory lock of whoever empties the stream.
_LOCK: Final = 0x61756474


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What a search asks for; None means any. ``action`` may end with ``*``."""

    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    object: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event: str | None = None
    below: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Verified:
    """What looking through a part of a chain came to. ``next``: where to go on; None at the end."""

    looked_at: int
    problems: list[Problem]
    next: Link | None
    head: Link
    start: Link


@dataclass(slots=True)
class RefusedKeys:
    """Counts refused keys by address, so that a flood of them is a few rows a minute."""

    most: int = MOST_COUNTED
    since: float = 0.0
    counts: dict[tuple[str, str, str, str, str], int] = field(default_factory=dict)

    def add(
        self, tenant: str, address: str, key_id: str, reason: str, now: float, kind: str = "agent"
    ) -> None:
        """One more; those of further addresses are counted together.

        Of strangers, and of known keys: a flood of the ones must not hide the others.
        """
        if not self.counts:
            self.since = now
        name = (tenant, network_of(address), key_id, reason, kind)
        alike = sum(bool(one[2]) == bool(key_id) for one in self.counts)
        if name not in self.counts and alike >= self.most:
            name = (tenant, "others", key_id and "others", reason, kind)
        self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, now: float, *, all_of_them: bool = False) -> list[tuple[str, dict[str, Any]]]:
        """Tenants and records of what was counted, once that was begun a minute ago."""
        if not self.counts or (now - self.since < COUNTED_SECONDS and not all_of_them):
            return []
        counts, self.counts = self.counts, {}
        return [
            (
                tenant,
                {
                    "actor": {"kind": kind if key_id else "unknown", "id": key_id},
                    "role": "",
                    "address": address,
                    "action": "key.refused",
                    "object": {"kind": "address", "id": address},
                    "before": None,
                    "after": {"times": times, "reason": reason, "since": moment(self.since)},
                },
            )
            for (tenant, address, key_id, reason, kind), times in counts.items()
        ]


class AuditTrail(Service):
    """Records, and shows what was recorded."""

    mundane_level = "debug"

    def __init__(self, redis: Any, postgres: Postgres, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._postgres = postgres
        self._queued = asyncio.Event()
        self._refused = RefusedKeys()

    async def note(self, tenant: str, record: Mapping[str, Any]) -> None:
        """Record something before it is done; it is in the trail within a second or so.

        Raises:
            UnavailableError: neither Redis nor PostgreSQL takes it, or too many wait: it must not
                be done now.
        """
        text = _text({**record, "at": moment(time.time()), "entry": secrets.token_hex(12)})
        try:
            await self._queue(tenant, text)
        except REDIS_ERRORS as error:
            try:
                await self._append_one(tenant, text)
            except UnavailableError:
                raise UnavailableError(
                    "what is read is recorded in the audit trail, and that cannot be written at "
                    "the moment: try again"
                ) from error

    async def called(self, tenant: str, who: Acting, record: Mapping[str, Any]) -> None:
        """Record that a call has changed something, unless its statements have done so."""
        given = {**who.out(), **record, "at": moment(time.time()), "entry": secrets.token_hex(12)}
        text = _text({**given, "alone": True})
        ways = [self._append_one, self._queue]
        if "failed" in record:
            # perhaps by PostgreSQL: it is not waited for once more
            ways.reverse()
        for way in ways:
            try:
                await way(tenant, text)
            except (*REDIS_ERRORS, UnavailableError, asyncpg.PostgresError) as error:
                logger.debug("the audit trail is written another way: %s", error)
            else:
                return
        metrics.AUDIT_LOST.inc()
        logger.error("the audit trail lacks %s", text)

    def refused(
        self, tenant: str, address: str, key_id: str, reason: str, kind: str = "agent"
    ) -> None:
        """Count a key that was refused; ``key_id`` and ``kind``: whose it is, where it is known."""
        metrics.AUDIT_REFUSED_KEYS.labels(reason=reason).inc()
        self._refused.add(tenant, address, key_id, reason, time.time(), kind)

    async def _queue(self, tenant: str, text: str) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.xadd(keys.AUDIT_TRAIL, {"t": tenant, "r": text})
        pipe.xlen(keys.AUDIT_TRAIL)
        entry, waiting = await pipe.execute()
        if waiting > MOST_WAITING:
            await self._redis.xdel(keys.AUDIT_TRAIL, entry)
            raise UnavailableError(
                f"{MOST_WAITING} records of the audit trail wait for PostgreSQL: try again when it "
                "is back"
            )
        self._queued.set()

    async def _append_one(self, tenant: str, text: str) -> None:
        await self._append([(tenant, text)])

    async def _append(self, records: Sequence[tuple[str, str]]) -> None:
        with whole():
            await self._postgres.execute(
                statement("append_audit"),
                [tenant for tenant, _ in records],
                [text for _, text in records],
            )

    @tasks.loop
    async def _empty(self) -> None:
        while not self.should_stop:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._queued.wait(), LOOK_SECONDS)
            await self.sleep(LINGER_SECONDS)
            self._queued.clear()
            try:
                await self._note_refused()
                while await self.drain() == BATCH and not self.should_stop:
                    pass
            except (*REDIS_ERRORS, UnavailableError) as error:
                logger.debug("the audit trail is written later: %s", error)
            except asyncpg.PostgresError as error:
                logger.error("the audit trail takes no rows: %s", error)

    async def on_stop(self) -> None:
        """Keep what was counted."""
        with suppress(RedisError, *REDIS_ERRORS, UnavailableError, asyncpg.PostgresError):
            await self._note_refused(all_of_them=True)

    async def _note_refused(self, *, all_of_them: bool = False) -> None:
        for tenant, record in self._refused.take(time.time(), all_of_them=all_of_them):
            await self.note(tenant, record)

    async def drain(self) -> int:
        """Write what waits in Redis, at most :data:`BATCH`; how many records that were.

        Raises:
            UnavailableError: PostgreSQL is away. Redis's errors as they come.
            asyncpg.PostgresError: the trail takes no rows: they wait until it does.
        """
        entries = await self._redis.xrange(keys.AUDIT_TRAIL, count=BATCH)
        metrics.AUDIT_WAITING.set(await self._redis.xlen(keys.AUDIT_TRAIL) if entries else 0)
        if not entries:
            return 0
        records = [(fields[b"t"].decode(), fields[b"r"].decode()) for _, fields in entries]
        try:
            written = await self._write(records)
        except asyncpg.DataError:
            written = await self._write_each(records)
        if not written:
            return 0  # another process does so
        await self._redis.xdel(keys.AUDIT_TRAIL, *(entry for entry, _ in entries))
        metrics.AUDIT_WRITTEN.inc(len(records))
        return len(records)

    async def _write(self, records: Sequence[tuple[str, str]]) -> bool:
        async with self._postgres.transaction() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                return False
            await connection.execute(
                statement("append_audit"),
                [tenant for tenant, _ in records],
                [text for _, text in records],
            )
        return True

    async def _write_each(self, records: Sequence[tuple[str, str]]) -> bool:
        """Write those that can be written: one that cannot must not keep all others waiting."""
        for record in records:
            try:
                if not await self._write([record]):
                    return False
            except asyncpg.DataError as error:
                metrics.AUDIT_LOST.inc()
                logger.error("the audit trail lacks %s: %s", record[1], error)
        return True

    async def find(self, tenant: str, wanted: AuditFilter) -> list[ChainRow]:
        """Rows of a tenant, the newest first.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        about = [wanted.event] if wanted.event else []
        name = "find_audit_of_event" if about else "find_audit"
        # indexes that these go by are of operators that a policy keeps back: both name the tenant
        with whole():
            return await self._find(name, tenant, wanted, about)

    async def _find(
        self, name: str, tenant: str, wanted: AuditFilter, about: list[str]
    ) -> list[ChainRow]:
        async with self._postgres.snapshot() as connection:
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            rows = await connection.fetch(
                statement(name),
                tenant,
                wanted.actor,
                _like(wanted.action) if wanted.action else None,
                wanted.kind,
                wanted.object,
                moment(wanted.since.timestamp()) if wanted.since else None,
                moment(wanted.until.timestamp()) if wanted.until else None,
                wanted.below,
                wanted.limit,
                *about,
            )
        return [_row(row) for row in rows]

    async def pages(self, tenant: str) -> AsyncIterator[list[ChainRow]]:
        """All rows of a tenant that there are now, in the order of the chain."""
        after = 0
        end = (await self._head(self._postgres, tenant))[0].end.seq
        while after < end:
            rows = await self._postgres.fetch(statement("audit_rows"), tenant, after, PAGE)
            if not rows:
                return
            yield [_row(row) for row in rows if row["seq"] <= end]
            after = rows[-1]["seq"]

    async def verify(self, tenant: str, after: Link | None, expected: Link | None) -> Verified:
        """Look through the next rows of a chain; ``after``: where the part before ended.

        ``expected``: a row that the chain had once, as somebody has noted it elsewhere.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        async with self._postgres.snapshot() as connection:
            head, expired = await self._head(connection, tenant)
            problems: list[Problem] = []
            if after is None:
                problems += _check_start(head, expired=expired)
                if expected is not None:
                    problems += await _check_expected(connection, tenant, head, expected)
            if after is None or after.seq < head.start.seq:
                after = head.start
            found = await connection.fetch(statement("audit_rows"), tenant, after.seq, PAGE)
            rows = [_row(row) for row in found]
        wrong, last = await asyncio.to_thread(check_rows, rows, after)
        problems += wrong
        whole = len(rows) < PAGE
        if whole:
            problems += check_end(last, head.end)
        return Verified(len(rows), problems, None if whole else last, head.end, head.start)

    async def heads(self) -> dict[str, Link]:
        """Where each tenant's chain ends.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._postgres.fetch(statement("audit_heads"))
        return {row["tenant"]: Link(row["seq"], row["hash"]) for row in rows}

    async def lacking(self, tenant: str, noted: Link) -> list[Problem]:
        """Whether a chain still has a row that it had once, or has let it expire.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        async with self._postgres.snapshot() as connection:
            head, _ = await self._head(connection, tenant)
            return await _check_expected(connection, tenant, head, noted)

    @staticmethod
    async def _head(source: Any, tenant: str) -> tuple[Head, bool]:
        row = await source.fetchrow(statement("audit_head"), tenant)
        if row is None:
            return Head(FIRST, FIRST), True
        end, start = Link(row["seq"], row["hash"]), Link(row["start_seq"], row["start_hash"])
        return Head(end, start), row["expired"]


def network_of(address: str) -> str:
    """An address as refused keys are counted by: of IPv6 the network that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


def moment(seconds: float) -> str:
    """A time as rows have it: RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check_start(head: Head, *, expired: bool) -> list[Problem]:
    if head.start == FIRST or expired:
        return []
    return [
        Problem(
            1,
            "missing",
            f"rows 1 to {head.start.seq} are missing, and no row says that they have expired",
        )
    ]


async def _check_expected(
    connection: Any, tenant: str, head: Head, expected: Link
) -> list[Problem]:
    if expected.seq <= head.start.seq:
        return []
    row = await connection.fetchrow(statement("audit_rows"), tenant, expected.seq - 1, 1)
    if row is None or row["seq"] != expected.seq:
        return [Problem(expected.seq, "missing", f"row {expected.seq} was there once")]
    if row["hash"] != expected.hash:
        return [
            Problem(
                expected.seq,
                "changed",
                f"row {expected.seq} had another hash once: the chain was written anew",
            )
        ]
    return []


def _row(row: Mapping[str, Any]) -> ChainRow:
    columns = {name: row[name] for name in COLUMNS if name in row and name != "seq"}
    return ChainRow(row["seq"], row["record"].encode(), row["previous"], row["hash"], columns)


def _like(glob: str) -> str:
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")


def _text(record: Mapping[str, Any]) -> str:
    return orjson.dumps(_storable(record)).decode()


def _storable(value: Any) -> Any:
    """Without what PostgreSQL's JSON cannot hold: one such record would stop all behind it."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(name): _storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    return value
