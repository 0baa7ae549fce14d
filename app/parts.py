"""What stages and views share: Redis, its scripts, PostgreSQL, the registry, the appender."""

from typing import Any

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import AuthenticationError

from hookstream.app import embedded, keys
from hookstream.app.append import Appender
from hookstream.app.backlog import Backlog
from hookstream.app.backoff import backoff_seconds
from hookstream.app.clock import RedisClock
from hookstream.app.dictionaries import Dictionaries
from hookstream.app.durable import Durability
from hookstream.app.errors import SettingsError
from hookstream.app.feeds import Feeds
from hookstream.app.followers import Followers
from hookstream.app.lookback import LookBack
from hookstream.app.payloads import Payloads
from hookstream.app.redis_client import REDIS_DOWN, Scripts, connect
from hookstream.app.registry import RegistryCache
from hookstream.app.resets import Resets
from hookstream.app.settings import EMBEDDED, Settings
from hookstream.app.stores.builtin_schemas import BuiltinSchemas
from hookstream.app.stores.events import EventStore
from hookstream.app.stores.letters import LetterStore
from hookstream.app.stores.losses import LossStore
from hookstream.app.stores.postgres import Postgres
from hookstream.app.stores.records import RecordStore
from hookstream.app.stores.replays import ReplayStore
from hookstream.app.stores.schemas import SchemaStore
from hookstream.app.web.access import TENANT
from hookstream.codecs.payload import Packing

__all__ = ["Parts", "check_partition_count"]

logger = get_logger(__name__)


class Parts(Service):
    """Connects when the process starts, and lets go when it stops."""

    mundane_level = "debug"

    redis: Any
    durability: Durability
    scripts: Scripts
    postgres: Postgres
    schemas: SchemaStore
    registry: RegistryCache
    dictionaries: Dictionaries
    payloads: Payloads
    appender: Appender
    feeds: Feeds
    followers: Followers
    resets: Resets
    events: EventStore
    letters: LetterStore
    losses: LossStore
    replays: ReplayStore
    lookback: LookBack

    def __init__(self, settings: Settings, *, needs_redis: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._needs_redis = needs_redis
        self.settings = settings
        self.clock = RedisClock()
        self._servers: list[embedded.EmbeddedServer] = []

    async def on_start(self) -> None:
        """Connect to Redis and PostgreSQL, and load the registry."""
        settings = self.settings
        self.redis = connect(self._redis_url(), timeout_seconds=settings.redis_timeout_seconds)
        self.scripts = Scripts(self.redis)
        self.durability = Durability(self.redis, settings.durability)
        await self._meet_redis()
        self.postgres = Postgres(self._postgres_url(), loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.postgres)
        self.schemas = SchemaStore(self.postgres)
        self.registry = RegistryCache(
            self.postgres, self.schemas, loop=self.loop, beacon=self.beacon
        )
        await self.add_runtime_dependency(self.registry)
        await self.add_runtime_dependency(
            BuiltinSchemas(self.schemas, TENANT, loop=self.loop, beacon=self.beacon)
        )
        self.dictionaries = Dictionaries(
            self.redis,
            self.postgres,
            self.durability,
            enabled=settings.compression == "dictionary",
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.dictionaries)
        packing = Packing(settings.compression != "none", settings.compression_min_bytes)
        self.payloads = Payloads(self.redis, self.dictionaries, packing)
        backlog = Backlog(
            self.redis, settings.backlog_max_events, loop=self.loop, beacon=self.beacon
        )
        await self.add_runtime_dependency(backlog)
        self.appender = Appender(
            self.redis,
            self.durability,
            self.scripts,
            settings.state_path / "spool",
            settings.spool_max_bytes,
            claim_check_bytes=settings.claim_check_bytes,
            backlog=backlog,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.appender)
        self.events = EventStore(self.redis, self.postgres, settings.partitions, self.payloads)
        self.replays = ReplayStore(self.postgres)
        self.lookback = LookBack(self.redis, RecordStore(self.redis, self.postgres), settings)
        self.letters = LetterStore(self.redis, self.scripts, settings.partitions, self.payloads)
        self.feeds = Feeds(
            self.redis,
            self.scripts,
            settings,
            self.durability,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.feeds)
        self.resets = Resets(self.feeds, self.postgres)
        self.losses = LossStore(self.redis, self.postgres, self.feeds, settings.partitions)
        self.followers = Followers(self.feeds, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.followers)

    async def on_shutdown(self) -> None:
        """Close the connections to Redis, when all that uses them has stopped."""
        await self.redis.aclose()
        for server in self._servers:
            server.stop()

    async def _meet_redis(self) -> None:
        """Wait for Redis: it may start after us, or be loading its data.

        A receiver does not: it has its spool.
        """
        failures = 0
        while not self.should_stop:
            try:
                await self.scripts.load()
                await self.durability.check()
                return await check_partition_count(self.redis, self.settings.partitions)
            except AuthenticationError as error:
                raise SettingsError(
                    f"Redis refuses the credentials in HOOKSTREAM_REDIS_URL: {error}"
                ) from error
            except REDIS_DOWN as error:
                failures += 1
                if failures == 1:
                    logger.warning("Redis does not answer (%s); waiting for it", error)
                if not self._needs_redis:
                    return None
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


async def check_partition_count(redis: Any, wanted: int) -> None:
    """Store the partition count at first start; refuse another one afterwards.

    Raises:
        SettingsError: the stored count differs.
    """
    await redis.hsetnx(keys.META, "partitions", str(wanted))
    stored = int(await redis.hget(keys.META, "partitions") or 0)
    if stored != wanted:
        raise SettingsError(
            f"this installation has {stored} partitions and HOOKSTREAM_PARTITIONS says {wanted}: "
            f"set it to {stored}, or start on an empty Redis"
        )
