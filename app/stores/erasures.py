"""Erasures in PostgreSQL, and what every process knows of them: what must not come back.

Each process reads them every few seconds. A webhook that was sent before, and whose event was
erased, is taken for no news at the door; an event that comes late (out of a spool, say) and that an
erasure should have found is dropped by the first stage.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.durations import DAY_MS
from hookstream.app.errors import BadRequestError, SealingKeyError, UnavailableError
from hookstream.app.ids import event_time_ms, new_event_id, random_bits
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.postgres.sql import statement
from hookstream.app.privacy.subjects import Subject
from hookstream.app.stores.subject_keys import SubjectKeys
from hookstream.codecs.envelope import Event

__all__ = [
    "CONTEXT",
    "DONE",
    "EVENT",
    "KINDS",
    "OPEN",
    "RUNNING",
    "SUBJECT",
    "TENANT",
    "TOOL",
    "WAITING",
    "Erasure",
    "ErasureStore",
    "Tally",
    "sent_hashes",
]

logger = get_logger(__name__)

EVENT, TOOL, CONTEXT, TENANT, SUBJECT = "event", "tool", "context", "tenant", "subject"
KINDS: Final = (EVENT, TOOL, CONTEXT, TENANT, SUBJECT)
RUNNING, WAITING, OPEN, DONE = "running", "waiting", "open", "done"
MAX_EVENTS: Final = 1000
#: How often each process looks for what is new.
LOOK_SECONDS: Final = 2.0
#: A sender repeats what it has sent for some days at most; that is what is recognised.
REPEATED_MS: Final = 30 * DAY_MS
#: Erasures by whose hashes a webhook is compared, the newest: 1 µs each.
MAX_COMPARED: Final = 64
#: Events of one erasure that are remembered by their ids.
MAX_TOMBSTONES: Final = 200_000
SALT_BYTES: Final = 16
HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erasure, as PostgreSQL has it."""

    erasure_id: str
    tenant: str
    kind: str
    target: Mapping[str, Any]
    reason: str
    dry_run: bool
    status: str
    detail: str
    created_at: datetime
    finished_at: datetime | None = None
    receipt: Mapping[str, Any] | None = None

    @property
    def created_ms(self) -> int:
        """Events received later are not concerned."""
        return event_time_ms(self.erasure_id)

    @property
    def data_keys(self) -> frozenset[int]:
        """Keys that are destroyed in the end: none, unless all of a tenant goes."""
        return frozenset(map(int, self.target.get("data_keys", ())))

    @property
    def salt(self) -> bytes:
        """What hashes of what senders repeat are keyed by."""
        return bytes.fromhex(str(self.target.get("salt", "")))


@dataclass(slots=True)
class Tally:
    """What was found in one place, what of it went, what is left; and a sentence about that."""

    found: int = 0
    erased: int = 0
    left: int = 0
    detail: str = ""

    def add(self, found: int = 0, erased: int = 0, left: int = 0, detail: str = "") -> None:
        """Count more."""
        self.found += found
        self.erased += erased
        self.left += left
        self.detail = detail or self.detail


@dataclass(slots=True)
class _Known:
    """An erasure with what it takes to recognise what it is about."""

    erasure: Erasure
    subject: Subject | None = None
    events: frozenset[str] = frozenset()
    sent: frozenset[bytes] = frozenset()
    whole: bool = False


def sent_hashes(salt: bytes, tool_id: str, message_id: str, delivery_id: str) -> list[bytes]:
    """Keyed hashes of what a sender that repeats a webhook repeats: content, and delivery id."""
    wanted = [f"message\0{message_id}"] if message_id else []
    wanted += [f"delivery\0{tool_id}\0{delivery_id}"] if delivery_id else []
    return [
        hashlib.blake2b(text.encode(errors="replace"), digest_size=HASH_BYTES, key=salt).digest()
        for text in wanted
    ]


class ErasureStore(Service):
    """Makes erasures, and knows those that there are."""

    mundane_level = "debug"

    def __init__(
        self,
        postgres: Postgres,
        subject_keys: SubjectKeys,
        data_keys: DataKeys | None = None,
        **kwargs: Any,
    ) -> None:
        """``data_keys``: those of a tenant are retired when all of it is to be erased."""
        super().__init__(**kwargs)
        self._data_keys = data_keys
        self._postgres = WholePostgres(postgres)
        self._schema = postgres.schema
        self._subject_keys = subject_keys
        self._known: dict[str, _Known] = {}
        self._order: tuple[_Known, ...] = ()
        #: When the newest erasure was made; what came later is concerned by none.
        self._newest_ms = 0
        #: Partitions that an event came to late, with its erasure: it is erased there again.
        self.strays: set[tuple[int, str]] = set()
        #: Of which tenants' senders something is known.
        self._compared: dict[str, list[_Known]] = {}

    # --- what the door and the first stage ask

    def late_by(self, event: Event) -> Erasure | None:
        """The erasure that was about an event which comes now; None for most.

        Costs a comparison where it came after all of them. Raises CodecError where the payload of
        one that may be a person's cannot be read.
        """
        if event.received_at_ms > self._newest_ms:
            return None
        for known in self._order:
            if (
                known.erasure.tenant == event.tenant
                and event.received_at_ms <= known.erasure.created_ms
                and _takes(known, event)
            ):
                return known.erasure
        return None

    def repeats(self, tenant: str, tool_id: str, message_id: str, delivery_id: str) -> bool:
        """Whether a webhook repeats one whose event was erased; 1 µs for each such erasure."""
        for known in self._compared.get(tenant, ()):
            hashes = sent_hashes(known.erasure.salt, tool_id, message_id, delivery_id)
            if not known.sent.isdisjoint(hashes):
                return True
        return False

    @tasks.loop
    async def _follow(self) -> None:
        while not self.should_stop:
            try:
                await self.look()
            except (UnavailableError, asyncpg.PostgresError) as error:
                logger.debug("erasures are looked for later: %s", error)
            await self.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Learn of erasures that are new, and of what those under way have found.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        if not await self._has_tables():
            return
        rows = await self._postgres.fetch(statement("erasures_known"))
        found: dict[str, _Known] = {}
        for row in rows:
            erasure = _erasure(row)
            known = self._known.get(erasure.erasure_id)
            if known is None or not known.whole or known.erasure.target != erasure.target:
                known = await self._learn(erasure)
            known.erasure = erasure
            found[erasure.erasure_id] = known
        self._known = found
        self._order = tuple(found.values())
        self._newest_ms = max((one.erasure.created_ms for one in self._order), default=0)
        since_ms = time.time() * 1000 - REPEATED_MS
        compared: dict[str, list[_Known]] = {}
        for known in self._order:
            tenants = compared.setdefault(known.erasure.tenant, [])
            if known.sent and known.erasure.created_ms > since_ms and len(tenants) < MAX_COMPARED:
                tenants.append(known)
        self._compared = {tenant: some for tenant, some in compared.items() if some}
        metrics.ERASURES_UNDER_WAY.set(sum(one.erasure.status != DONE for one in self._order))

    async def _has_tables(self) -> bool:
        known = self._schema.known
        return known is None or known.has("erasures")

    async def _learn(self, erasure: Erasure) -> _Known:
        events, sent = await self._tombstones(erasure.erasure_id)
        subject = None
        whole = erasure.status == DONE
        try:
            subject = await self.subject_of(erasure)
        except SealingKeyError as error:
            logger.debug("erasure %s cannot be recognised here: %s", erasure.erasure_id, error)
            whole = False
        if erasure.kind in (TOOL, TENANT):
            events = frozenset()
        return _Known(erasure, subject, events, sent, whole)

    async def _tombstones(self, erasure_id: str) -> tuple[frozenset[str], frozenset[bytes]]:
        rows = await self._postgres.fetch(statement("tombstones"), UUID(erasure_id), MAX_TOMBSTONES)
        return (
            frozenset(str(row["event_id"]) for row in rows),
            frozenset(bytes(one) for row in rows for one in row["sent"]),
        )

    def known(self) -> Sequence[Erasure]:
        """All that are no trials, the oldest first, as of the last look."""
        return [known.erasure for known in self._order]

    def newest(self, tenant: str) -> str:
        """The newest erasure of a tenant, as of the last look; "" where there is none."""
        mine = (one.erasure_id for one in self.known() if one.tenant == tenant)
        return max(mine, default="")

    def unrecognised(self, tenant: str) -> bool:
        """Whether one of a tenant's is about a person whom nobody here can recognise now."""
        return any(
            known.erasure.tenant == tenant
            and known.erasure.kind == SUBJECT
            and known.subject is None
            for known in self._order
        )

    # --- what people ask

    async def subject_of(self, erasure: Erasure) -> Subject | None:
        """Whom an erasure is about, for comparing; None where that is no person.

        Raises:
            SealingKeyError: its key cannot be had now.
        """
        if erasure.kind != SUBJECT:
            return None
        key = await self._subject_keys.open(erasure.tenant, str(erasure.target["key"]))
        return Subject.read(key, erasure.target["forms"])

    async def begin(
        self,
        tenant: str,
        kind: str,
        target: Mapping[str, Any],
        *,
        values: Sequence[str] = (),
        reason: str = "",
        dry_run: bool = False,
        now_ms: int,
    ) -> Erasure:
        """Have workers erase something; ``values``: of a subject, which are kept as hashes only.

        Raises:
            BadRequestError: a value would be found everywhere, or there is no key for hashes.
            SealingKeyError, UnavailableError: it cannot be kept now.
        """
        kept = {**target, "salt": os.urandom(SALT_BYTES).hex()}
        if kind == SUBJECT:
            key, sealed = await self._subject_keys.draw(tenant)
            try:
                kept |= {"forms": Subject.of(key, values).kept(), "key": sealed}
            except ValueError as error:
                raise BadRequestError(f"subject: {error}") from error
        erasure_id = new_event_id(now_ms, 0, random_bits())
        async with self._postgres.transaction() as connection:
            if kind == TENANT and not dry_run and self._data_keys is not None:
                # whoever knows of the erasure knows of this: nothing more is sealed by these
                retired = await self._data_keys.retire(connection, tenant)
                # as texts: numbers of JSON are not exact everywhere
                kept |= {"data_keys": list(map(str, retired))} if retired else {}
            row = await connection.fetchrow(
                statement("begin_erasure"), UUID(erasure_id), tenant, kind, kept, reason, dry_run
            )
        assert row is not None
        return _erasure(row)

    async def find(self, tenant: str, erasure_id: str) -> Erasure | None:
        """One of a tenant's. Raises UnavailableError."""
        rows = await self._postgres.fetch(statement("erasures"), tenant, UUID(erasure_id), None, 1)
        return _erasure(rows[0]) if rows else None

    async def page(self, tenant: str, below: str | None, limit: int) -> list[Erasure]:
        """Those of a tenant, the newest first, ``below`` an id. Raises UnavailableError."""
        rows = await self._postgres.fetch(
            statement("erasures"), tenant, None, UUID(below) if below else None, limit
        )
        return [_erasure(row) for row in rows]

    async def progress(self, erasure_id: str) -> tuple[list[str], dict[str, Tally]]:
        """The steps that are done, and what was found in each place so far."""
        rows = await self._postgres.fetch(statement("erasure_steps"), UUID(erasure_id))
        steps = [row["step"] for row in rows if not row["place"]]
        places: dict[str, Tally] = {}
        for row in rows:
            if row["place"]:
                tally = places.setdefault(row["place"], Tally())
                tally.add(row["found"], row["erased"], row["left_over"], row["detail"])
        return steps, places

    # --- what the job asks

    async def under_way(self) -> list[Erasure]:
        """Those that are not done, trials too, the oldest first. Raises UnavailableError."""
        rows = await self._postgres.fetch(statement("erasures_under_way"))
        return [_erasure(row) for row in rows]

    async def found_events(self, erasure_id: str) -> set[str]:
        """Events that it has found so far. Raises UnavailableError."""
        return set((await self._tombstones(erasure_id))[0])

    async def note_events(
        self, erasure: Erasure, events: Iterable[tuple[str, Sequence[bytes]]]
    ) -> None:
        """Remember events before they go: what was made of them is found by their ids."""
        rows = list(events)[:MAX_TOMBSTONES]
        if rows:
            await self._postgres.execute(
                statement("note_tombstones"),
                UUID(erasure.erasure_id),
                erasure.tenant,
                [UUID(event_id) for event_id, _ in rows],
                # arrays of arrays have one length in PostgreSQL: a text for each
                [",".join(one.hex() for one in sent) for _, sent in rows],
            )

    async def note_place(self, erasure_id: str, step: str, place: str, tally: Tally) -> None:
        """Add to what was found in a place."""
        await self._postgres.execute(
            statement("note_erasure_place"),
            UUID(erasure_id),
            step,
            place,
            tally.found,
            tally.erased,
            tally.left,
            tally.detail,
        )

    async def note_step(self, erasure_id: str, step: str) -> None:
        """A step is done."""
        await self.note_place(erasure_id, step, "", Tally())

    async def forget_left(self, erasure_id: str, step: str) -> None:
        """What a step left is looked for anew."""
        await self._postgres.execute(statement("forget_erasure_left"), UUID(erasure_id), step)

    async def do_again(self, erasure_id: str, but: str) -> None:
        """Have the steps done again that have left something in any place ``but`` one."""
        await self._postgres.execute(statement("redo_erasure_steps"), UUID(erasure_id), but)

    async def seal_again(self, erasure_id: str) -> None:
        """Have the steps done again that seal anew what stays."""
        await self._postgres.execute(statement("redo_resealing_steps"), UUID(erasure_id))

    async def set_status(self, erasure_id: str, status: str, detail: str) -> None:
        """Say how it does."""
        await self._postgres.execute(
            statement("set_erasure_status"), UUID(erasure_id), status, detail
        )

    async def finish(self, erasure_id: str, receipt: Mapping[str, Any]) -> None:
        """It is done; of a trial nothing is remembered."""
        await self._postgres.execute(
            statement("finish_erasure"), UUID(erasure_id), receipt, datetime.now(UTC)
        )

    async def note_objects(self, erasure_id: str, names: Sequence[str]) -> None:
        """Names of objects that go."""
        await self._postgres.execute(statement("note_erased_objects"), UUID(erasure_id), names)

    async def erased_objects(self) -> list[str]:
        """Names of objects that went by erasures and are in the manifest no more."""
        rows = await self._postgres.fetch(statement("erased_objects"))
        return [row["name"] for row in rows]

    async def documents(self) -> dict[str, dict[str, Any]]:
        """What other stores keep of each erasure, by its id."""
        rows = await self._postgres.fetch(statement("erasure_documents"), MAX_TOMBSTONES)
        return {
            str(row["erasure_id"]): {
                "tenant": row["tenant"],
                "kind": row["kind"],
                "target": row["target"],
                "reason": row["reason"],
                "events": [str(one) for one in row["events"] or ()],
                "sent": list(row["sent"] or ()),
                "objects": list(row["objects"] or ()),
            }
            for row in rows
        }

    async def restore(self, erasure_id: str, document: Mapping[str, Any]) -> None:
        """Have an erasure again that a restored database does not know: it is carried out anew."""
        async with self._postgres.transaction() as connection:
            made = await connection.fetchrow(
                statement("restore_erasure"),
                UUID(erasure_id),
                document["tenant"],
                document["kind"],
                document["target"],
                document["reason"],
                datetime.fromtimestamp(event_time_ms(erasure_id) / 1000, UTC),
            )
            if made is None:
                return
            if self._data_keys is not None and (ids := document["target"].get("data_keys")):
                await self._data_keys.retire(connection, document["tenant"], list(map(int, ids)))
            await connection.execute(
                statement("note_tombstones"),
                UUID(erasure_id),
                document["tenant"],
                [UUID(one) for one in document["events"]],
                list(document["sent"]),
            )
            await connection.execute(
                statement("note_erased_objects"), UUID(erasure_id), list(document["objects"])
            )


def _takes(known: _Known, event: Event) -> bool:
    erasure = known.erasure
    match erasure.kind:
        case "tenant":
            return True
        case "tool":
            return bool(erasure.target["tool"] == event.tool_id)
        case "context":
            return False
    if event.event_id in known.events or event.event_id in erasure.target.get("events", ()):
        return True
    subject = known.subject
    if subject is None:
        return False
    if subject.found_in(event.payload):
        return True
    return any(subject.found_in(text) for text in event.headers.values())


def _erasure(row: Any) -> Erasure:
    return Erasure(
        str(row["erasure_id"]),
        row["tenant"],
        row["kind"],
        row["target"],
        row["reason"],
        row["dry_run"],
        row["status"],
        row["detail"],
        row["created_at"],
        row["finished_at"],
        row["receipt"],
    )
