"""The Faust application: Redis Streams channels, stages over batches; Kafka stands beside."""

import asyncio
import gc
import inspect
import math
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from aiohttp import web
from faust.cli import base as command_line
from faust.transport.drivers.aiokafka import Transport
from faust.types import AgentT, ChannelT, TopicT
from faust.web import View
from faust.web.cache.backends import memory
from mode.utils.logging import get_logger
from mode.utils.objects import canonshortname
from redis.exceptions import RedisError

from hookstream.app import metrics, tasks
from hookstream.app.consumers import each_event, looks_on
from hookstream.app.declarations import (
    AGENT,
    ASYNC,
    EITHER,
    PLAIN,
    CheckedApp,
    caller,
    check_codec,
    check_default,
    check_flag,
    check_function,
    check_name,
    check_number,
    declared_twice,
    place_of,
    shown,
)
from hookstream.app.discovery import OURS, agent_modules, discover, mark_nothing
from hookstream.app.endpoints import Endpoints
from hookstream.app.errors import SettingsError, TableUseError, UnavailableError
from hookstream.app.ids import partition_of
from hookstream.app.kafka.topics import KafkaTopics
from hookstream.app.logs import QuietLogger, logging_config
from hookstream.app.process import HookstreamBoot, HookstreamWorker
from hookstream.app.redis import keys
from hookstream.app.redis.errors import as_unavailable, is_of_one_key, is_redis_down
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.services import Services
from hookstream.app.settings import Settings, host_in_url
from hookstream.app.siblings import siblings_here
from hookstream.app.stage_tables.table import StageTables, Table, World
from hookstream.app.stages import (
    EventStage,
    EventStageRunner,
    StageNames,
    check_event_stage,
    tell_slow,
)
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.channel import BatchChannel, RedisStreamChannel, Taker, pass_on
from hookstream.app.streams.group import Group, Together
from hookstream.app.streams.partition import Partition
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
from hookstream.app.worker_services import WorkerServices
from hookstream.tables.dedup import DedupTable
from hookstream.tables.rates import RateTable

__all__ = ["Hookstream"]

logger = get_logger(__name__)

BatchStage = Callable[[Batch], Awaitable[None] | None]
Stage = TypeVar("Stage", bound=BatchStage)
#: What an agent may be declared with, beside a channel and a name.
AGENT_OPTIONS = frozenset(("concurrency", "sink", "supervisor_strategy"))
#: Batches of different partitions that one stage may have in flight at a time.
CONCURRENCY = 64
#: What a stream channel may be called, beside what :data:`keys.RESERVED` keeps, and what stands
#: beside channels in `/health`.
CHANNEL_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
TAKEN_IN_HEALTH = frozenset(("do", "late", "status"))


class Hookstream(Unsupported, CheckedApp):
    """Faust with Redis Streams for channels.

    ``@app.agent``, ``@app.timer``, ``@app.command`` and the rest are Faust's. Added are
    :meth:`stream_channel`, :meth:`batches`, :meth:`stage` and :meth:`dedup`; :meth:`Table` is ours,
    too; :meth:`topic` is where a Kafka is. What has no meaning here says so:
    :mod:`hookstream.app.unsupported`.
    """

    mundane_level = "debug"

    BootStrategy = HookstreamBoot

    #: Set on a process that serves webhooks and health only, without the API.
    receiver_only = False

    #: When the stop began, by the event loop's clock.
    stopping_since = 0.0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Other processes of the command that started this one.
        self.siblings = siblings_here()
        self.stream_channels: dict[str, RedisStreamChannel] = {}
        self._stages: dict[str, list[BatchChannel]] = {}
        self._names = StageNames()
        self._pages = Pages()
        self._stage_tables = StageTables(World(self._seen, lambda: self.services.clock.now_ms()))
        self._lifespans: list[Callable[[], AsyncGenerator[None, None]]] = []
        self._outputs: dict[str, BatchChannel] = {}
        #: Channels by identity, and the batch function that takes from each.
        self._takers: dict[int, tuple[BatchChannel, str]] = {}
        #: Channels, and the agents that look on at them.
        self._lookers: list[tuple[BatchChannel, str]] = []
        #: Modules with stages that a receiver could not import, and why.
        self.missing_modules: dict[str, str] = {}
        #: Dedup functions by name.
        self.dedup_functions: dict[str, DedupFunction] = {}
        mark_nothing()
        super().__init__(
            "hookstream",
            origin="hookstream",
            autodiscover=True,
            broker="kafka://none",
            store="memory://",
            datadir=str(settings.state_path / "faust"),
            # Faust makes URLs of this one, without brackets of its own
            web_host=host_in_url(settings.web_host),
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
            discover(modules, self._declared, failed=self._not_imported)
            return
        discover(modules, self._declared)
        self._names.check_places(self._outputs)
        self._check_outputs()

    def _declared(self) -> int:
        """How much stages have declared by now."""
        return sum(
            map(
                len,
                (
                    self._names,
                    self._pages,
                    self._lifespans,
                    self._stage_tables.declared,
                    self._app_tasks,
                    self.agents,
                    self.dedup_functions,
                    self.stream_channels,
                    command_line.cli.commands,
                ),
            )
        )

    def _check_outputs(self) -> None:
        """Refuse batch functions whose batches would never end, and those that would get none."""
        for name, out in self._outputs.items():
            if not out.consumer:
                raise SettingsError(
                    f"the batches of {name!r} go to the channel {out.name!r}, and no @app.batches "
                    "takes from that: they would never end"
                )
        for name in self._outputs:
            passed = [name]
            while (after := self._outputs.get(passed[-1])) is not None:
                passed.append(self._takers[id(after)][1])
                if passed.count(passed[-1]) > 1:
                    raise SettingsError(
                        f"batches go round: {' → '.join(map(repr, passed))}. They would never end"
                    )
        reached = {id(out) for out in self._outputs.values()}
        for channel, name in (*self._takers.values(), *self._lookers):
            if id(channel) not in reached and not isinstance(channel, RedisStreamChannel):
                raise SettingsError(
                    f"nothing brings batches to the channel {channel.name!r}, from which {name!r} "
                    "takes: it would never run. `out` of another @app.batches does"
                )

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
        return not self.producer_only and 0 in self.worker.assignment.owned

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

    def _new_transport(self) -> Transport:
        """That of ``kafka:``, which never connects, without a search of all packages for others."""
        return Transport(self.conf.broker_consumer, self)

    def _new_cache_backend(self) -> memory.CacheBackend:
        """That of ``memory:``, without a search of all packages for others."""
        return memory.CacheBackend(self, self.conf.cache, loop=self.loop)

    def _new_web(self) -> HookstreamWeb:
        return HookstreamWeb(
            self,
            settings=self.settings,
            add_endpoints=self._add_endpoints,
            stopping_since=lambda: self.stopping_since,
            siblings=self.siblings,
        )

    def _add_endpoints(self, web_app: web.Application) -> None:
        endpoints = Endpoints(
            self.services,
            process=self,
            worker=None if self.producer_only else self.worker.seen(),
            functions=self.dedup_functions,
            admin_key=lambda: self.admin_key,
            missing_modules=self.missing_modules,
            siblings=self.siblings,
            own_channels=lambda: [c.name for c in self.stream_channels.values() if c.own],
        )
        if not self.producer_only:
            endpoints.add_health(web_app)
        else:
            endpoints.add_receiver(web_app)
            endpoints.take_from_queues(self.web)
        if self.producer_only and not self.receiver_only:
            endpoints.add_api(web_app)
            self._make_admin_key()
            try:
                self.settings.note_address()
            except SettingsError as error:
                # a full disk, say: nobody but commands on this machine misses it
                logger.warning("commands here will not find this process: %s", error)
        if not self.producer_only and self._pages.guarded:
            self._make_admin_key()
        endpoints.add_pages(self._pages, self.web)

    def _make_admin_key(self) -> None:
        """Have the key in its file before anybody asks with it: who is to use it looks there.

        Raises:
            SettingsError: what is there is none.
        """
        try:
            self.admin_key  # noqa: B018 made once, here
        except UnavailableError as error:
            # a full disk, say: webhooks are taken all the same, and it is tried again when asked
            logger.error("nobody can use the API yet: %s", error)

    @cached_property
    def admin_key(self) -> str:
        """The bearer key of the API."""
        return self.settings.api_key()

    @cached_property
    def services(self) -> Services:
        """Redis, PostgreSQL, the catalog and what else stages and views share."""
        return Services(
            self.settings, receives=self.producer_only, loop=self.loop, beacon=self.beacon
        )

    @cached_property
    def worker(self) -> WorkerServices:
        """What a worker runs beside its stages; receivers and commands have none of it."""
        return WorkerServices(
            self.settings,
            self.services,
            channels=self.stream_channels,
            has_tables=lambda: bool(self._stage_tables.declared),
            topics=lambda: self.kafka.states() if self.has_topics else (),
            lifespans=self._lifespans,
            begin=self.flow_control.resume,
            stopping=lambda: self.should_stop,
            loop=self.loop,
            beacon=self.beacon,
        )

    @cached_property
    def kafka(self) -> KafkaTopics:
        """Topics, and agents over them; only where HOOKSTREAM_KAFKA_URL is set."""
        return KafkaTopics(self.settings, loop=self.loop, beacon=self.beacon)

    @property
    def has_topics(self) -> bool:
        """Whether stages have declared topics."""
        return "kafka" in self.__dict__

    def _seen(self) -> dict[int, Partition]:
        """Whose tables may be read here."""
        if self.producer_only:
            raise TableUseError(
                "this process receives webhooks: tables are where partitions are, in workers"
            )
        if not self.started:
            raise TableUseError(
                "tables are read in stages, pages and timers: no worker runs where a module is "
                "imported"
            )
        return self.worker.assignment.owned

    def partition_for(self, key: str) -> int:
        """The partition of a key in a stream channel."""
        return partition_of(self.settings.partitions, key)

    async def append_entry(self, stream: str, data: bytes) -> bytes:
        """Append to a stream; returns the entry's id.

        Raises:
            UnavailableError: Redis is away, full or not itself, which is no fault of what is sent.
            RedisError: this stream takes nothing.
        """
        try:
            entry_id: bytes = await self.services.redis.xadd(stream, {"d": data})
        except RedisError as error:
            if is_redis_down(error) and not is_of_one_key(error):
                raise as_unavailable(error) from error
            raise
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
        place = caller()
        if not CHANNEL_NAME.fullmatch(str(name)) or name in keys.RESERVED | TAKEN_IN_HEALTH:
            raise SettingsError(
                f"a stream channel ({place}) cannot be called {name!r}: use up to 64 of a-z, 0-9, "
                "_, . and -, a letter first, and none of the pipeline's own names, like events or "
                "updates"
            )
        if name in self.stream_channels:
            raise SettingsError(
                f"two stream channels are called {name!r}, one at {place}. Rename one of them"
            )
        if batch_max is not None:
            check_number(f"`batch_max` of {name!r}", batch_max, place, least=1, whole=True)
        if linger_seconds != 0:
            check_number(f"`linger_seconds` of {name!r}", linger_seconds, place)
        if linger_share != math.inf:
            check_number(f"`linger_share` of {name!r}", linger_share, place)
        check_codec(name, codec, place)
        return self.pipeline_channel(
            name,
            codec=codec,
            own=True,
            batch_max=batch_max,
            linger_seconds=linger_seconds,
            linger_share=linger_share,
        )

    def topic(self, *topics: str, **options: Any) -> Any:
        """Faust's: topics of the Kafka in ``HOOKSTREAM_KAFKA_URL``, to send to, and for agents.

        Who has it is Kafka's business: partitions, offsets and rebalances are as in Faust. Nothing
        of it is in the commits of our partitions.

        Raises:
            UnsupportedError: there is no Kafka here.
        """
        if not self.settings.kafka_url:
            refuse("app.topic", OF_THE_APP["topic"])
        return self.kafka.app.topic(*topics, **options)

    def pipeline_channel(self, name: str, **options: Any) -> RedisStreamChannel:
        """A stream channel whose batches its last stage commits; with Faust's agents looking on."""
        return RedisStreamChannel(self, name, **options)

    def agent(self, channel: Any = None, *, name: str | None = None, **kwargs: Any) -> Any:
        """Faust's. Over a stream channel of one's own it takes values, and what it has done is
        committed; over a channel of the pipeline it looks on at batches; over a topic it is all
        Faust's.

        Raises:
            SettingsError: another one has its ``name``, or takes from its channel already.
            UnsupportedError: it names a topic, or no channel at all.
        """
        if channel is None or isinstance(channel, str):
            refuse(
                "an agent over a topic",
                f"give it a channel, or app.topic(…): {OF_THE_APP['topic']}",
            )
        if not isinstance(channel, ChannelT):
            raise SettingsError(
                f"an agent ({caller()}) takes from a channel, such as that of app.stream_channel, "
                f"not from {shown(channel)}"
            )
        place = caller()
        if name is not None:
            check_name("the name of an agent", name, place)
        if unknown := set(kwargs) - AGENT_OPTIONS:
            refuse(
                f"{', '.join(sorted(unknown))} of an agent",
                f"it takes a channel, name, {', '.join(sorted(AGENT_OPTIONS))}",
            )
        _check_sinks(kwargs.get("sink"), place)
        declare = self.kafka.app.agent if isinstance(channel, TopicT) else super().agent

        def decorate(function: Callable[..., Any]) -> Any:
            check_function("the agent", function, AGENT, "stream")
            concurrency = kwargs.get("concurrency", 1)
            check_number(
                "`concurrency` of an agent", concurrency, place_of(function), least=1, whole=True
            )
            label, source, made = name or function.__name__, channel, function
            self._names.take(name or canonshortname(function), function)
            if isinstance(channel, RedisStreamChannel) and channel.own:
                self._take_from(channel, function)
                made = each_event(label, function, lambda: self.worker.channel_commits)
            elif isinstance(channel, BatchChannel):
                self._lookers.append((channel, label))
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
        together: Together | None = None,
    ) -> Callable[[Stage], Stage]:
        """Make a function of one batch an agent over ``source`` that passes batches on to ``out``.

        The agent has the function's name, or ``name``. Up to ``concurrency`` batches, of different
        partitions, are in it at a time; how they share the loop is for :attr:`scheduler` to say.

        ``together`` does the same with several batches of different partitions in one pass, of
        which it leaves those to the function that have to wait for something else.

        Between it and ``out`` run the stages declared ``after`` its name. When it raises, the
        batch goes back: its entries are still pending, and come again. Of a stream channel of
        one's own it is committed when the last function returns, if that has not ended it.

        Raises:
            SettingsError: the name is taken, or another function takes from ``source``.
        """

        place = caller()
        for channel in (source, source if out is None else out):
            if not isinstance(channel, BatchChannel):
                raise SettingsError(
                    f"batches ({place}) go from channel to channel, not {shown(channel)}"
                )
        if isinstance(out, RedisStreamChannel):
            raise SettingsError(
                f"batches ({place}) cannot go on to the stream channel {out.name!r}: use "
                "batch.send(channel, value), which goes with their commit"
            )
        check_number("`concurrency` of @app.batches", concurrency, place, least=1, whole=True)
        if not isinstance(name, str):
            check_name("the name of a batch function", name, place)

        def decorate(function: Stage) -> Stage:
            check_function("the batch function", function, EITHER, "batch")
            agent = name or function.__name__
            self._names.take(agent, function)
            self._take_from(source, function)
            self._takers[id(source)] = (source, agent)
            if out is not None:
                self._outputs[agent] = out
            self._batch_agent(
                agent, function, source, after=agent, concurrency=concurrency, together=together
            )
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
        if not inspect.isasyncgenfunction(function) or inspect.signature(function).parameters:
            managed = inspect.isasyncgenfunction(inspect.unwrap(function))
            raise SettingsError(
                f"the lifespan {place_of(function)} has to be an `async def` with one `yield`, "
                "and takes nothing"
                + (": leave @asynccontextmanager away, @app.lifespan makes it one" * managed)
            )
        self._check_module("lifespan", function)
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

        def decorate(function: EventStage) -> EventStage:
            check_event_stage(function, after, concurrency, timeout)
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
        place = caller()
        check_name("the name of a table", name, place)
        if default is not None and not callable(default):
            raise SettingsError(
                f"`default` of the table {name!r} ({place}) is a function that makes one, such as "
                f"int or list, or lambda: {default!r:.40}; not {shown(default)}"
            )
        if default is not None:
            check_default(name, default, place)
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

        check_name("the path of a page", path, caller())
        check_flag("`public` of a page", public, caller())

        def decorate(function: Any) -> type[View]:
            is_view = inspect.isclass(function) and issubclass(function, View)
            view: type[View] = function if is_view else base.from_handler(function)
            view.view_name = name or view.__name__
            view.view_path = path
            place = str(function) if is_view else place_of(function)
            self._pages.declare(Page(path, view, public, cors_options, place))
            if not is_view:
                in_path = re.findall(r"{(\w+)", path)
                check_function("the page", function, ASYNC, ", ".join(("self, request", *in_path)))
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

        check_name("the name of a dedup function", name, caller())

        def decorate(function: DedupFunction) -> DedupFunction:
            check_function("the dedup function", function, PLAIN, "event")
            known = self.dedup_functions.get(name)
            if known is not None and known is not function:
                places = [place_of(known), place_of(function)]
                if places[0] == places[1]:
                    modules = {known.__module__, function.__module__}
                    raise SettingsError(declared_twice("dedup function", name, places[0], modules))
                raise SettingsError(
                    f"two dedup functions are called {name!r}: {' and '.join(places)}. Rename one "
                    "of them"
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
        together: Together | None = None,
        doc: str | None = None,
    ) -> None:
        seconds = metrics.STAGE_SECONDS.labels(stage=name)
        # what ours wait for has limits of its own; a timer for each batch costs 4 µs
        ours = function.__module__.startswith(OURS)
        told: set[str] = set()

        async def work(batch: Batch) -> bool:
            """Do a batch; whether it goes on."""
            start = time.perf_counter()
            slow = None if ours else tell_slow(name, function, batch)
            try:
                # of a channel of one's own, what has only failed entries is not its function's
                if not batch.own or any(batch.live()):
                    result: object = function(batch)
                    if inspect.isawaitable(result):
                        result = await result
                    if result is not None and name not in told:
                        told.add(name)
                        _tell_returned(name, function, result)
            except BaseException as error:  # the reader decides by its kind
                if tasks.ends_task(error):
                    raise
                batch.fail(error)
                return False
            finally:
                if slow is not None:
                    slow.cancel()
                seconds.inc(time.perf_counter() - start)
            return True

        async def work_together(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
            """Do several batches; those that go on, and those that are to be done one by one."""
            assert together is not None
            start = time.perf_counter()
            group = Group(batches)
            try:
                await together(group)
            except BaseException as error:
                if tasks.ends_task(error):
                    raise
                # whose trouble it is shows when each is tried again by itself
                for batch in group.all:
                    batch.fail(error)
            finally:
                seconds.inc(time.perf_counter() - start)
            return group.through(), group.left

        def following() -> BatchChannel | None:
            return self._next(after, source)

        async def run(batches: Any) -> Any:
            async for batch in batches:
                if await work(batch):
                    yield batch

        async def forward(batch: Batch) -> None:
            await pass_on([batch], following())

        # of a stage without a docstring that of what runs it says nothing
        run.__doc__ = doc or (None if isinstance(function, EventStageRunner) else function.__doc__)
        source.taker = Taker(work, following, work_together if together else None)
        agent = super().agent(source, name=name, concurrency=concurrency, sink=[forward])(run)
        agent.log = QuietLogger(agent.log.logger, agent.log.formatter)

    def _next(self, after: str, source: BatchChannel) -> BatchChannel | None:
        """Where a batch goes from ``source``: the next stage behind ``after``, else its output."""
        stages = self._stages.get(after, [])
        at = stages.index(source) + 1 if source in stages else 0
        return stages[at] if at < len(stages) else self._outputs.get(after)


def _tell_returned(name: str, function: Callable[..., Any], result: object) -> None:
    """Tell that what a batch function returns counts for nothing: it may be meant as a filter."""
    logger.warning(
        "the batch function %r (%s) returned %s, which counts for nothing: all entries of its "
        "batches go on. entry.fail(...) and batch.send(...) say what becomes of one",
        name,
        place_of(function),
        type(result).__name__,
    )


def _check_sinks(sinks: Any, place: str) -> None:
    """Refuse sinks that nothing could be sent to: the first value would say so."""
    given = [sinks] if isinstance(sinks, str) or callable(sinks) else list(sinks or ())
    wrong = [sink for sink in given if not (callable(sink) or isinstance(sink, ChannelT | AgentT))]
    if wrong or given == [sinks]:
        raise SettingsError(
            f"`sink` of an agent ({place}) is a list of functions, agents and channels, not "
            f"{shown(wrong[0] if wrong else sinks)}"
        )
