"""What a worker runs beside its stages: who owns partitions, and what is done in them."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app.bounded import Aside, BoundedPool
from hookstream.app.consumers import ChannelCommits
from hookstream.app.deduplication.state import opens_dedup
from hookstream.app.deduplication.upkeep import DedupUpkeep
from hookstream.app.erasure.job import Erasures
from hookstream.app.erasure.memory import Memory
from hookstream.app.failures.alerts import Alerts
from hookstream.app.failures.blocking import tripped
from hookstream.app.failures.expiry import DeadLetterExpiry
from hookstream.app.failures.hand_overs import opens_paths
from hookstream.app.failures.released import ReleasedEntries
from hookstream.app.failures.retry_scheduler import RetryScheduler
from hookstream.app.failures.state import opens_failures
from hookstream.app.feeds.daily import DailySummaries
from hookstream.app.feeds.deletion import ContextDeletion
from hookstream.app.feeds.delivery import Delivery
from hookstream.app.feeds.digest_flusher import DigestFlusher
from hookstream.app.feeds.marks import Marks
from hookstream.app.feeds.rendering import Renderer
from hookstream.app.feeds.state import opens_feeds, rated_contexts
from hookstream.app.feeds.trimming import FeedTrimming
from hookstream.app.feeds.upkeep import RateUpkeep
from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.ingest.replayer import Replayer
from hookstream.app.kafka.mirror import MirroredEvents, MirroredUpdates, Mirrors
from hookstream.app.kafka.outbox import EVENTS, UPDATES
from hookstream.app.lifecycle.cold import ColdMover
from hookstream.app.lifecycle.policies import PolicyMover
from hookstream.app.lifecycle.service import Lifecycle
from hookstream.app.lifecycle.tenant_deletion import TenantDeletion
from hookstream.app.lifecycle.warm import WarmMover
from hookstream.app.payloads.trainer import Trainer
from hookstream.app.queues.states import QueueState
from hookstream.app.routing.catalog import Catalog
from hookstream.app.schema_registry.builtin import builtin_id
from hookstream.app.services import Services
from hookstream.app.settings import Settings
from hookstream.app.sqs.forwarder import SqsForwarder
from hookstream.app.stage_tables.state import opens_tables
from hookstream.app.stages import Lifespans
from hookstream.app.stores.audit_watch import AuditWatch
from hookstream.app.stores.log_expiry import LogExpiry
from hookstream.app.stores.recorder import Recorder
from hookstream.app.streams.assignment import PartitionAssignment
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.channel import RedisStreamChannel
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.readable import make_readable
from hookstream.app.streams.scheduler import Scheduler
from hookstream.app.streams.standby import LeaseStandby
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.web.worker import Worker
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Routed

__all__ = ["WorkerServices"]

logger = get_logger(__name__)

#: Address space of the process that packs: an object of 16 blocks is in it several times, and Arrow
#: reserves more than it uses.
PACKING_BYTES = 4 << 30
#: By how much all else goes before it.
PACKING_NICE = 5

#: A catalog that was confirmed so long ago is that of now.
CURRENT_SECONDS = 10.0
#: In the order of their start.
WORKER_SERVICES = (
    "lifespans",
    "marks",
    "assignment",
    "dedup_upkeep",
    "rate_upkeep",
    "context_deletion",
    "packing",
    "lifecycle",
    "tenant_deletion",
    "erasures",
    "feed_trimming",
    "dead_letter_expiry",
    "log_expiry",
    "retry_scheduler",
    "digest_flusher",
    "replayer",
    "forwarder",
    "mirrors",
    "alerts",
    "trainer",
)


class WorkerServices(Service):
    """Each is made when it is first asked for, and started once Redis and PostgreSQL are there.

    They stop the other way round: partitions are given back before what remembers them ends.
    """

    mundane_level = "debug"

    def __init__(
        self,
        settings: Settings,
        services: Services,
        *,
        channels: Mapping[str, RedisStreamChannel],
        has_tables: Callable[[], bool],
        topics: Callable[[], Sequence[QueueState]] = tuple,
        lifespans: Sequence[Callable[[], AsyncGenerator[None, None]]],
        begin: Callable[[], None],
        stopping: Callable[[], bool],
        **kwargs: Any,
    ) -> None:
        """``channels`` by name: what is read. ``has_tables``: whether stages have declared some.

        ``topics``: how those do that agents take from. ``lifespans`` are run around all of it.
        ``begin`` lets agents take what comes.
        ``stopping``: whether the process has been told to stop.
        """
        super().__init__(**kwargs)
        self._settings = settings
        self._services = services
        self._channels = channels
        self._has_tables = has_tables
        self._topics = topics
        self._lifespans = lifespans
        self._begin = begin
        self._stopping = stopping

    async def on_start(self) -> None:
        """Make and start them one by one: the trainer needs the name that ownership found."""
        self._begin()
        for name in WORKER_SERVICES:
            if self._stopping():
                # stopped while it starts: what they need is closed, or will be
                return
            await self.add_runtime_dependency(getattr(self, name))

    def seen(self) -> Worker:
        """This worker, as far as health and metrics ask it how it does."""
        return Worker(
            self.assignment,
            lambda: tripped(self._owned().values()),
            self.alerts,
            self.model,
            self.forwarder.states,
            lambda: [*self.mirrors.states(), *self._topics()],
        )

    def _owned(self) -> Mapping[int, Partition]:
        return self.assignment.owned

    def _catalog(self) -> Catalog:
        return self._services.catalog.current

    def _lacks(self) -> str:
        """Without what it could do nothing with events; "" where all is there."""
        if self._services.catalog.loaded:
            return ""
        troubles = (
            ", ".join(self._services.postgres.troubles()) or "PostgreSQL has not answered yet"
        )
        return f"tools and subscriptions are not known: {troubles}"

    @cached_property
    def lifespans(self) -> Lifespans:
        """What stages need while a worker runs."""
        return Lifespans(self._lifespans, loop=self.loop, beacon=self.beacon)

    @cached_property
    def assignment(self) -> PartitionAssignment:
        """The leases of this worker, and what each room keeps of its partitions."""
        services, settings = self._services, self._settings
        rated = rated_contexts(self._catalog, settings.partitions)
        return PartitionAssignment(
            services.redis,
            services.scripts,
            settings,
            services.clock,
            services.payloads,
            met=services.met,
            channels=self._channels_to_read(),
            openers=(
                opens_dedup(services.redis, settings.state_path / "tables"),
                opens_tables(services.redis, settings.state_path / "tables", self._has_tables),
                opens_failures(services.redis, settings),
                opens_paths(services.redis),
                opens_feeds(
                    services.redis, services.scripts, settle=self.marks.settle, rated=rated
                ),
            ),
            released=ReleasedEntries(services.redis, services.scripts),
            commit=self.channel_commits,
            revoke=self.marks.leave,
            lacks=self._lacks,
            catalog_version=lambda: (self._catalog().version, self._catalog().token),
            standby=LeaseStandby(
                services.connect_redis,
                services.stalls,
                lease_seconds=settings.lease_ttl_seconds,
                most_seconds=settings.stall_lease_seconds,
            ),
            is_urgent=self._is_urgent,
            loop=self.loop,
            beacon=self.beacon,
        )

    def _is_urgent(self, entry: Entry) -> bool:
        """Whether somebody wants an entry's event, or one of its updates, as critical."""
        match entry.value:
            case Event() as event:
                return event.tool_id in self._catalog().urgent_tools
            case Routed() as routed:
                return any(target.priority == "critical" for target in routed.targets)
        return False

    def _channels_to_read(self) -> list[RedisStreamChannel]:
        """All but those of stages of one's own that nobody takes anything from."""
        read = []
        for channel in self._channels.values():
            if channel.own and not channel.consumer:
                logger.warning(
                    "nothing takes from the stream channel %r: what is sent there stays",
                    channel.name,
                )
            else:
                read.append(channel)
        return read

    @cached_property
    def channel_commits(self) -> ChannelCommits:
        """Commits batches of stream channels of one's own."""
        services = self._services
        return ChannelCommits(services.scripts, self._settings, services.clock.now_ms)

    @cached_property
    def marks(self) -> Marks:
        """What is remembered of partitions outside Redis."""
        services = self._services
        return Marks(
            services.redis,
            services.scripts,
            services.durability,
            services.postgres,
            services.catalog,
            self._settings,
            now_ms=services.clock.now_ms,
            owned=self._owned,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def dedup_upkeep(self) -> DedupUpkeep:
        """Deletes what ends in dedup's tables."""
        services = self._services
        return DedupUpkeep(services.redis, services.history_lookup, **self._in_partitions())

    @cached_property
    def rate_upkeep(self) -> RateUpkeep:
        """Trims what rates do not look back to any more."""
        return RateUpkeep(self._services.redis, **self._in_partitions())

    @cached_property
    def feed_trimming(self) -> FeedTrimming:
        """Lets go what feeds keep no longer."""
        services = self._services
        return FeedTrimming(
            services.redis,
            services.scripts,
            self._settings,
            holds=services.holds,
            **self._in_partitions(),
        )

    @cached_property
    def dead_letter_expiry(self) -> DeadLetterExpiry:
        """Throws dead letters away whose time is over."""
        services = self._services
        return DeadLetterExpiry(
            services.redis,
            services.scripts,
            self._settings,
            now_ms=services.clock.now_ms,
            owned=self._owned,
            holds=services.holds,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def log_expiry(self) -> LogExpiry:
        """Deletes what PostgreSQL keeps no longer."""
        services = self._services
        return LogExpiry(
            services.postgres,
            self._settings,
            catalog=self._catalog,
            now_ms=services.clock.now_ms,
            # one at a time does so
            mine=lambda: 0 in self._owned(),
            watch=AuditWatch(services.trail, self._settings.state_path / "audit-heads.json"),
            holds=services.holds,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def context_deletion(self) -> ContextDeletion:
        """Deletes the feeds of contexts that were deleted."""
        services = self._services
        return ContextDeletion(
            services.redis,
            services.scripts,
            services.postgres,
            self._settings.partitions,
            catalog=self._catalog,
            reload=services.catalog.refresh,
            owned=self._owned,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def tenant_deletion(self) -> TenantDeletion:
        """Deletes what there is of tenants that are deleted."""
        services = self._services
        return TenantDeletion(
            services.redis,
            services.scripts,
            services.postgres,
            services.archive,
            dead_letters=services.dead_letters,
            refusals=services.refusals,
            dictionaries=services.dictionaries,
            use=services.tenant_use,
            partitions=self._settings.partitions,
            catalog=self._catalog,
            held_by=services.held_by,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def packing(self) -> BoundedPool:
        """The process that packs blocks and makes objects of them: stages go before it."""
        return BoundedPool(
            children=1,
            memory_bytes=PACKING_BYTES,
            nice=PACKING_NICE,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """Moves events from tier to tier."""
        services = self._services
        now_ms = services.clock.now_ms
        aside = Aside(self.packing)
        warm = WarmMover(
            services.redis,
            services.scripts,
            services.payloads,
            settled=services.events.settled_entries,
            catalog=self._catalog,
            now_ms=now_ms,
            aside=aside,
        )
        cold = ColdMover(
            services.redis,
            services.scripts,
            services.archive,
            catalog=self._catalog,
            now_ms=now_ms,
            aside=aside,
        )
        return Lifecycle(
            services.redis,
            warm,
            cold,
            services.memory,
            worker=lambda: self.assignment.worker_id,
            partitions=self._settings.partitions,
            aside=aside,
            holds=services.holds,
            policies=PolicyMover(
                services.redis,
                services.scripts,
                services.archive,
                services.payloads,
                services.policies,
                now_ms=now_ms,
            ),
            **self._in_partitions(),
        )

    @cached_property
    def erasures(self) -> Erasures:
        """Carries erasures out."""
        services = self._services
        memory = Memory(
            services.redis, services.erasures, services.archive, self._settings.state_path
        )
        return Erasures(
            services.redis,
            services.scripts,
            services.postgres,
            services.archive,
            services.payloads,
            services.erasures,
            services.holds,
            self.lifecycle,
            memory,
            partitions=self._settings.partitions,
            owned=self._owned,
            loop=self.loop,
            beacon=self.beacon,
        )

    def _in_partitions(self) -> dict[str, Any]:
        """What services get that work in this worker's partitions."""
        return {
            "catalog": self._catalog,
            "now_ms": self._services.clock.now_ms,
            "owned": self._owned,
            "loop": self.loop,
            "beacon": self.beacon,
        }

    @cached_property
    def retry_scheduler(self) -> RetryScheduler:
        """Puts back what waited for its next attempt."""
        services = self._services
        return RetryScheduler(
            services.redis,
            services.scripts,
            self._settings,
            resume=self.assignment.resume,
            **self._in_partitions(),
        )

    @cached_property
    def scheduler(self) -> Scheduler:
        """Who works on the event loop next, where work is long."""
        return Scheduler(
            urgent=lambda: bool(self._catalog().urgent_tools),
            several=lambda: self._catalog().has_others,
        )

    @cached_property
    def renderer(self) -> Renderer:
        """Makes updates of events."""
        services = self._services
        return Renderer(
            self._catalog, self.model, services.maskers.for_models, services.feeds.seals
        )

    @cached_property
    def delivery(self) -> Delivery:
        """Delivers into the feeds of this worker's partitions."""
        services = self._services
        return Delivery(
            services.redis,
            services.scripts,
            self._settings,
            self.scheduler,
            catalog=self._catalog,
            now_ms=services.clock.now_ms,
            renderer=self.renderer,
            reload=services.catalog.refresh,
            seals=services.feeds.seals,
            errors=services.error_texts,
            make_readable=partial(make_readable, services.payloads),
        )

    @cached_property
    def recorder(self) -> Recorder:
        """Writes the event log, of all of this worker's partitions."""
        return Recorder(self._services.redis, self._services.postgres)

    @cached_property
    def digest_flusher(self) -> DigestFlusher:
        """Folds what contexts' rates hold up."""
        return DigestFlusher(self.delivery, **self._in_partitions())

    @cached_property
    def dailies(self) -> DailySummaries:
        """Tells contexts of their day."""
        services = self._services
        return DailySummaries(
            services.redis,
            services.feeds,
            self.delivery,
            partitions=self._settings.partitions,
            catalog=self._catalog,
            now_ms=services.clock.now_ms,
            owned=self._owned,
        )

    @cached_property
    def replayer(self) -> Replayer:
        """Sends replays."""
        services = self._services
        return Replayer(
            services.durability,
            services.scripts,
            services.replays,
            services.events,
            catalog=self._catalog,
            pressure=lambda: services.memory.pressure,
            resealed=services.payloads.resealed,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def forwarder(self) -> SqsForwarder:
        """Copies events into tools' queues."""
        services = self._services
        return SqsForwarder(
            services.redis,
            services.events,
            self._settings,
            catalog=self._catalog,
            is_current=lambda: (
                services.catalog.loaded and services.catalog.age_seconds < CURRENT_SECONDS
            ),
            owned=self._owned,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def mirrors(self) -> Mirrors:
        """Puts events and updates into topics."""
        services = self._services
        return Mirrors(
            services.redis,
            self._settings,
            sources={
                EVENTS: MirroredEvents(services.events, self._catalog),
                UPDATES: MirroredUpdates(services.feeds.at),
            },
            owned=self._owned,
            schema_id=partial(builtin_id, services.schemas, DEFAULT_TENANT),
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def alerts(self) -> Alerts:
        """Tells of tools whose events fail again and again."""
        services = self._services
        return Alerts(
            services.redis,
            services.scripts,
            self._settings,
            catalog=self._catalog,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def model(self) -> ModelSummariser | None:
        """The model that summarises events; None where none is set."""
        if not self._settings.summariser_url:
            return None
        return ModelSummariser(self._settings, loop=self.loop, beacon=self.beacon)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains dictionaries."""
        services = self._services
        return Trainer(
            services.redis,
            services.postgres,
            services.payloads,
            services.dictionaries,
            self._settings,
            worker_id=self.assignment.worker_id,
            catalog=self._catalog,
            samples=partial(services.events.samples, shown=services.maskers.for_agents),
            data_keys=services.data_keys,
            loop=self.loop,
            beacon=self.beacon,
        )
