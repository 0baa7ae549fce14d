"""Data keys by which content is sealed: one a tenant and month, wrapped in PostgreSQL.

They are kept in memory (:data:`hookstream.codecs.sealed.KEYS`): looked up when a tenant first needs
one, when an unknown id turns up, and some days before their month begins. So neither a webhook nor
a batch waits for PostgreSQL, and one that is away stops nobody who has this month's key.

A key that cannot be had holds up what needs it, and loses nothing. One that was destroyed
(``hookstream keys shred``) makes all that it has sealed read as erased, wherever that lies.
"""

import base64
import binascii
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import BadRequestError, ConflictError, SealingKeyError, UnavailableError
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.postgres.sql import statement
from hookstream.codecs.errors import CodecError, ErasedError
from hookstream.codecs.sealed import (
    KEYS,
    MonthKey,
    is_sealed,
    key_ids,
    month_after,
    month_of,
    month_of_event,
    open_sealed,
)
from hookstream.codecs.sealing import KEY_BYTES

__all__ = ["MIGRATION", "DataKeys", "Month"]

logger = get_logger(__name__)

#: The migration from which on nobody reads this database who cannot open what is sealed.
MIGRATION: Final = "sealed_payloads"
#: The migration from which on a month may have keys that seal nothing more.
RETIRED: Final = "retired_keys"
#: Between two looks for keys that are to be made, wrapped anew or forgotten.
LOOK_SECONDS: Final = 5.0
#: A month's key is made so long before it begins: PostgreSQL may be away when it does.
AHEAD_MS: Final = 3 * 24 * 3600 * 1000
#: Keys that are wrapped anew in one look.
PAGE: Final = 100
#: Reasons that are kept for ``/health``.
MAX_TOLD: Final = 100
#: How a sealed text begins where there is no room for bytes.
_TEXT: Final = "sealed:2:"

_ANY: Final = "SELECT 1 FROM data_keys WHERE shredded_at IS NULL LIMIT 1"

#: A tenant and a month (``2026-11``).
Month = tuple[str, str]


class DataKeys(Service):
    """Makes, fetches, wraps anew and destroys data keys; seals and opens by them."""

    mundane_level = "debug"

    def __init__(
        self,
        ring: KeyRing,
        postgres: Postgres,
        *,
        wanted: bool = False,
        tenants: Callable[[], Iterable[str]] = lambda: (),
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        **kwargs: Any,
    ) -> None:
        """``wanted``: content is to be sealed (``HOOKSTREAM_SEAL_PAYLOADS``).

        ``tenants``: those that will need a key.
        """
        super().__init__(**kwargs)
        self.ring = ring
        self.wanted = wanted
        self._postgres = WholePostgres(postgres)
        self._schema = postgres.schema
        self._tenants = tenants
        self._now_ms = now_ms
        self._begun = False
        self._shredded_until = self._retired_until = datetime.fromtimestamp(0, UTC)
        self._forget: list[Callable[[], object]] = []
        #: Months of which something was destroyed.
        self.shredded: set[Month] = set()
        #: What keeps new content from being sealed.
        self.trouble = ""
        #: Keys that are needed and cannot be had, by their ids or months, and why.
        self.missing: dict[str, str] = {}

    @property
    def seals(self) -> bool:
        """Whether content is sealed from now on."""
        if not self._begun and self.wanted and not self.ring.is_empty:
            self._begun = self.has_table
        return self._begun

    @property
    def has_table(self) -> bool:
        """Whether there may be data keys at all: the upgrade is finished."""
        known = self._schema.known
        return known is not None and known.has(MIGRATION)

    @property
    def retires(self) -> bool:
        """Whether keys can be retired: the upgrade to the release that knows of it is finished."""
        known = self._schema.known
        return known is not None and known.has(RETIRED)

    def when_destroyed(self, forget: Callable[[], object]) -> None:
        """Call ``forget`` when a key was destroyed: for who keeps in memory what was opened."""
        self._forget.append(forget)

    def key(self, tenant: str, month: str) -> MonthKey | None:
        """What seals content of a tenant and month now; None where nothing is sealed. 0.3 µs.

        Raises:
            SealingKeyError: it is to be sealed, and the key is not here: see :meth:`ensure`.
        """
        if not self.seals:
            return None
        found = KEYS.newest(tenant, month)
        if found is None:
            raise SealingKeyError(
                f"the data key of {tenant} for {month} is not here yet"
                f"{': ' + self.trouble if self.trouble else ''}"
            )
        return found

    def month_now(self) -> str:
        """The month of now; "" where nothing is sealed."""
        return month_of(self._now_ms()) if self.seals else ""

    def key_now(self, tenant: str) -> MonthKey | None:
        """As :meth:`key`, of what is made now and of no one event."""
        return self.key(tenant, month_of(self._now_ms()))

    def seal(self, tenant: str, data: bytes, place: bytes, event_id: str = "") -> bytes:
        """``data`` sealed for its place, or as it is where nothing is sealed.

        The key is that of the month in which the event was received, else of now.

        Raises:
            SealingKeyError: the key is not here.
        """
        if not self.seals:
            return data
        key = self.key(tenant, month_of_event(event_id)) if event_id else self.key_now(tenant)
        return data if key is None else key.seal(data, place)

    @staticmethod
    def open(data: bytes, place: bytes) -> bytes:
        """What was sealed, or ``data`` where it is not; its key has been fetched.

        Raises:
            UnknownKeyError: it has not.
            ErasedError: it was destroyed.
            CodecError: it is damaged, or was sealed for another place.
        """
        return open_sealed(data, place) if is_sealed(data) else data

    async def open_payload(self, data: bytes, place: bytes) -> bytes | None:
        """Any stored value in the clear, sealed or not; None where its key was destroyed.

        For whoever reads what is kept by itself (erasure, exports). ``place`` is what it was sealed
        for: the functions of :mod:`hookstream.codecs.sealed` that end in ``_place``.

        Raises:
            SealingKeyError: its key cannot be had now.
            CodecError: it is damaged, or was sealed for another place.
        """
        await self.fetch(key_ids((data,)))
        try:
            return self.open(data, place)
        except ErasedError:
            return None

    def seal_text(self, tenant: str, text: str, place: bytes) -> str:
        """As :meth:`seal`, of now, for a column of text."""
        sealed = self.seal(tenant, data := text.encode(), place)
        return text if sealed is data else _TEXT + base64.b64encode(sealed).decode()

    async def open_text(self, text: str, place: bytes) -> str | None:
        """What :meth:`seal_text` made. Raises as :meth:`open_payload`."""
        if not text.startswith(_TEXT):
            return text
        try:
            data = base64.b64decode(text.removeprefix(_TEXT), validate=True)
        except binascii.Error as error:
            raise CodecError(f"a sealed text that is none: {error}") from error
        opened = await self.open_payload(data, place)
        return None if opened is None else opened.decode()

    def is_erased(self, tenant: str, event_id: str) -> bool:
        """Whether a data key of the month in which an event was received was destroyed."""
        return bool(self.shredded) and (tenant, month_of_event(event_id)) in self.shredded

    async def fetch(self, ids: Iterable[int]) -> None:
        """Have the keys with these ids, or know that they are destroyed. No round trip for others.

        Raises:
            SealingKeyError: one of them cannot be had now; the message names it.
        """
        wanted = sorted(KEYS.missing(ids))
        if not wanted:
            return
        try:
            rows = await self._postgres.fetch(statement("data_keys_by_id"), wanted)
        except UnavailableError as error:
            self._miss(wanted, f"PostgreSQL, which has it, is away: {error}")
        except asyncpg.UndefinedTableError:
            rows = []
        await self._learn(rows)
        if still := sorted(KEYS.missing(wanted)):
            self._miss(
                still,
                "PostgreSQL's table data_keys has no such key: bring it back from a backup, or "
                "see whether this process uses the right database",
            )

    async def ensure(self, months: Iterable[Month]) -> None:
        """Have the keys that seal for these, where content is sealed; those that are not there are
        made.

        Raises:
            SealingKeyError: one of them cannot be had or made now.
        """
        if not self.seals:
            return
        wanted = sorted({one for one in months if KEYS.newest(*one) is None})
        if not wanted:
            return
        try:
            for tenant, month in wanted:
                await self._ensure(tenant, month)
        except UnavailableError as error:
            name = "/".join(wanted[0])
            self._told(name, str(error))
            raise SealingKeyError(
                f"there is no data key of {wanted[0][0]} for {wanted[0][1]} now: {error}"
            ) from error
        for one in wanted:
            self.missing.pop("/".join(one), None)

    async def ready(self, ids: Iterable[int], months: Iterable[Month]) -> None:
        """:meth:`fetch` and :meth:`ensure`: what a batch needs before it is worked on."""
        await self.fetch(ids)
        await self.ensure(months)

    async def _ensure(self, tenant: str, month: str) -> None:
        rows = await self._of_month(tenant, month)
        if not rows:
            key = os.urandom(KEY_BYTES)
            name, wrapped = await self.ring.wrap(key)
            # positive, so that it is the same number everywhere
            number = int.from_bytes(os.urandom(8), "big") >> 1
            made = await self._postgres.fetchrow(
                statement("put_data_key"), number, tenant, month, wrapped, name
            )
            if made is not None:
                KEYS.add(MonthKey(number, tenant, month, key))
                logger.info("data key %d of %s for %s was made", number, tenant, month)
                metrics.DATA_KEYS_MADE.inc()
                return
            # another process was first
            rows = await self._of_month(tenant, month)
        await self._learn(rows)
        if KEYS.newest(tenant, month) is None:
            raise SealingKeyError(
                self.missing.get(_named(rows), "another process has just made it")
            )

    async def _of_month(self, tenant: str, month: str) -> list[Mapping[str, Any]]:
        """The key that seals what is of a month: one or none."""
        rows = await self._postgres.fetch(statement("data_keys_of_month"), tenant, month)
        return [row for row in rows if not _is_retired(row)]

    async def _learn(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take keys into the book. Raises SealingKeyError for the first that does not open."""
        trouble: SealingKeyError | None = None
        for row in rows:
            number = row["key_id"]
            if row["shredded_at"] is not None:
                self._destroyed(row)
                continue
            if _is_retired(row):
                KEYS.retire(number)
            try:
                key = await self.ring.unwrap(row["wrapped_by"], row["wrapped"])
            except SealingKeyError as error:
                self._told(str(number), str(error))
                trouble = trouble or SealingKeyError(
                    f"the data key {number} ({row['tenant']}, {row['month']}) cannot be unwrapped: "
                    f"{error}"
                )
                continue
            KEYS.add(MonthKey(number, row["tenant"], row["month"], key))
            self.missing.pop(str(number), None)
        if trouble:
            raise trouble

    def _miss(self, ids: Sequence[int], why: str) -> None:
        for number in ids:
            self._told(str(number), why)
        raise SealingKeyError(f"the data key {ids[0]} cannot be had: {why}")

    def _told(self, name: str, why: str) -> None:
        if name not in self.missing:
            logger.error("the data key %s cannot be had, what needs it waits: %s", name, why)
        if name in self.missing or len(self.missing) < MAX_TOLD:
            self.missing[name] = why

    def _destroyed(self, row: Mapping[str, Any]) -> None:
        number = row["key_id"]
        if not _is_retired(row):
            # else its month goes on, with another key
            self.shredded.add((row["tenant"], row["month"]))
        self.missing.pop(str(number), None)
        if KEYS.destroy(number):
            for forget in self._forget:
                forget()

    @tasks.loop
    async def _look_forever(self) -> None:
        while not self.should_stop:
            try:
                await self.look()
                self.trouble = ""
            except SealingKeyError as error:
                if self.trouble != str(error):
                    logger.error("content cannot be sealed: %s", error)
                self.trouble = str(error)
            except (UnavailableError, asyncpg.PostgresError) as error:
                logger.debug("data keys are looked after later: %s", error)
            await self.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Learn what was destroyed, have the keys that will be needed, wrap anew what is to be.

        Raises:
            SealingKeyError: a wrapping key cannot be had.
            UnavailableError: PostgreSQL is away.
        """
        if self.wanted and not (self.has_table and self.retires):
            # somebody may have finished the upgrade
            await self._schema.look(self._postgres)
        if not self.has_table:
            return
        await self.learn_changes()
        if lacking := [int(name) for name in self.missing if name.isdigit()]:
            with suppress(SealingKeyError):  # it is told already
                await self.fetch(lacking)
        now_ms = self._now_ms()
        month = month_of(now_ms)
        months = {month, month_after(month)} if _ends_soon(now_ms) else {month}
        await self.ensure((tenant, month) for tenant in self._tenants() for month in months)
        for name in [name for name in self.missing if not name.isdigit()]:
            if KEYS.newest(*name.rsplit("/", 1)) is not None:
                del self.missing[name]
        if not self.ring.is_empty and (self.seals or await self._postgres.fetch(_ANY)):
            await self.rewrap()

    async def learn_changes(self) -> None:
        """Learn which keys seal nothing more, and which were destroyed.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        # those of transactions that end later may bear an earlier time
        late = timedelta(minutes=1)
        if self.retires:
            query = statement("retired_keys")
            for row in await self._postgres.fetch(query, self._retired_until):
                KEYS.retire(row["key_id"])
                self._retired_until = max(self._retired_until, row["retired_at"] - late)
        for row in await self._postgres.fetch(statement("shredded_keys"), self._shredded_until):
            self._destroyed(row)
            self._shredded_until = max(self._shredded_until, row["shredded_at"] - late)

    async def rewrap(self) -> int:
        """Wrap by the key of now what an older one has wrapped; how many data keys.

        Any process may; whoever comes second changes nothing. Content stays as it is.

        Raises:
            SealingKeyError: one of the keys cannot be had.
            UnavailableError: PostgreSQL is away.
        """
        name, done, behind = self.ring.current().name, 0, -1
        trouble: SealingKeyError | None = None
        query = statement("data_keys_to_rewrap")
        while rows := await self._postgres.fetch(query, name, behind, PAGE):
            behind = rows[-1]["key_id"]
            for row in rows:
                try:
                    key = await self.ring.unwrap(row["wrapped_by"], row["wrapped"])
                except SealingKeyError as error:
                    # others' go on
                    trouble = trouble or error
                    continue
                by, wrapped = await self.ring.wrap(key)
                await self._postgres.execute(
                    statement("rewrap_data_key"), row["key_id"], row["wrapped_by"], by, wrapped
                )
                metrics.DATA_KEYS_REWRAPPED.inc()
                done += 1
        if trouble:
            raise trouble
        return done

    async def list(self, tenant: str) -> list[Mapping[str, Any]]:
        """A tenant's keys, the newest month first; never the keys themselves.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        if not self.has_table:
            return []
        return list(await self._postgres.fetch(statement("data_keys_of_tenant"), tenant))

    async def shred(self, tenant: str, month: str) -> int:
        """Destroy a tenant's keys of a month: all that they sealed is unreadable. How many.

        Raises:
            BadRequestError: ``month`` is none.
            ConflictError: it is not over.
            UnavailableError: PostgreSQL is away.
        """
        try:
            datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        except ValueError as error:
            raise BadRequestError(f"month: 2026-11, say, not {month[:20]!r}") from error
        if month >= month_of(self._now_ms()):
            raise ConflictError(
                f"{month} is not over (UTC): what comes in meanwhile would be lost. Its key can be "
                f"destroyed from {month_after(month)}-01 on"
            )
        if not self.has_table:
            return 0
        rows = await self._postgres.fetch(statement("shred_data_keys"), tenant, month)
        for row in rows:
            self._gone({"tenant": tenant, "month": month, **row})
        return len(rows)

    async def retire(
        self, connection: Any, tenant: str, ids: Sequence[int] | None = None
    ) -> Sequence[int]:
        """Have a tenant's keys seal nothing more, within a transaction; which ones.

        ``ids``: those alone. Every process learns of it by :meth:`learn_changes`, and makes a new
        key for what it seals next.
        """
        if not self.retires:
            return []
        rows = await connection.fetch(statement("retire_data_keys"), tenant, ids)
        return sorted(row["key_id"] for row in rows)

    async def destroy(self, tenant: str, ids: Sequence[int]) -> int:
        """Destroy keys of a tenant that were retired: nothing opens what they sealed. How many.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._postgres.fetch(statement("destroy_data_keys"), tenant, ids)
        for row in rows:
            self._gone({"tenant": tenant, "retired_at": True, **row})
        return len(rows)

    def _gone(self, row: Mapping[str, Any]) -> None:
        self._destroyed(row)
        named = (row["key_id"], row["tenant"], row["month"])
        logger.warning("data key %d of %s for %s was destroyed", *named)
        metrics.DATA_KEYS_SHREDDED.inc()

    async def reseal(self, tenant: str, data: bytes, place: bytes) -> bytes:
        """What was sealed for a place, sealed for it by the key of now; in the clear where nothing
        is sealed any more.

        Raises:
            SealingKeyError: one of the keys cannot be had now.
            ErasedError: the key that has sealed it was destroyed.
            CodecError: it is damaged.
        """
        await self.ready(key_ids((data,)), ((tenant, self.month_now()),) if self.seals else ())
        return self.seal(tenant, open_sealed(data, place), place)


def _is_retired(row: Mapping[str, Any]) -> bool:
    return row.get("retired_at") is not None


def _ends_soon(now_ms: int) -> bool:
    return month_of(now_ms + AHEAD_MS) != month_of(now_ms)


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    return str(rows[0]["key_id"]) if rows else ""
