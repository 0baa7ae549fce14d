"""What stages and views share: Redis, its scripts, PostgreSQL, the registry, the appender."""

from mode import Service
from mode.utils.logging import get_logger
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from hookstream.app import embedded
from hookstream.app.append import Appender
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import SettingsError
from hookstream.app.feeds import Feeds
from hookstream.app.redis_client import REDIS_DOWN, Scripts, connect
from hookstream.app.registry import RegistryCache
from hookstream.app.settings import EMBEDDED, Settings
from hookstream.app.stores.events import EventStore
from hookstream.app.stores.postgres import Postgres

__all__ = ["Parts"]

logger = get_logger(__name__)


class Parts(Service):
    """Connects when the process starts, and lets go when it stops."""

    mundane_level = "debug"

    redis: Redis
    scripts: Scripts
    postgres: Postgres
    registry: RegistryCache
    appender: Appender
    feeds: Feeds
    events: EventStore

    def __init__(self, settings: Settings, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self._servers: list[embedded.EmbeddedServer] = []

    async def on_start(self) -> None:
        """Connect to Redis and PostgreSQL, and load the registry."""
        settings = self.settings
        self.redis = connect(self._redis_url(), timeout_seconds=settings.redis_timeout_seconds)
        self.scripts = Scripts(self.redis)
        await self._load_scripts()
        self.postgres = Postgres(self._postgres_url(), loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.postgres)
        self.registry = RegistryCache(self.postgres, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.registry)
        self.appender = Appender(self.redis, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.appender)
        self.events = EventStore(self.redis, self.postgres, settings.partitions)
        self.feeds = Feeds(self.redis, self.scripts, settings, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.feeds)

    async def on_shutdown(self) -> None:
        """Close the connections to Redis, when all that uses them has stopped."""
        await self.redis.aclose()
        for server in self._servers:
            server.stop()

    async def _load_scripts(self) -> None:
        """Wait for Redis: it may start after us, or be loading its data."""
        failures = 0
        while not self.should_stop:
            try:
                return await self.scripts.load()
            except AuthenticationError as error:
                raise SettingsError(
                    f"Redis refuses the credentials in HOOKSTREAM_REDIS_URL: {error}"
                ) from error
            except REDIS_DOWN as error:
                failures += 1
                if failures == 1:
                    logger.warning("Redis does not answer (%s); waiting for it", error)
                await self.sleep(backoff_seconds(failures))
        return None

    def _redis_url(self) -> str:
        if self.settings.redis_url != EMBEDDED:
            return self.settings.redis_url
        # another process of this state folder may run it already: then this only attaches
        self._servers.append(embedded.start_valkey(self.settings.ensure_state_dir()))
        return self._servers[-1].url

    def _postgres_url(self) -> str:
        if self.settings.postgres_url != EMBEDDED:
            return self.settings.postgres_url
        self._servers.append(embedded.start_postgres(self.settings.ensure_state_dir()))
        return self._servers[-1].url
