"""Keeps the catalog of this process: from PostgreSQL, or for a start without it from the disk."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mode import Service
from mode.utils.locks import Event as Signal
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import NotFoundError, UnavailableError
from hookstream.app.keyring.tool_secrets import CLEAR, ToolSecrets
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.tenancy import whole
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.stores.catalog_changes import Changes, read_rows
from hookstream.app.stores.catalog_copy import CatalogCopy
from hookstream.app.stores.catalog_rows import UNREADABLE
from hookstream.app.stores.catalog_state import CatalogState, build

__all__ = ["CatalogCache"]

logger = get_logger(__name__)

#: How long a batch waits for this worker to learn of a change that the receiver knew, while
#: PostgreSQL does not answer; once for each change.
WAIT_SECONDS = 5.0
RETRY_SECONDS = 0.25
#: How long the start of a process waits for PostgreSQL, and a request that could do without.
START_SECONDS = 3.0
REFRESH_SECONDS = 2.0
#: How often the file on disk is marked as confirmed, or tried again when it could not be written,
#: and how long a note stays in ``/health``.
CONFIRM_SECONDS = 30.0
NOTE_SECONDS = 600.0
#: A change is in the file on disk at once; the next one after so many times what that took, and at
#: the latest after the second.
COPY_REST, COPY_SECONDS = 20, 5.0
MAX_MISSED = 1024
#: Between two tries to open secrets whose key was not there.
OPEN_AGAIN_SECONDS = 5.0
#: What cannot be used is named in ``/health`` up to so many.
MAX_NAMED = 10


@dataclass(slots=True)
class Note:
    """Something to be told of in ``/health`` for a while."""

    text: str
    at: float


class CatalogCache(Service):
    """Keeps a :class:`Catalog` that follows PostgreSQL by LISTEN, within milliseconds.

    All rows are read once, and then those that change, by the log that triggers keep. While
    PostgreSQL is away the last snapshot serves, which also outlives the process.
    """

    mundane_level = "debug"

    #: A lost notification is made good within this time.
    poll_seconds = 1.0

    def __init__(
        self,
        postgres: Postgres,
        schemas: SchemaStore,
        copy: CatalogCopy,
        secrets: ToolSecrets = CLEAR,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.secrets = secrets
        self.postgres = postgres
        self.schemas = schemas
        self.copy = copy
        self.current = Catalog()
        #: When PostgreSQL last said that the snapshot is the newest (monotonic), or would have.
        self._confirmed_at = time.monotonic()
        #: The rows that the snapshot is made of; None where they are to be read anew.
        self._state: CatalogState | None = None
        #: What the catalog was begun with, until PostgreSQL has been read.
        self._disk_state: CatalogState | None = None
        #: When the file was last written, tried, or marked as confirmed.
        self._copied_at = 0.0
        #: The snapshot is not on the disk yet.
        self._uncopied = False
        self._changed = Signal()
        self._on_change: list[Callable[[], object]] = []
        #: The state that could not be read last: its traceback is told once.
        self._unread = (0, 0)
        #: the snapshot comes from the disk, and PostgreSQL has not been asked yet.
        self.from_disk = False
        self._note: Note | None = None
        self._notified = Signal()
        self._reloading = asyncio.Lock()
        self._copying = asyncio.Lock()
        self._settling: dict[tuple[int, int], asyncio.Task[None]] = {}
        #: States that events asked for and that were not found: nobody waits again. True: the
        #: database does not have it; False: it has not answered.
        self._missed: OrderedDict[tuple[int, int], bool] = OrderedDict()

    def on_change(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called, which must not raise, when the snapshot is another one."""
        self._on_change.append(tell)

    @property
    def loaded(self) -> bool:
        """Whether there is a snapshot at all yet."""
        return self.current.version > 0

    @property
    def age_seconds(self) -> float:
        """How long ago PostgreSQL last confirmed the snapshot."""
        return time.monotonic() - self._confirmed_at

    @property
    def note(self) -> str:
        """What happened to the catalog lately that a person should know; "" for nothing."""
        if self._note and time.monotonic() - self._note.at < NOTE_SECONDS:
            return self._note.text
        if passed := self.current.passed_over:
            named = ", ".join(name[:128] for name in passed[:MAX_NAMED])
            more = f" and {len(passed) - MAX_NAMED} more" if len(passed) > MAX_NAMED else ""
            return f"this release cannot use {named}{more}: the log says why"
        return ""

    async def on_start(self) -> None:
        """Take the snapshot from the disk, and the newest one if PostgreSQL is there."""
        if kept := await asyncio.to_thread(self.copy.read):
            rows, age = kept
            try:
                state = await build(rows, self.schemas, offline=True, secrets=self.secrets)
                self._disk_state, self.current = state, state.catalog()
                self.from_disk = True
                self._confirmed_at = time.monotonic() - age
            except UNREADABLE as error:
                logger.warning("%s is of another release: %r", self.copy.path, error)
        first = tasks.spawn("CatalogCache._first", self._first(), service=self)
        await asyncio.wait((first,), timeout=START_SECONDS)
        if self.from_disk:
            logger.warning(
                "starting without PostgreSQL, with the tools and subscriptions of %.0f s ago",
                self.age_seconds,
            )

    async def _first(self) -> None:
        try:
            await self.reload()
        except UnavailableError as error:
            logger.warning("starting without PostgreSQL: %s", error)

    async def on_stop(self) -> None:
        """Keep what is not on the disk yet; who starts next finds what is being written."""
        async with self._copying:
            pass
        if self._uncopied:
            await self._copy()

    async def reload(self) -> Catalog:
        """The newest snapshot: what has changed since the one that there is, is read.

        Raises:
            UnavailableError: PostgreSQL is away, or holds what this release cannot read.
        """
        # whoever's call asks for it
        with whole():
            return await self._reload()

    async def _reload(self) -> Catalog:
        async with self._reloading:
            row = await self.postgres.fetchrow("SELECT version, token FROM registry_version")
            named = (row["version"], row["token"]) if row else (0, 0)
            known = (self.current.version, self.current.token)
            if named != known or self.from_disk:
                try:
                    await self._read(known)
                except UnavailableError:
                    raise
                except UNREADABLE as error:
                    # the last snapshot serves on
                    if self._unread != named:
                        self._unread = named
                        logger.exception("tools and subscriptions cannot be read")
                    raise UnavailableError(
                        "tools and subscriptions cannot be read by this release: its log says why"
                    ) from error
                metrics.CATALOG_VERSION.set(self.current.version)
                self._uncopied = True
                self._changed.set()
                for tell in self._on_change:
                    tell()
            self.from_disk = False
            self._confirmed_at = time.monotonic()
            return self.current

    async def _read(self, known: tuple[int, int]) -> None:
        """Read what is another since ``known``, or all rows where that cannot be told."""
        read = await read_rows(self.postgres, known if self._state else None)
        # a state that raises half-way is not gone on with
        state, self._state = self._state, None
        if state and isinstance(read, Changes):
            self.schemas.forget(read.schema_ids)
            await state.apply(read.version, read.token, read.rows)
        else:
            assert not isinstance(read, Changes)
            self.schemas.forget()
            state = await build(read, self.schemas, before=self.current, secrets=self.secrets)
            if read.version < known[0] or (read.version == known[0] and read.token != known[1]):
                self._went_back(read.version)
        self._state, self._disk_state = state, None
        self.current = state.catalog()

    def _went_back(self, version: int) -> None:
        text = (
            f"PostgreSQL was restored from an older copy: tools and subscriptions went from "
            f"version {self.current.version} back to {version}, and edits in between are gone"
        )
        logger.warning(text)
        self._note = Note(text, time.monotonic())

    async def refresh(self) -> Catalog:
        """As :meth:`reload`, for a request that does not wait long.

        Raises:
            UnavailableError: PostgreSQL does not answer, or not soon enough.
        """
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                return await self.reload()
        except TimeoutError as error:
            raise UnavailableError("PostgreSQL does not answer in time: try again") from error

    async def context(self, tenant: str, context_id: str) -> Context:
        """A context; one that is not known here yet is looked for in PostgreSQL.

        Raises:
            NotFoundError: there is none.
            UnavailableError: PostgreSQL is away.
        """
        found = self.current.contexts.get((tenant, context_id))
        if found is None:
            found = (await self.reload()).contexts.get((tenant, context_id))
        if found is None:
            raise NotFoundError(f"there is no context {context_id}")
        return found

    def caught_up(self, version: int, token: int = 0) -> bool:
        """Whether :meth:`catch_up` has nothing to wait for."""
        wanted = (version, token)
        return self.loaded and (self.current.knows(*wanted) or wanted in self._missed)

    async def catch_up(self, version: int, token: int = 0) -> Catalog:
        """the snapshot: as new as ``version``, which an event's receiver knew, if there is such.

        A database that was restored from an older copy does not get there; one that is away says
        nothing for a while. Either is waited for once, not for ever.

        Raises:
            UnavailableError: there is no snapshot at all yet.
        """
        if not self.loaded:
            await self.refresh()
        if self.caught_up(version, token):
            return self.current
        wanted = (version, token)
        task = self._settling.get(wanted)
        if task is None:
            task = self._settling[wanted] = tasks.awaited(
                "CatalogCache._settle", self._settle(*wanted)
            )
        await asyncio.shield(task)
        return self.current

    async def is_certain(self, version: int, token: int = 0) -> bool:
        """Whether the snapshot is as new as any that there is of that version.

        To be asked after :meth:`catch_up`. False: PostgreSQL, which may have a newer one, does not
        answer, or not soon enough.
        """
        wanted = (version, token)
        if self.current.knows(*wanted) or self._missed.get(wanted):
            return True
        try:
            await self.refresh()
        except UnavailableError:
            return False
        if not self.current.knows(*wanted):
            self._miss(wanted, answered=True)
        return True

    async def _settle(self, version: int, token: int) -> None:
        """Ask PostgreSQL until it has answered once: who asks later than it was written sees it."""
        wanted = (version, token)
        why, answered = "PostgreSQL does not answer", False
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not self.current.knows(*wanted):
                    try:
                        await self.reload()
                        answered = True
                        why = "PostgreSQL does not have it: was it restored from an older copy?"
                        break
                    except UnavailableError as error:
                        why = str(error)
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            pass
        finally:
            del self._settling[wanted]
        if self.current.knows(*wanted):
            return
        self._miss(wanted, answered=answered)
        metrics.CATALOG_MISSED.inc()
        text = (
            f"events ask for version {version} of tools and subscriptions and are handled by "
            f"version {self.current.version}: {why}"
        )
        logger.warning(text)
        self._note = Note(text, time.monotonic())

    def _miss(self, wanted: tuple[int, int], *, answered: bool) -> None:
        self._missed[wanted] = answered
        if len(self._missed) > MAX_MISSED:
            self._missed.popitem(last=False)

    @tasks.loop
    async def _follow(self) -> None:
        failures = 0
        while not self.should_stop:
            try:
                async with self.postgres.listening("hookstream_registry", self._notified.set) as at:
                    while not self.should_stop and not at.is_closed():
                        self._notified.clear()
                        await self.reload()
                        failures = 0
                        await self._confirm()
                        await self.wait_first(self._notified, timeout=self.poll_seconds)
            except UnavailableError as error:
                failures += 1
                if failures == 1:
                    logger.warning("cannot follow the catalog: %s; trying on", error)
            if failures:
                await self.sleep(backoff_seconds(failures))

    @tasks.loop
    async def _open_again(self) -> None:
        """Tools whose key was away: it may be there by now, or the key file has another line."""
        while not self.should_stop:
            await self.sleep(OPEN_AGAIN_SECONDS)
            async with self._reloading:
                state, newest = self._state or self._disk_state, self._state is not None
                if self.current.sealed_tools and state:
                    # a state that raises half-way is not gone on with
                    self._state = self._disk_state = None
                    await state.open_again()
                    if newest:
                        self._state = state
                    else:
                        self._disk_state = state
                    self.current = state.catalog()

    @tasks.loop
    async def _keep(self) -> None:
        """Write the file on disk: at once after a quiet while, and then not for as long."""
        while not self.should_stop:
            await self.wait_first(self._changed, timeout=CONFIRM_SECONDS)
            self._changed.clear()
            if self._uncopied:
                begun = time.monotonic()
                await self._copy()
                await self.sleep(min(COPY_SECONDS, COPY_REST * (time.monotonic() - begun)))

    async def _copy(self) -> None:
        """Have the snapshot on the disk, whichever process writes it there."""
        async with self._copying:
            if self._state is None:
                return  # it is read anew
            self._copied_at, self._uncopied = time.monotonic(), False
            if not await asyncio.to_thread(self.copy.keep, self._state.rows()):
                self._uncopied = True

    async def _confirm(self) -> None:
        if not self._uncopied and time.monotonic() - self._copied_at > CONFIRM_SECONDS:
            self._copied_at = time.monotonic()
            self.copy.confirm()
