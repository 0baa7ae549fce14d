"""What stages and views share: Redis, its scripts, PostgreSQL, the catalog, the appender."""

import asyncio
import os
import secrets
from typing import Any

import asyncpg
from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import AuthenticationError, RedisError

from hookstream.app import embedded, tasks
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import Place
from hookstream.app.backoff import backoff_seconds
from hookstream.app.bounded import BoundedPool
from hookstream.app.clock import RedisClock
from hookstream.app.deduplication.first_events import EventLog
from hookstream.app.deduplication.lookup import HistoryLookup
from hookstream.app.errors import SettingsError, UnavailableError
from hookstream.app.failures.dead_letters import DeadLetters
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.followers import Followers
from hookstream.app.feeds.losses import LossStore
from hookstream.app.feeds.resets import Resets
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.identity.sessions import Sessions
from hookstream.app.ids import entry_order
from hookstream.app.ingest.appender import Appender
from hookstream.app.ingest.backpressure import Backlog
from hookstream.app.ingest.key_fetcher import KeyFetcher
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.ingest.spool_erasure import SpoolErasure
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.keyring.error_texts import ErrorTexts
from hookstream.app.keyring.tool_secrets import ToolSecrets
from hookstream.app.lifecycle.rules import ttl_of
from hookstream.app.lifecycle.tenant_deletion import HeldBy
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, connect
from hookstream.app.redis.durability import Durability
from hookstream.app.redis.errors import redis_kind
from hookstream.app.redis.memory import MemoryWatch
from hookstream.app.redis.watch import RedisWatch
from hookstream.app.routing.catalog import Ttl
from hookstream.app.routing.condition_judge import ConditionJudge
from hookstream.app.routing.maskers import Maskers
from hookstream.app.routing.ner import START_SECONDS, Ner
from hookstream.app.routing.payload_check import PayloadCheck
from hookstream.app.schema_registry.builtin import BuiltinSchemas
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.settings import EMBEDDED, Settings
from hookstream.app.stalls import LoopWatch
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.catalog_copy import CatalogCopy
from hookstream.app.stores.condition_errors import ConditionErrors
from hookstream.app.stores.erasures import ErasureStore
from hookstream.app.stores.events import EventStore
from hookstream.app.stores.holds import HoldStore
from hookstream.app.stores.key_uses import KeyUses
from hookstream.app.stores.replays import ReplayStore
from hookstream.app.stores.retention_policies import PolicyStore
from hookstream.app.stores.secret_sealing import SecretSealing
from hookstream.app.stores.subject_keys import SubjectKeys
from hookstream.app.stores.tiers import Tiers
from hookstream.app.summaries.links import hosts
from hookstream.app.web.access import TENANT
from hookstream.codecs.json_payload import limits
from hookstream.codecs.payload import Packing

__all__ = ["Services", "check_partition_count"]

logger = get_logger(__name__)


class Services(Service):
    """Connects when the process starts, and lets go when it stops."""

    mundane_level = "debug"

    bounded: BoundedPool
    conditions: ConditionJudge
    payload_check: PayloadCheck
    maskers: Maskers
    redis: Any
    watch: RedisWatch
    memory: MemoryWatch
    durability: Durability
    scripts: Scripts
    postgres: Postgres
    trail: AuditTrail
    key_uses: KeyUses
    #: None where nobody signs in.
    sessions: Sessions | None
    archive: Archive
    schemas: SchemaStore
    tool_secrets: ToolSecrets
    data_keys: DataKeys
    #: Of what is said of failures.
    error_texts: ErrorTexts
    catalog: CatalogCache
    holds: HoldStore
    #: Which legal holds are on a tenant: asked before anything of it is deleted.
    held_by: HeldBy
    policies: PolicyStore
    erasures: ErasureStore
    sealing: SecretSealing
    dictionaries: Dictionaries
    payloads: Payloads
    appender: Appender
    refusals: Refusals
    tenant_use: TenantUse
    feeds: Feeds
    followers: Followers
    resets: Resets
    tiers: Tiers
    events: EventStore
    dead_letters: DeadLetters
    losses: LossStore
    replays: ReplayStore
    history_lookup: HistoryLookup

    def __init__(self, settings: Settings, *, receives: bool, **kwargs: object) -> None:
        """``receives``: webhooks are sent to this process."""
        super().__init__(**kwargs)
        self.settings = settings
        self._receives = receives
        #: Redis has been met: it is the one that the settings are for, and has the scripts. Before,
        #: partitions are not claimed.
        self.met = asyncio.Event()
        #: Kind of what it said when it was last tried to meet it.
        self.met_with = ""
        #: What ended this process after its start.
        self.refusal: SettingsError | None = None
        self._copy = CatalogCopy(settings.state_path / "registry.json")
        self.clock = RedisClock()
        self.stalls = LoopWatch(settings.stall_seconds)
        self._servers: list[embedded.EmbeddedServer] = []
        self.fetcher = KeyFetcher()

    async def on_start(self) -> None:
        """Connect to Redis and PostgreSQL, and load the catalog."""
        settings = self.settings
        self.bounded = BoundedPool(loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.bounded)
        self._url = self._redis_url()
        self.redis = self.connect_redis()
        self.conditions = ConditionJudge(self.bounded)
        self.payload_check = PayloadCheck(self.bounded)
        self.scripts = Scripts(self.redis)
        self.durability = Durability(self.redis, settings.durability)
        self.watch = RedisWatch(
            self.redis,
            allow_unsafe=settings.redis_allow_unsafe,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self._meet_redis()
        await self.add_runtime_dependency(self.watch)
        self.postgres = Postgres(self._postgres_url(), loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.postgres)
        await self.postgres.meet()
        self.trail = AuditTrail(self.redis, self.postgres, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.trail)
        self.key_uses = KeyUses(self.postgres, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.key_uses)
        self.sessions = None
        if settings.oidc_issuer:
            self.sessions = Sessions(
                self.redis,
                settings.oidc_session_hours * 3600,
                loop=self.loop,
                beacon=self.beacon,
            )
            await self.add_runtime_dependency(self.sessions)
        ring = settings.key_ring()
        self.data_keys = DataKeys(
            ring,
            self.postgres,
            wanted=settings.seal_payloads == "on",
            tenants=self._tenants,
            loop=self.loop,
            beacon=self.beacon,
        )
        self.error_texts = ErrorTexts(self.data_keys)
        self.archive = Archive(
            settings.archive_address,
            self.postgres,
            cache_bytes=settings.archive_cache_bytes,
            data_keys=self.data_keys,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.archive)
        self.schemas = SchemaStore(self.postgres)
        self.tool_secrets = ToolSecrets(ring, self._may_seal, opens=self._receives)
        self.catalog = CatalogCache(
            self.postgres,
            self.schemas,
            self._copy,
            self.tool_secrets,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.catalog)
        # it looks after the keys of all tenants that the catalog has
        await self.add_runtime_dependency(self.data_keys)
        await self._first_keys()
        ner = await self._ner()
        self.maskers = Maskers(lambda: self.catalog.current, settings.pseudonym_key, ner)
        self.holds = HoldStore(self.postgres)
        self.held_by = self.holds.on_tenant
        self.policies = PolicyStore(self.postgres)
        self.erasures = ErasureStore(
            self.postgres,
            SubjectKeys(self.tool_secrets.ring, settings.pseudonym_key),
            self.data_keys,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.erasures)
        self.sealing = SecretSealing(
            self.tool_secrets, self.postgres, loop=self.loop, beacon=self.beacon
        )
        if self._receives:
            await self.add_runtime_dependency(self.sealing)
        await self.add_runtime_dependency(
            BuiltinSchemas(self.schemas, TENANT, loop=self.loop, beacon=self.beacon)
        )
        self.dictionaries = Dictionaries(
            self.redis,
            self.postgres,
            self.durability,
            enabled=settings.compression == "dictionary",
            data_keys=self.data_keys,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.dictionaries)
        limits.elements = settings.max_payload_elements
        hosts.allow(settings.link_host_names)
        packing = Packing(settings.compression != "none", settings.compression_min_bytes)
        self.payloads = Payloads(self.redis, self.dictionaries, packing, self.data_keys)
        self.memory = MemoryWatch(self.redis, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.memory)
        backlog = Backlog(
            self.redis,
            settings.backlog_max_events,
            self.memory,
            loop=self.loop,
            beacon=self.beacon,
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
            receives=self._receives,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.appender)
        await self.add_runtime_dependency(
            SpoolErasure(
                self.redis,
                self.appender,
                self.payloads,
                self.erasures,
                loop=self.loop,
                beacon=self.beacon,
            )
        )
        self.refusals = Refusals(
            self.redis,
            self.scripts,
            self.catalog,
            self.data_keys,
            tenant=TENANT,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.refusals)
        self.tenant_use = TenantUse(
            self.redis,
            lambda: self.catalog.current,
            self.clock.now_ms,
            secrets.token_hex(8),
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.tenant_use)
        await self.add_runtime_dependency(
            ConditionErrors(self.conditions, self.postgres, loop=self.loop, beacon=self.beacon)
        )
        self.tiers = Tiers(self.redis, self.scripts, self.archive, data_keys=self.data_keys)
        self.events = EventStore(
            self.redis,
            self.postgres,
            settings.partitions,
            self.payloads,
            self.tiers,
            self.error_texts,
        )
        self.payloads.elsewhere = self.events.payloads_of
        self.replays = ReplayStore(
            self.postgres,
            settings.running_replays_per_context,
            lambda tenant: self.catalog.current.tenant(tenant).quotas.replays or 0,
            lambda tenant: self.tenant_use.refused(tenant, "replays"),
            self.error_texts,
        )
        self.history_lookup = HistoryLookup(
            self.redis, EventLog(self.redis, self.postgres, self.tiers, self._is_over), settings
        )
        self.dead_letters = DeadLetters(
            self.redis,
            self.scripts,
            settings.partitions,
            self.payloads,
            self.holds,
            self.error_texts,
        )
        self.feeds = Feeds(
            self.redis,
            self.scripts,
            settings,
            self.durability,
            FeedSeals(self.data_keys),
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self.feeds)
        self.resets = Resets(self.feeds, self.postgres)
        self.losses = LossStore(self.redis, self.postgres, self.feeds, settings.partitions)
        self.followers = Followers(self.feeds, loop=self.loop, beacon=self.beacon)
        await self.add_runtime_dependency(self.followers)
        # embedded servers are started, and stopped, in the loop: nobody waits for it then
        self.stalls.start()

    async def _ner(self) -> Ner | None:
        """The model for names, loaded; None where there is none. Raises SettingsError."""
        settings = self.settings
        if not settings.ner:
            return None
        pool = BoundedPool(
            children=1,
            memory_bytes=settings.ner_memory_bytes,
            start_seconds=START_SECONDS,
            threads=os.cpu_count() or 1,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(pool)
        ner = Ner(settings.ner, pool, settings.ner_seconds)
        await ner.start()
        return ner

    def _tenants(self) -> set[str]:
        """Whose content there will be."""
        catalog = self.catalog.current
        return {
            TENANT,
            *(tool.tenant for tool in catalog.tools.values()),
            *(tenant for tenant, _ in catalog.contexts),
        }

    async def _first_keys(self) -> None:
        """Have this month's data keys before the first webhook comes, if they can be had."""
        try:
            await self.data_keys.look()
        except (UnavailableError, asyncpg.PostgresError) as error:
            logger.warning("data keys are looked for later: %s", error)

    def _may_seal(self) -> bool:
        """Whether releases that know no sealed secrets are kept from this database."""
        known = self.postgres.schema.known
        return known is not None and known.has("sealed_secrets")

    def _is_over(self, place: Place) -> bool:
        """Whether an event's time is over in all tiers."""
        ttl = ttl_of(self.catalog.current, (place.tenant, place.tool_id)) or Ttl()
        return entry_order(place.entry_id)[0] + ttl.whole_ms < self.clock.now_ms()

    def connect_redis(self) -> Any:
        """One more client of the Redis that this process uses, for the event loop it is used in."""
        return connect(self._url, timeout_seconds=self.settings.redis_timeout_seconds)

    async def on_shutdown(self) -> None:
        """Close the connections to Redis, when all that uses them has stopped."""
        self.stalls.stop()
        await self.fetcher.close()
        if hasattr(self, "redis"):  # else it was stopped while it started
            await self.redis.aclose()
        for server in self._servers:
            server.stop()

    async def _meet_redis(self) -> bool:
        """See whether Redis is there and the one that the settings are for.

        It may start after us, be loading its data, or refuse for now: then this process goes on
        with what it can do, and tries again.

        Raises:
            SettingsError: a setting is wrong, here or there; trying again does not help.
        """
        try:
            await self.scripts.load()
            await self.durability.check()
            # one that runs already goes on with a server that has become unsafe: /health says so
            await (self.watch.look() if self.met_with else self.watch.check())
            await check_partition_count(self.redis, self.settings.partitions)
        except AuthenticationError as error:
            # where everything once went well it is the server's trouble, such as a password that
            # is being changed: webhooks are kept meanwhile
            if not self._copy.path.exists():
                raise SettingsError(
                    f"Redis refuses the credentials in HOOKSTREAM_REDIS_URL: {error}"
                ) from error
            self._not_met(error)
        except REDIS_ERRORS as error:
            self._not_met(error)
        else:
            self.met_with = ""
            self.met.set()
        return self.met.is_set()

    def _not_met(self, error: RedisError) -> None:
        kind = redis_kind(error)
        if kind != self.met_with:
            logger.warning("Redis cannot be used yet (%s: %s); trying on", kind, error)
        self.met_with = kind

    @tasks.loop
    async def _meet_later(self) -> None:
        failures = 0
        while not self.should_stop and not self.met.is_set():
            failures += 1
            await self.sleep(backoff_seconds(failures))
            try:
                await self._meet_redis()
            except SettingsError as error:
                self.refusal = error
                await self.crash(error)
                return

    def _redis_url(self) -> str:
        if self.settings.redis_url != EMBEDDED:
            return self.settings.redis_url
        # another process of this state folder may run it already: then this only attaches
        settings = self.settings
        self._servers.append(
            embedded.start_valkey(
                settings.ensure_state_dir(), max_bytes=settings.embedded_redis_max_bytes
            )
        )
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
        RedisError: there is none that can be read, such as while a server loses its data.
    """
    await redis.hsetnx(keys.META, "partitions", str(wanted))
    said = await redis.hget(keys.META, "partitions")
    try:
        stored = int(said or b"")
    except ValueError as error:
        raise RedisError(
            f"the number of partitions in {keys.META} cannot be read: {said!r}"
        ) from error
    if stored != wanted:
        raise SettingsError(
            f"this installation has {stored} partitions and HOOKSTREAM_PARTITIONS says {wanted}: "
            f"set it to {stored}, or start on an empty Redis"
        )
