"""The PostgreSQL connection pool."""

import asyncio
from typing import Any

import asyncpg
import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import SettingsError, UnavailableError
from hookstream.app.migrations.run import APPLICATION_NAME, DatabaseSchema

__all__ = ["POSTGRES_DOWN", "Postgres"]

logger = get_logger(__name__)

#: What asyncpg raises when the server cannot be reached, is starting or is shutting down.
POSTGRES_DOWN = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)

TIMEOUT_SECONDS = 10.0
#: How long a start waits for the schema: a receiver has to listen.
MEET_SECONDS = 3.0
_NAMED = {"application_name": APPLICATION_NAME}


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

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own, for LISTEN."""
        return await asyncpg.connect(self.dsn, timeout=TIMEOUT_SECONDS, server_settings=_NAMED)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows. Raises UnavailableError while the server is away."""
        rows: list[asyncpg.Record] = await self._call("fetch", query, *args)
        return rows

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None. Raises UnavailableError while the server is away."""
        return await self._call("fetchrow", query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        """The command's tag. Raises UnavailableError while the server is away."""
        tag: str = await self._call("execute", query, *args)
        return tag

    async def _open(self) -> None:
        async with self._opening:
            if self._pool is None:
                await self.schema.ensure()
                self._pool = await asyncpg.create_pool(
                    self.dsn,
                    min_size=0,
                    max_size=self.size,
                    timeout=TIMEOUT_SECONDS,
                    command_timeout=TIMEOUT_SECONDS,
                    init=_init,
                    server_settings=_NAMED,
                )

    async def _call(self, method: str, query: str, *args: Any) -> Any:
        try:
            if self._pool is None:
                await self._open()
            return await getattr(self._pool, method)(query, *args)
        except POSTGRES_DOWN as error:
            raise UnavailableError(
                f"PostgreSQL does not answer ({type(error).__name__}): try again shortly"
            ) from error


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
