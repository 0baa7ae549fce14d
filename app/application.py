"""The Faust application: no Kafka, Redis Streams channels, stages over batches."""

import asyncio
import gc
import inspect
import math
import re
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NoReturn

import faust
from aiohttp import web
from faust.app.base import BootStrategy
from faust.web import View
from mode import Service, ServiceT
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.consumers import ChannelCommits, each_event, looks_on
from hookstream.app.deduplication.state import opens_dedup
from hookstream.app.deduplication.upkeep import DedupUpkeep
from hookstream.app.discovery import agent_modules, discover
from hookstream.app.endpoints import Endpoints
from hookstream.app.errors import HookstreamError, SettingsError, TableUseError
from hookstream.app.failures.alerts import Alerts
from hookstream.app.failures.blocking import tripped
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
from hookstream.app.feeds.upkeep import RateUpkeep
from hookstream.app.ids import partition_of
from hookstream.app.ingest.replayer import Replayer
from hookstream.app.logs import QuietLogger, logging_config
from hookstream.app.payloads.trainer import Trainer
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.services import Services
from hookstream.app.settings import Settings
from hookstream.app.stage_tables.state import opens_tables
from hookstream.app.stage_tables.table import StageTables, Table, World
from hookstream.app.stages import (
    EventStage,
    EventStageRunner,
    Lifespans,
    StageNames,
    check_event_stage,
    place_of,
)
from hookstream.app.streams.assignment import PartitionAssignment
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.channel import BatchChannel, RedisStreamChannel
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.scheduler import Scheduler
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.summaries.tokens import load_tokenizer
from hookstream.app.unsupported import (
    OF_THE_APP,
    SIGNALS,
    RefusedSignal,
    StagesAgent,
    StagesStream,
    Unsupported,
    refuse,
)
from hookstream.app.web.pages import Page, Pages
from hookstream.app.web.server import HookstreamWeb
from hookstream.app.web.worker import Worker
from hookstream.tables.dedup import DedupTable
from hookstream.tables.rates import RateTable

__all__ = ["Hookstream"]

logger = get_logger(__name__)

BatchStage = Callable[[Batch], Awaitable[None] | None]
#: Batches of different partitions that one stage may have in flight at a time.
CONCURRENCY = 64
#: What a stream channel may be called, beside what :data:`keys.RESERVED` keeps, and what stands
#: beside channels in `/health`.
CHANNEL_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
TAKEN_IN_HEALTH = frozenset(("do", "late", "status"))
#: In the order of their start.
WORKER_SERVICES = (
    "lifespans",
    "marks",
    "assignment",
    "dedup_upkeep",
    "rate_upkeep",
    "context_deletion",
    "retry_scheduler",
    "digest_flusher",
    "replayer",
    "alerts",
    "trainer",
)


class HookstreamWorker(faust.Worker):
    """Faust's worker without its spinner, which would set the log level and write into the log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spinner = None
        self._refusal: HookstreamError | None = None

    async def start(self) -> None:
        """Start; what this process says it cannot start with ends it without a traceback."""
        try:
            await super().start()
        except HookstreamError as error:
            self._refusal = error
            # what Faust takes for an end that was asked for
            raise asyncio.CancelledError from error

    def execute_from_commandline(self) -> NoReturn:
        """Run until the end; a start that was refused is a message and an exit status."""
        try:
            raise super().execute_from_commandline()
        except SystemExit:
            refusal = self._refusal or self.app.services.refusal
            if refusal is None:
                raise
            sys.stderr.write(f"hookstream: {refusal}\n")
            raise SystemExit(refusal.exit_status) from None

    async def _sentinel_task(self) -> None:
        """What Mode runs last: by then all is stopped, and it would wait another second."""
        await asyncio.sleep(0)

    def on_setup_root_logger(self, logger: Any, level: int) -> None:
        """Levels are those of ``HOOKSTREAM_LOG_LEVEL``."""


class HookstreamBoot(BootStrategy):
    """Starts Redis, PostgreSQL and the catalog first; takes partitions last."""

    enable_kafka = False

    def server(self) -> Iterable[ServiceT]:
        """Services of a worker, in the order of their start; they stop the other way round."""
        return [
            self.app.services,
            *self.sensors(),
            *self.web_server(),
            *([self.app.model] if self.app.model else []),
            *self.agents(),
            WorkerServices(self.app, loop=self.app.loop, beacon=self.app.beacon),
        ]

    def producer_only(self) -> Iterable[ServiceT]:
        """Services of a process that only serves HTTP."""
        return [self.app.services, *self.web_server()]


class WorkerServices(Service):
    """What a worker runs beside its stages, made and started once Redis and PostgreSQL are there.

    They stop the other way round: partitions are given back before what remembers them ends.
    """

    mundane_level = "debug"

    def __init__(self, app: "Hookstream", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._app = app

    async def on_start(self) -> None:
        """Make and start them one by one: the trainer needs the name that ownership found."""
        self._app.flow_control.resume()
        for name in WORKER_SERVICES:
            await self.add_runtime_dependency(getattr(self._app, name))


class Hookstream(Unsupported, faust.App):
    """Faust with Redis Streams for channels.

    ``@app.agent``, ``@app.timer``, ``@app.command`` and the rest are Faust's. Added are
    :meth:`stream_channel`, :meth:`batches`, :meth:`stage` and :meth:`dedup`; :meth:`Table` is ours,
    too. What has no meaning without Kafka says so: :mod:`hookstream.app.unsupported`.
    """

    mundane_level = "debug"

    BootStrategy = HookstreamBoot

    #: Set on a process that serves webhooks and health only, without the API.
    receiver_only = False

    #: When the stop began, by the event loop's clock.
    stopping_since = 0.0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stream_channels: dict[str, RedisStreamChannel] = {}
        self._stages: dict[str, list[BatchChannel]] = {}
        self._names = StageNames()
        self._pages = Pages()
        self._stage_tables = StageTables(World(self._seen, lambda: self.services.clock.now_ms()))
        self._lifespans: list[Callable[[], AsyncGenerator[None, None]]] = []
        self._outputs: dict[str, BatchChannel] = {}
        #: Modules with stages that a receiver could not import, and why.
        self.missing_modules: dict[str, str] = {}
        #: Dedup functions by name.
        self.dedup_functions: dict[str, DedupFunction] = {}
        super().__init__(
            "hookstream",
            origin="hookstream",
            autodiscover=True,
            broker="kafka://none",
            store="memory://",
            datadir=str(settings.state_path / "faust"),
            web_host=settings.web_host,
            web_bind=settings.web_host,
            # Faust would make one that has no brackets around an IPv6 address
            canonical_url=settings.api_address,
            web_port=settings.web_port,
            Worker=HookstreamWorker,
            Agent=StagesAgent,
            Stream=StagesStream,
            logging_config=logging_config(
                settings.log_level,
                settings.log_format,
                repeats_per_minute=settings.log_repeats_per_minute,
            ),
        )
        # ours are opened by who owns their partition; Faust's registry knows them by name
        for table in (DedupTable, RateTable):
            self.tables.data[table.name] = table
        for signal in SIGNALS:
            setattr(self, signal, RefusedSignal(signal))

    def discover(self, *extra: str, **_: Any) -> None:
        """Import the stages, in order: ours, ``HOOKSTREAM_AGENTS``, entry points by their name.

        A receiver needs their dedup functions only: what cannot be imported is told, and webhooks
        are taken all the same.

        Raises:
            SettingsError: one cannot be imported (Faust would leave it out), has a name that is
                taken, or is behind a stage that is not there.
        """
        modules = [*agent_modules(self.settings.agents), *extra]
        if self.producer_only:
            discover(modules, failed=self._not_imported)
            return
        discover(modules)
        self._names.check_places(self._outputs)

    def _not_imported(self, module: str, error: SettingsError) -> None:
        self.missing_modules[module] = str(error)
        logger.error("%s; webhooks are taken without it, dedup functions in it are missing", error)

    async def on_started(self) -> None:
        """Leave what was loaded by now out of garbage collection.

        A full collection walks everything that lives: 120 ms a time for the modules alone, in
        which no update goes out (``bench/priority.py``).
        """
        await super().on_started()
        gc.collect()
        gc.freeze()

    async def on_started_init_extra_tasks(self) -> None:
        """Begin ``@app.task``, ``@app.timer`` and the like; what raises is begun again.

        Faust would end the process. They are a worker's: a receiver takes webhooks, whatever its
        stages do.
        """
        if self.producer_only:
            return
        for task in self._app_tasks:
            tasks.spawn_loop(f"{task.__module__}.{task.__name__}", task, self)

    def is_leader(self) -> bool:
        """Whether this is the one worker that ``on_leader`` means: the owner of partition 0."""
        return not self.producer_only and 0 in self.owned()

    async def on_stop(self) -> None:
        """Note when the end began: from now on ``/health/ready`` says 503."""
        self.stopping_since = asyncio.get_running_loop().time()
        await super().on_stop()

    async def on_first_start(self) -> None:
        """Make the state folder, Faust makes its own below it; load what is slow to load."""
        tasks.hear_loop()
        self.settings.ensure_state_dir()
        if not self.producer_only:
            await asyncio.to_thread(load_tokenizer)
        await super().on_first_start()

    def _new_web(self) -> HookstreamWeb:
        return HookstreamWeb(
            self,
            settings=self.settings,
            add_endpoints=self._add_endpoints,
            stopping_since=lambda: self.stopping_since,
        )

    def _add_endpoints(self, web_app: web.Application) -> None:
        worker = None
        if not self.producer_only:
            worker = Worker(
                self.assignment, lambda: tripped(self.owned().values()), self.alerts, self.model
            )
        endpoints = Endpoints(
            self.services,
            process=self,
            worker=worker,
            functions=self.dedup_functions,
            admin_key=lambda: self.admin_key,
            missing_modules=self.missing_modules,
            own_channels=lambda: [c.name for c in self.stream_channels.values() if c.own],
        )
        endpoints.add_receiver(web_app)
        if not self.receiver_only:
            endpoints.add_api(web_app)
            # the worker of `hookstream up` serves it too, on a port that is not the one to name
            if self.conf.web_port == self.settings.web_port:
                try:
                    self.settings.note_address()
                except SettingsError as error:
                    # a full disk, say: nobody but commands on this machine misses it
                    logger.warning("commands here will not find this process: %s", error)
        endpoints.add_pages(self._pages, self.web)

    @cached_property
    def services(self) -> Services:
        """Redis, PostgreSQL, the catalog and what else stages and views share."""
        return Services(
            self.settings, receives=self.producer_only, loop=self.loop, beacon=self.beacon
        )

    @cached_property
    def assignment(self) -> PartitionAssignment:
        """The leases of this worker, and what each room keeps of its partitions."""
        services, settings = self.services, self.settings
        rated = rated_contexts(self.catalog, settings.partitions)
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
                opens_tables(
                    services.redis,
                    settings.state_path / "tables",
                    lambda: bool(self._stage_tables.declared),
                ),
                opens_failures(services.redis, settings),
                opens_feeds(
                    services.redis, services.scripts, settle=self.marks.settle, rated=rated
                ),
            ),
            released=ReleasedEntries(services.redis, services.scripts),
            commit=self.channel_commits,
            revoke=self.marks.leave,
            loop=self.loop,
            beacon=self.beacon,
        )

    def _channels_to_read(self) -> list[RedisStreamChannel]:
        """All but those of stages of one's own that nobody takes anything from."""
        read = []
        for channel in self.stream_channels.values():
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
        services = self.services
        return ChannelCommits(services.scripts, self.settings, services.clock.now_ms)

    def owned(self) -> dict[int, Partition]:
        """This worker's partitions now."""
        return self.assignment.owned

    def _seen(self) -> dict[int, Partition]:
        """Whose tables may be read here."""
        if self.producer_only:
            raise TableUseError(
                "this process receives webhooks: tables are where partitions are, in workers"
            )
        return self.owned()

    def catalog(self) -> Catalog:
        """Tools, contexts and subscriptions as this process knows them now."""
        return self.services.catalog.current

    @cached_property
    def marks(self) -> Marks:
        """What is remembered of partitions outside Redis."""
        services = self.services
        return Marks(
            services.redis,
            services.scripts,
            services.durability,
            services.postgres,
            services.catalog,
            self.settings,
            now_ms=services.clock.now_ms,
            owned=self.owned,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def dedup_upkeep(self) -> DedupUpkeep:
        """Deletes what ends in dedup's tables."""
        services = self.services
        return DedupUpkeep(services.redis, services.history_lookup, **self._in_partitions())

    @cached_property
    def rate_upkeep(self) -> RateUpkeep:
        """Trims what rates do not look back to any more."""
        return RateUpkeep(self.services.redis, **self._in_partitions())

    @cached_property
    def context_deletion(self) -> ContextDeletion:
        """Deletes the feeds of contexts that were deleted."""
        services = self.services
        return ContextDeletion(
            services.redis,
            services.scripts,
            services.postgres,
            self.settings.partitions,
            catalog=self.catalog,
            reload=services.catalog.refresh,
            owned=self.owned,
            loop=self.loop,
            beacon=self.beacon,
        )

    def _in_partitions(self) -> dict[str, Any]:
        """What services get that work in this worker's partitions."""
        return {
            "catalog": self.catalog,
            "now_ms": self.services.clock.now_ms,
            "owned": self.owned,
            "loop": self.loop,
            "beacon": self.beacon,
        }

    @cached_property
    def retry_scheduler(self) -> RetryScheduler:
        """Puts back what waited for its next attempt."""
        services = self.services
        return RetryScheduler(
            services.redis,
            services.scripts,
            self.settings,
            resume=self.assignment.resume,
            **self._in_partitions(),
        )

    @cached_property
    def scheduler(self) -> Scheduler:
        """Who works on the event loop next, where work is long."""
        return Scheduler()

    @cached_property
    def delivery(self) -> Delivery:
        """Delivers into the feeds of this worker's partitions."""
        services = self.services
        return Delivery(
            services.redis,
            services.scripts,
            self.settings,
            self.scheduler,
            catalog=self.catalog,
            now_ms=services.clock.now_ms,
            renderer=Renderer(self.catalog, self.model),
            reload=services.catalog.refresh,
        )

    @cached_property
    def digest_flusher(self) -> DigestFlusher:
        """Folds what contexts' rates hold up."""
        return DigestFlusher(self.delivery, **self._in_partitions())

    @cached_property
    def dailies(self) -> DailySummaries:
        """Tells contexts of their day."""
        services = self.services
        return DailySummaries(
            services.redis,
            services.feeds,
            self.delivery,
            partitions=self.settings.partitions,
            catalog=self.catalog,
            now_ms=services.clock.now_ms,
            owned=self.owned,
        )

    @cached_property
    def replayer(self) -> Replayer:
        """Sends replays."""
        services = self.services
        return Replayer(
            services.durability,
            services.scripts,
            services.replays,
            services.events,
            catalog=self.catalog,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def alerts(self) -> Alerts:
        """Tells of tools whose events fail again and again."""
        services = self.services
        return Alerts(
            services.redis,
            services.scripts,
            self.settings,
            catalog=self.catalog,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def model(self) -> ModelSummariser | None:
        """The model that summarises events; None where none is set."""
        if not self.settings.summariser_url:
            return None
        return ModelSummariser(self.settings, loop=self.loop, beacon=self.beacon)

    @cached_property
    def trainer(self) -> Trainer:
        """Trains dictionaries."""
        services = self.services
        return Trainer(
            services.redis,
            services.postgres,
            services.payloads,
            services.dictionaries,
            self.settings,
            worker_id=self.assignment.worker_id,
            catalog=self.catalog,
            samples=services.events.samples,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def admin_key(self) -> str:
        """The bearer key of the API."""
        return self.settings.api_key()

    @cached_property
    def lifespans(self) -> Lifespans:
        """What stages need while a worker runs."""
        return Lifespans(self._lifespans, loop=self.loop, beacon=self.beacon)

    def partition_for(self, key: str) -> int:
        """The partition of a key in a stream channel."""
        return partition_of(self.settings.partitions, key)

    async def append_entry(self, stream: str, data: bytes) -> bytes:
        """Append to a stream; returns the entry's id. Raises what Redis says."""
        entry_id: bytes = await self.services.redis.xadd(stream, {"d": data})
        return entry_id

    def stream_channel(
        self,
        name: str,
        *,
        codec: str,
        batch_max: int | None = None,
        linger_seconds: float = 0.0,
        linger_share: float = math.inf,
    ) -> RedisStreamChannel:
        """A channel of one's own on the Redis Streams ``{hs:p}:name``.

        One agent, or one function over batches of at most ``batch_max``, takes from it; what it has
        done is committed, and trimmed once nobody needs it. After each batch its partition is left
        alone for ``linger_seconds``, or for ``linger_share`` times as long as the batch took,
        whichever is less.

        Raises:
            SettingsError: it cannot be called so, or another one is.
        """
        if not CHANNEL_NAME.fullmatch(name) or name in keys.RESERVED | TAKEN_IN_HEALTH:
            raise SettingsError(
                f"a stream channel cannot be called {name!r}: use up to 64 of a-z, 0-9, _, . and "
                "-, a letter first, and none of the pipeline's own names, like events or updates"
            )
        if name in self.stream_channels:
            raise SettingsError(f"two stream channels are called {name!r}. Rename one of them")
        return self.pipeline_channel(
            name,
            codec=codec,
            own=True,
            batch_max=batch_max,
            linger_seconds=linger_seconds,
            linger_share=linger_share,
        )

    def pipeline_channel(self, name: str, **options: Any) -> RedisStreamChannel:
        """A stream channel whose batches its last stage commits; with Faust's agents looking on."""
        return RedisStreamChannel(self, name, **options)

    def agent(self, channel: Any = None, *, name: str | None = None, **kwargs: Any) -> Any:
        """Faust's. Over a stream channel of one's own it takes values, and what it has done is
        committed; over a channel of the pipeline it looks on at batches.

        Raises:
            SettingsError: another one has its ``name``, or takes from its channel already.
            UnsupportedError: it names a topic, or no channel at all.
        """
        if channel is None or isinstance(channel, str):
            refuse("an agent over a topic", f"give it a channel: {OF_THE_APP['topic']}")
        declare = super().agent

        def decorate(function: Callable[..., Any]) -> Any:
            label, source, made = name or function.__name__, channel, function
            if name:
                self._names.take(name, function)
            if isinstance(channel, RedisStreamChannel) and channel.own:
                self._take_from(channel, function)
                made = each_event(label, function, lambda: self.channel_commits)
            elif isinstance(channel, BatchChannel):
                source, made = channel.looked_at_by(label), looks_on(label, function)
            return declare(source, name=name, **kwargs)(made)

        return decorate

    def _take_from(self, channel: BatchChannel, function: Callable[..., Any]) -> None:
        place = place_of(function)
        if channel.consumer and channel.consumer != place:
            raise SettingsError(
                f"two take from the channel {channel.name!r}: {channel.consumer} and {place}. Give "
                "one of them a channel of its own"
            )
        channel.consumer = place

    def batch_channel(self, name: str) -> BatchChannel:
        """A named in-memory channel of batches."""
        return BatchChannel(self, name)

    def batches(
        self,
        source: BatchChannel,
        *,
        out: BatchChannel | None = None,
        name: str = "",
        concurrency: int = CONCURRENCY,
    ) -> Callable[[BatchStage], BatchStage]:
        """Make a function of one batch an agent over ``source`` that passes batches on to ``out``.

        The agent has the function's name, or ``name``. Up to ``concurrency`` batches, of different
        partitions, are in it at a time; how they share the loop is for :attr:`scheduler` to say.

        Between it and ``out`` run the stages declared ``after`` its name. When it raises, the
        batch goes back: its entries are still pending, and come again. Of a stream channel of
        one's own it is committed when the last function returns, if that has not ended it.

        Raises:
            SettingsError: the name is taken, or another function takes from ``source``.
        """

        def decorate(function: BatchStage) -> BatchStage:
            agent = name or function.__name__
            self._names.take(agent, function)
            self._take_from(source, function)
            if out is not None:
                self._outputs[agent] = out
            self._batch_agent(agent, function, source, after=agent, concurrency=concurrency)
            return function

        return decorate

    def lifespan(
        self, function: Callable[[], AsyncGenerator[None, None]]
    ) -> Callable[[], AsyncGenerator[None, None]]:
        """Have an ``async def`` with one ``yield`` run around all that a worker does.

        What is before the ``yield`` happens before the first event (open a client), what is behind
        it after the last one. Receivers and commands leave it alone.

        Raises:
            SettingsError: it is no such function.
        """
        if not inspect.isasyncgenfunction(function):
            raise SettingsError(
                f"the lifespan {place_of(function)} has to be an `async def` with one `yield`"
            )
        self._lifespans.append(function)
        return function

    def stage(
        self, *, after: str, concurrency: int = 1, timeout: float | None = None
    ) -> Callable[[EventStage], EventStage]:
        """Make ``async def f(event) -> event | None`` a stage behind the one named ``after``.

        Up to ``concurrency`` events of a batch are in it at a time; what comes out keeps its order,
        so the events of one ordering key do, too. An event that takes longer than ``timeout``
        seconds fails.

        It is called for each event that is still on its way. Return the event, a changed one, or
        None to drop it. When it raises, that event alone is tried again later. Stages behind the
        same one run in the order of their modules' names.
        """

        if concurrency < 1 or (timeout is not None and timeout <= 0):
            raise SettingsError("stage(): concurrency is at least 1, timeout more than 0 seconds")

        def decorate(function: EventStage) -> EventStage:
            check_event_stage(function)
            name = function.__name__
            self._names.take(name, function, after=after)
            source = self.batch_channel(f"{after}.{name}")
            self._stages.setdefault(after, []).append(source)

            run = EventStageRunner(name, function, concurrency, timeout)
            self._batch_agent(name, run, source, after=after, doc=function.__doc__)
            return function

        return decorate

    def Table(  # noqa: N802 Faust's name
        self, name: str, *, default: Callable[[], Any] | None = None, help: str = "", **more: Any
    ) -> Table:
        """The table ``name`` for stages: JSON by key, partitioned as the events are.

        What a stage writes is committed with its batch, all or nothing. ``default()`` is the value
        of a key that has none; without it, to read one raises KeyError. See
        :meth:`~hookstream.app.stage_tables.table.Table.tumbling` for windows.

        Raises:
            SettingsError: the name is taken, or is none.
            UnsupportedError: an argument of Faust's that means nothing here.
        """
        if more:
            refuse(
                f"{', '.join(sorted(more))} of app.Table",
                "it takes name, default and help; windows are .tumbling(SECONDS, expires=SECONDS)",
            )
        caller = sys._getframe(1)
        place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        if name in (DedupTable.name, RateTable.name):
            raise SettingsError(f"the table {name!r} is Hookstream's own ({place}): rename yours")
        table = self._stage_tables.declare(name, default, help, place)
        # for `hookstream tables`
        self.tables.data[name] = table
        return table

    def page(
        self,
        path: str,
        *,
        base: type[View] = View,
        cors_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        public: bool = False,
    ) -> Callable[[Any], type[View]]:
        """Make ``async def f(page, request)``, or a view of Faust's, a page of workers.

        Only the admin key reaches it, unless it is ``public``. A receiver answers with the port of
        the workers.

        Raises:
            SettingsError: the path is taken, or does not begin with a name.
        """

        def decorate(function: Any) -> type[View]:
            is_view = inspect.isclass(function) and issubclass(function, View)
            view: type[View] = function if is_view else base.from_handler(function)
            view.view_name = name or view.__name__
            view.view_path = path
            place = str(function) if is_view else place_of(function)
            self._pages.declare(Page(path, view, public, cors_options, place))
            return view

        return decorate

    def dedup(self, name: str) -> Callable[[DedupFunction], DedupFunction]:
        """Make ``def f(event) -> str | None`` the dedup function ``name``, which tools may ask for.

        Events for which it returns the same text are the same; None or "" is never a duplicate.
        It must depend on nothing but the event, which has no ids yet, and wait for nothing: the
        receiver calls it. When it raises, the event is kept and the worker calls it again.

        Raises:
            SettingsError: another function has this name.
        """

        def decorate(function: DedupFunction) -> DedupFunction:
            known = self.dedup_functions.get(name, function)
            if (known.__module__, known.__qualname__) != (
                function.__module__,
                function.__qualname__,
            ):
                raise SettingsError(
                    f"two dedup functions are called {name!r}: in {known.__module__} and in "
                    f"{function.__module__}"
                )
            self.dedup_functions[name] = function
            return function

        return decorate

    def _batch_agent(
        self,
        name: str,
        function: BatchStage,
        source: BatchChannel,
        *,
        after: str,
        concurrency: int = CONCURRENCY,
        doc: str | None = None,
    ) -> None:
        seconds = metrics.STAGE_SECONDS.labels(stage=name)

        async def run(batches: Any) -> Any:
            async for batch in batches:
                start = time.perf_counter()
                try:
                    # of a channel of one's own, what has only failed entries is not its function's
                    if not batch.own or any(batch.live()):
                        result = function(batch)
                        if inspect.isawaitable(result):
                            await result
                except Exception as error:  # noqa: BLE001 the reader decides by its kind
                    batch.fail(error)
                    continue
                finally:
                    seconds.inc(time.perf_counter() - start)
                yield batch

        async def forward(batch: Batch) -> None:
            if (target := self._next(after, source)) is not None:
                await target.put_batch(batch)
            elif batch.own:
                batch.done()

        run.__doc__ = doc or function.__doc__
        agent = super().agent(
            source,
            name=name,
            concurrency=concurrency,
            sink=[forward],
        )(run)
        agent.log = QuietLogger(agent.log.logger, agent.log.formatter)

    def _next(self, after: str, source: BatchChannel) -> BatchChannel | None:
        """Where a batch goes from ``source``: the next stage behind ``after``, else its output."""
        stages = self._stages.get(after, [])
        at = stages.index(source) + 1 if source in stages else 0
        return stages[at] if at < len(stages) else self._outputs.get(after)
