"""The PostgreSQL connection pool, and whose trouble an error of it is."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import HookstreamError, SettingsError, UnavailableError
from hookstream.app.postgres.acting import acting_now
from hookstream.app.postgres.migrations.run import APPLICATION_NAME, DatabaseSchema
from hookstream.app.postgres.sql import statement
from hookstream.app.postgres.tenancy import ROLE, tenant_now, whole

__all__ = ["Postgres", "WholePostgres", "is_postgres_down"]

logger = get_logger(__name__)

#: Classes of SQLSTATE that blame what was asked: bad values, constraints, programs, limits of size
#: (an index row that is too long). Whatever else the server says is the server's trouble.
_CALLERS = ("21", "22", "23", "42", "54", "P0")
#: Of those the ones that do not: a right that is missing, and a schema that is not the one that
#: this program was made for (an older copy was restored, or an empty database took its place).
_OTHER_SCHEMA = ("42P01", "42703", "42883", "42704", "3F000")
_SERVERS = ("42501", *_OTHER_SCHEMA)

TIMEOUT_SECONDS = 10.0
#: How long a start waits for the schema: a receiver has to listen.
MEET_SECONDS = 3.0
_IN_TURN = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_NAMED = {"application_name": APPLICATION_NAME}
#: After it could not be opened, nobody else waits for the same within this time.
REOPEN_SECONDS = 0.5
#: How long a refusal is told of when what was refused is not asked again.
REFUSED_SECONDS = 60.0
#: At most one line of log in this time about the same kind of trouble.
LOG_SECONDS = 30.0
MAX_REFUSED = 64


def is_postgres_down(error: BaseException) -> bool:
    """Whether ``error`` is the server's trouble, which passes, rather than the caller's fault.

    asyncpg's own errors ("cannot switch to state 15", a closed connection) are the server's, as
    are those of the operating system and of the migrations.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in _SERVERS or state[:2] not in _CALLERS
    return isinstance(error, Exception) and not isinstance(error, HookstreamError)


class Postgres(Service):
    """A small pool, made (and the schema brought up to date) when first needed.

    A process can therefore start while PostgreSQL is away.
    """

    mundane_level = "debug"

    def __init__(self, dsn: str, *, size: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dsn = dsn
        self.size = size
        self.schema = DatabaseSchema(dsn)
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        #: Why row-level security does not hold tenants here; "" where it does, None where that is
        #: not known yet.
        self.unheld: str | None = None
        #: A statement found another schema than this program's: it is looked at again.
        self._doubts_schema = False
        #: When it could not be opened, and why.
        self._unopened: tuple[float, UnavailableError] | None = None
        #: Statement → kind of its last refusal, and when; gone once it succeeds.
        self._refused: dict[str, tuple[str, float]] = {}
        self._told: dict[str, float] = {}

    async def on_stop(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            self._pool.terminate()

    async def meet(self) -> None:
        """Bring the schema up to date if the server is there; go on without it if it is not.

        Raises:
            SettingsError: the database is too new for this release.
        """
        asked = tasks.awaited("Postgres.meet", self._call("fetchrow", "SELECT 1"))
        done, _ = await asyncio.wait((asked,), timeout=MEET_SECONDS)
        try:
            if not done:
                asked.add_done_callback(_heard)
                raise UnavailableError(f"PostgreSQL has not answered in {MEET_SECONDS:g} s")
            asked.result()
        except (UnavailableError, asyncpg.PostgresError) as error:
            if self.schema.too_new:
                raise SettingsError(self.schema.trouble) from error
            logger.warning("goes on without PostgreSQL: %s", error)

    @asynccontextmanager
    async def listening(
        self, channel: str, heard: Callable[[], object]
    ) -> AsyncIterator[asyncpg.Connection]:
        """A connection of one's own; ``heard`` is called for each NOTIFY on ``channel``.

        Raises:
            UnavailableError: the server is away, also when that shows only later.
        """
        with self._boundary("LISTEN"):
            connection = await self._connect()
        try:
            with self._boundary("LISTEN"):
                await connection.add_listener(channel, lambda *_: heard())
            yield connection
        finally:
            connection.terminate()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self.dsn,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            server_settings=_NAMED,
        )

    def troubles(self) -> list[str]:
        """Kinds of refusals that statements got last, for ``/health``: names and SQLSTATEs."""
        now = time.monotonic()
        kinds = {kind for kind, at in self._refused.values() if now - at < REFUSED_SECONDS}
        return sorted(kinds)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows. Raises UnavailableError while the server is away."""
        rows: list[asyncpg.Record] = await self._call("fetch", query, *args)
        return rows

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None. Raises UnavailableError while the server is away."""
        return await self._call("fetchrow", query, *args)

    async def fetchrow_in_turn(self, turn: str, query: str, *args: Any) -> asyncpg.Record | None:
        """As :meth:`fetchrow`, one after the other with all others of this ``turn``, anywhere.

        So a statement that counts before it inserts sees what those before it have inserted.
        """
        if self._pool is None or self._doubts_schema:
            await self._open()
        with self._boundary(query):
            assert self._pool is not None
            async with self._pool.acquire() as connection, connection.transaction():
                await self._act_for(connection)
                await connection.execute(_IN_TURN, turn)
                return await connection.fetchrow(query, *args)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for statements that read, all of which see the database of one moment.

        They see rows of the tenant whose call it is, as all other statements do.

        Nothing else is done meanwhile: whatever is raised is taken for the server's trouble.

        Raises:
            UnavailableError: the server is away.
        """
        if self._pool is None or self._doubts_schema:
            await self._open()
        with self._boundary("snapshot"):
            assert self._pool is not None
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await self._act_for(connection)
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for statements that are carried out together or not at all.

        Of what is raised within, the server's trouble becomes UnavailableError; the caller's fault
        and errors of ours are raised as they are. Nothing else is waited for meanwhile: locks are
        held, for ten seconds at most should this process stop.

        Raises:
            UnavailableError: the server is away; what was to be written may be, or not.
        """
        if self._pool is None or self._doubts_schema:
            await self._open()
        with self._boundary("transaction"):
            assert self._pool is not None
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(statement("bound_transaction"))
                await self._act_for(connection)
                yield connection

    async def execute(self, query: str, *args: Any) -> str:
        """The command's tag. Raises UnavailableError while the server is away."""
        tag: str = await self._call("execute", query, *args)
        return tag

    async def _open(self) -> None:
        async with self._opening:
            if self._unopened and time.monotonic() - self._unopened[0] < REOPEN_SECONDS:
                raise UnavailableError(str(self._unopened[1]))
            if self._pool is None or self._doubts_schema:
                try:
                    with self._boundary("open"):
                        await self.schema.ensure()
                        self._doubts_schema = False
                        self._pool = self._pool or await self._make_pool()
                        await self._hold_tenants(self._pool)
                except UnavailableError as error:
                    self._unopened = (time.monotonic(), error)
                    raise

    async def _make_pool(self) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self.dsn,
            min_size=0,
            max_size=self.size,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            init=_init,
            server_settings=_NAMED,
        )

    async def _call(self, method: str, query: str, *args: Any) -> Any:
        if self._pool is None or self._doubts_schema:
            await self._open()
        with self._boundary(query):
            assert self._pool is not None
            if not acting_now() and not self._tenant():
                return await getattr(self._pool, method)(query, *args)
            async with self._pool.acquire() as connection, connection.transaction():
                await self._act_for(connection)
                return await getattr(connection, method)(query, *args)

    def _tenant(self) -> str:
        """Whose rows a statement is to see now; "" for those of all, or where none can be held."""
        return "" if self.unheld else tenant_now()

    async def _act_for(self, connection: asyncpg.Connection) -> None:
        """Have a transaction be that of who acts, and of the tenant whose call it is."""
        who, tenant = acting_now(), self._tenant()
        if who or tenant:
            await connection.execute(statement("act_for"), who, tenant, ROLE)

    async def _hold_tenants(self, pool: asyncpg.Pool) -> None:
        """Make what row-level security lacks here; see whether it holds tenants."""
        before = self.unheld
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '1s'")
                self.unheld = await connection.fetchval("SELECT tenant_row_security()")
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            self.unheld = f"its tables are locked ({type(error).__name__}): it is tried again"
        except asyncpg.InsufficientPrivilegeError as error:
            self.unheld = f"this user does not own the tables: {error}"
        if self.unheld and self.unheld != before:
            logger.warning("row-level security does not hold tenants: %s", self.unheld)

    async def hold_tenants(self) -> str:
        """Look again whether row-level security holds tenants; "" where it does, else why not.

        Raises:
            UnavailableError: the server is away.
        """
        if self._pool is None or self._doubts_schema:
            await self._open()
        elif self.unheld:
            with self._boundary("hold_tenants"):
                await self._hold_tenants(self._pool)
        return self.unheld or ""

    @contextmanager
    def _boundary(self, what: str) -> Iterator[None]:
        """The one place where the server's trouble becomes UnavailableError.

        What it says is for the log; a client, and ``/health``, which anybody may read, get its
        kind only.
        """
        try:
            yield
        except Exception as error:
            if not is_postgres_down(error):
                raise
            state = getattr(error, "sqlstate", None)
            kind = f"{type(error).__name__} {state}" if state else type(error).__name__
            if state in _OTHER_SCHEMA:
                self._doubts_schema = True
            self._note(what, kind, error)
            raise UnavailableError(
                f"PostgreSQL cannot do it now ({kind}): try again shortly"
            ) from error
        else:
            if self._refused:
                self._refused.pop(what, None)

    def _note(self, what: str, kind: str, error: Exception) -> None:
        now = time.monotonic()
        if what in self._refused or len(self._refused) < MAX_REFUSED:
            self._refused[what] = (kind, now)
        if now - self._told.get(kind, -LOG_SECONDS) >= LOG_SECONDS:
            self._told[kind] = now
            logger.warning("PostgreSQL: %s: %s", kind, error)


class WholePostgres:
    """A :class:`Postgres` whose statements see the rows of all tenants, whoever's call it is."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """As :meth:`Postgres.fetch`."""
        with whole():
            return await self._postgres.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """As :meth:`Postgres.fetchrow`."""
        with whole():
            return await self._postgres.fetchrow(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        """As :meth:`Postgres.execute`."""
        with whole():
            return await self._postgres.execute(query, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """As :meth:`Postgres.transaction`."""
        with whole():
            async with self._postgres.transaction() as connection:
                yield connection


def _heard(asked: "asyncio.Future[Any]") -> None:
    """What became of it is known by the state of the schema, and by whoever asks next."""
    if not asked.cancelled():
        asked.exception()


async def _init(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda value: orjson.loads(value[1:]),
        schema="pg_catalog",
        format="binary",
    )
