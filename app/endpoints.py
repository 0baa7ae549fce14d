"""What a process serves over HTTP: the views, made from its services, and the routes to them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from aiohttp import web
from mode import Service

from hookstream.app import tasks
from hookstream.app.erasure.progress import Progress
from hookstream.app.history.exporter import Exporter
from hookstream.app.history.importer import Importer
from hookstream.app.identity.provider import OpenIdProvider
from hookstream.app.kafka.source import KafkaIntake
from hookstream.app.mcp.views import McpHandler, McpViews
from hookstream.app.providers import PROVIDERS
from hookstream.app.queues.door import QueueDoors
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.services import Services
from hookstream.app.siblings import Siblings
from hookstream.app.sqs.intake import SqsIntake
from hookstream.app.sqs.moves import Moves
from hookstream.app.stores.comparisons import PathComparer
from hookstream.app.stores.imports import ImportStore
from hookstream.app.web.access import Access, People
from hookstream.app.web.agent_keys import KeyViews
from hookstream.app.web.api_keys import ApiKeyViews
from hookstream.app.web.audit import AuditViews
from hookstream.app.web.body_limit import most_bytes
from hookstream.app.web.comparison import ComparisonViews
from hookstream.app.web.console import console_routes
from hookstream.app.web.contexts import ContextViews
from hookstream.app.web.cookies import Cookies
from hookstream.app.web.data_keys import DataKeyViews
from hookstream.app.web.dead_letters import LetterViews
from hookstream.app.web.erasures import ErasureViews
from hookstream.app.web.event_history import HistoryViews
from hookstream.app.web.events import EventViews
from hookstream.app.web.fast_lane import LANE, FastLane
from hookstream.app.web.feeds import FeedViews
from hookstream.app.web.health import HealthViews, ReadyViews
from hookstream.app.web.health_parts import RedisHealth, StreamHealth
from hookstream.app.web.holds import HoldViews
from hookstream.app.web.imports import ImportViews
from hookstream.app.web.lifecycle import LifecycleViews
from hookstream.app.web.limits import call_limit, replay_limit, tool_limit
from hookstream.app.web.losses import LossViews
from hookstream.app.web.metrics import MetricsViews
from hookstream.app.web.migration import MigrationViews
from hookstream.app.web.openapi import document
from hookstream.app.web.pages import Pages, first_names, send_to_receivers
from hookstream.app.web.partitions import PartitionViews, StreamMeter
from hookstream.app.web.processes import ProcessViews
from hookstream.app.web.quotas import Quotas
from hookstream.app.web.receive import Receiver
from hookstream.app.web.refusals import RefusalViews
from hookstream.app.web.replays import ReplayViews, SingleReplay
from hookstream.app.web.request_log import DOOR
from hookstream.app.web.retention_policies import PolicyViews
from hookstream.app.web.routes import Route, add_routes, check_routes, may_call
from hookstream.app.web.schema_registry import SchemaViews, add_schema_registry
from hookstream.app.web.sign_in import MeViews, SignInViews, not_here
from hookstream.app.web.strangers import KnowsNames, for_strangers
from hookstream.app.web.subscriptions import DryRunViews, SubscriptionViews
from hookstream.app.web.templates import TemplateViews
from hookstream.app.web.tenant_masking import TenantMaskingViews
from hookstream.app.web.tenants import TenantViews
from hookstream.app.web.tools import ToolViews
from hookstream.app.web.updates import UpdateViews
from hookstream.app.web.worker import Worker

__all__ = ["Endpoints"]

OPENAPI = "/api/v1/openapi.json"


class Endpoints:
    """Makes the views of one process, and adds their routes to its web application."""

    def __init__(
        self,
        services: Services,
        *,
        process: Service,
        worker: Worker | None,
        functions: Mapping[str, DedupFunction],
        admin_key: Callable[[], str],
        missing_modules: Mapping[str, str],
        siblings: Siblings | None,
        own_channels: Callable[[], Iterable[str]],
    ) -> None:
        """``process``: what all this ends with; ``functions``: dedup functions by name.

        ``missing_modules``: those with stages that could not be imported, and why;
        ``siblings``: other processes of the same command;
        ``own_channels``: names of the stream channels that stages of one's own have made.
        """
        self._missing_modules = missing_modules
        self._siblings = siblings
        self._services = services
        self._settings = services.settings
        self._catalog = services.catalog
        self._process = process
        self._worker = worker
        self._functions = functions
        # operators' own port is another address than the one that senders call
        at_public_url = not services.settings.admin_port
        self._cookies = Cookies(services.settings.public_url if at_public_url else "")
        self._access = Access(
            services.catalog,
            admin_key,
            call_limit(services.settings),
            services.trail,
            services.key_uses,
            people=People(services.sessions, self._cookies) if services.sessions else None,
        )
        self._knows_names = KnowsNames(
            self._access, lambda: services.catalog.current, services.settings.admin_port
        )
        self._meter = StreamMeter(
            services.redis, services.clock, services.settings.partitions, own_channels
        )
        self._single_replay = SingleReplay(
            catalog=services.catalog,
            events=services.events,
            replays=services.replays,
            appender=services.appender,
            limit=replay_limit(services.settings),
        )

        self._quotas = Quotas(
            services.settings,
            services.postgres,
            lambda: services.catalog.current,
            services.tenant_use.refused,
        )
        limit = tool_limit(services.settings, services.tenant_use)
        self._lane = FastLane(
            settings=services.settings,
            catalog=services.catalog,
            payloads=services.payloads,
            appender=services.appender,
            limit=limit,
            refusals=services.refusals,
            erasures=services.erasures,
        )
        self._receiver = Receiver(
            settings=services.settings,
            postgres=services.postgres,
            catalog=services.catalog,
            payloads=services.payloads,
            appender=services.appender,
            refusals=services.refusals,
            functions=functions,
            limit=limit,
            payload_check=services.payload_check,
            fetcher=services.fetcher,
            erasures=services.erasures,
            maskers=services.maskers,
        )

        def most(tool: Tool) -> int:
            return most_bytes(services.settings, PROVIDERS[tool.provider])

        self._most_bytes = most
        doors = QueueDoors(
            settings=services.settings,
            catalog=lambda: services.catalog.current,
            acceptance=self._receiver.acceptance,
            appender=services.appender,
            limit=limit,
            refusals=services.refusals,
            most_bytes=most,
        )
        self._intake = SqsIntake(doors)
        self._topics = KafkaIntake(doors)

    def add_receiver(self, web_app: web.Application) -> None:
        """What every process serves: webhooks, health and metrics."""
        web_app.add_routes(self._receiver.routes())
        web_app[DOOR] = self._receiver
        web_app[LANE] = self._lane
        self.add_health(web_app)
        check_routes(web_app)

    def take_from_queues(self, server: Service) -> None:
        """Ask tools' queues and topics for events, until ``server`` stops."""
        tasks.spawn_loop("SqsIntake", self._intake.run, server)
        tasks.spawn_loop("KafkaIntake", self._topics.run, server)

    def add_api(self, web_app: web.Application) -> None:
        """What a receiver leaves to others: the API, schemas, feeds, MCP and the console."""
        routes = self._api_routes()
        add_routes(web_app, routes, self._access)
        self._add_document(web_app, routes)
        self._add_schemas(web_app)
        self._add_updates(web_app)
        self._add_mcp(web_app)
        self._add_sign_in(web_app)
        web_app.add_routes(console_routes(sign_in=self._services.sessions is not None))
        check_routes(web_app)

    def add_pages(self, pages: Pages, server: Any) -> None:
        """What stages have declared: in workers; others say where it is. To be called last."""
        if self._worker is None:
            pages.send_elsewhere(server.web_app, self._settings.worker_web_port)
            return
        # no page hides what receivers serve, though it is not here
        elsewhere = web.Application()
        self.add_receiver(elsewhere)
        self.add_api(elsewhere)
        ours = first_names(elsewhere)
        pages.serve(server, self._access, ours)
        send_to_receivers(server.web_app, ours)

    def add_health(self, web_app: web.Application) -> None:
        """Health and metrics: all that a worker serves, beside pages of stages.

        Whoever can stall a worker by a request keeps all events waiting, not one webhook.
        """
        services, catalog, worker = self._services, self._catalog, self._worker
        redis = RedisHealth(
            services.watch,
            services.met,
            lambda: services.met_with,
            services.scripts.refused_lately,
            services.memory,
        )
        ready = ReadyViews(
            redis=redis,
            catalog=catalog,
            appender=services.appender,
            worker=worker,
            stopping=lambda: self._process.should_stop,
        )
        health = HealthViews(
            redis=redis,
            postgres=services.postgres,
            catalog=catalog,
            streams=StreamHealth(self._meter, services.feeds, catalog, self._settings),
            followers=services.followers,
            appender=services.appender,
            worker=worker,
            missing_modules=self._missing_modules,
            wakeups_trouble=lambda: services.feeds.wakeups_trouble,
            stalls=services.stalls,
            conditions=services.conditions,
            archive=services.archive.objects,
            sealing=services.sealing,
            data_keys=services.data_keys,
            queues=worker.forwarding if worker else self._intake.states,
            topics=worker.topics if worker else self._topics.states,
        )
        metrics = MetricsViews(
            catalog=catalog, feeds=services.feeds, meter=self._meter, worker=worker
        )
        web_app.add_routes(ready.routes())
        told = [*health.routes(), *metrics.routes()]
        if self._siblings is not None:
            told = ProcessViews(
                self._siblings, health=health.answer, metrics=metrics.answer
            ).routes()
        web_app.add_routes(for_strangers(told, self._knows_names))

    def _api_routes(self) -> list[Route]:
        """The routes below ``/api/v1``, in the order of the OpenAPI document."""
        return [*self._context_routes(), *self._admin_routes(), *self._event_routes()]

    def _context_routes(self) -> list[Route]:
        """Tools, contexts, and what goes from the ones to the others."""
        services, settings, postgres = self._services, self._settings, self._services.postgres
        moves = Moves(services.redis, settings.partitions)
        catalog, feeds = self._catalog, services.feeds
        return [
            *ToolViews(
                settings=settings,
                postgres=postgres,
                catalog=catalog,
                schemas=services.schemas,
                quotas=self._quotas,
                functions=self._functions,
                dead_letters=services.dead_letters,
                refusals=services.refusals,
                dictionaries=services.dictionaries,
                trail=services.trail,
                holds=services.holds,
                moves=moves,
            ).routes(),
            *MigrationViews(
                settings=settings, postgres=postgres, catalog=catalog, moves=moves
            ).routes(),
            *ComparisonViews(
                settings=settings,
                catalog=catalog,
                clock=services.clock,
                comparer=PathComparer(
                    services.redis, postgres, settings.partitions, services.error_texts
                ),
            ).routes(),
            *ContextViews(
                settings=settings,
                postgres=postgres,
                catalog=catalog,
                quotas=self._quotas,
                feeds=feeds,
                clock=services.clock,
                holds=services.holds,
            ).routes(),
            *FeedViews(
                settings=settings, postgres=postgres, feeds=feeds, resets=services.resets
            ).routes(),
            *SubscriptionViews(
                settings=settings, postgres=postgres, catalog=catalog, quotas=self._quotas
            ).routes(),
            *RefusalViews(
                refusals=services.refusals,
                receiver=self._receiver,
                catalog=catalog,
                trail=services.trail,
            ).routes(),
        ]

    def _admin_routes(self) -> list[Route]:
        """Keys, summary templates, and subscriptions that are only tried."""
        settings, postgres = self._settings, self._services.postgres
        catalog, events = self._catalog, self._services.events
        return [
            *KeyViews(
                settings=settings, postgres=postgres, catalog=catalog, quotas=self._quotas
            ).routes(),
            *ApiKeyViews(
                settings=settings,
                postgres=postgres,
                catalog=catalog,
                quotas=self._quotas,
                uses=self._services.key_uses,
            ).routes(),
            *MeViews().routes(),
            *self._quotas.routes(),
            *TenantViews(
                settings=settings,
                postgres=postgres,
                catalog=catalog,
                quotas=self._quotas,
                use=self._services.tenant_use,
                feeds=self._services.feeds,
                held_by=lambda: self._services.held_by,
            ).routes(),
            *TenantMaskingViews(settings=settings, postgres=postgres, catalog=catalog).routes(),
            *TemplateViews(
                settings=settings,
                postgres=postgres,
                catalog=catalog,
                events=events,
                maskers=self._services.maskers,
            ).routes(),
            *DryRunViews(
                settings=settings,
                postgres=postgres,
                events=events,
                pool=self._services.bounded,
                maskers=self._services.maskers,
            ).routes(),
        ]

    def _event_routes(self) -> list[Route]:
        """Events, and what became of them."""
        services, settings = self._services, self._settings
        return [
            *EventViews(services.events, services.trail, services.maskers).routes(),
            *HistoryViews(services.events, services.dead_letters, services.trail).routes(),
            *ReplayViews(
                settings=settings,
                catalog=self._catalog,
                replays=services.replays,
                single_replay=self._single_replay,
                imports=ImportStore(services.postgres),
            ).routes(),
            *self._import_routes(),
            *LetterViews(
                settings=settings, dead_letters=services.dead_letters, trail=services.trail
            ).routes(),
            *LossViews(services.losses).routes(),
            *ErasureViews(
                settings=settings,
                erasures=services.erasures,
                progress=Progress(
                    services.redis, services.postgres, services.archive, settings.partitions
                ),
                clock=services.clock,
            ).routes(),
            *HoldViews(settings=settings, holds=services.holds, clock=services.clock).routes(),
            *PolicyViews(settings=settings, policies=services.policies).routes(),
            *AuditViews(services.trail).routes(),
            *PartitionViews(self._meter).routes(),
            *DataKeyViews(services.data_keys).routes(),
            *LifecycleViews(
                services.redis,
                services.postgres,
                services.tiers,
                services.archive,
                services.memory,
                services.clock,
                partitions=settings.partitions,
                catalog=lambda: self._catalog.current,
            ).routes(),
        ]

    def _import_routes(self) -> Sequence[Route]:
        """Histories, in and out."""
        services = self._services
        imports = ImportStore(services.postgres)
        importer = Importer(
            settings=self._settings,
            catalog=lambda: self._catalog.current,
            archive=services.archive,
            appender=services.appender,
            erasures=services.erasures,
            imports=imports,
            maskers=services.maskers,
            functions=self._functions,
            now_ms=services.clock.now_ms,
            most_bytes=self._most_bytes,
        )
        return ImportViews(
            settings=self._settings,
            catalog=self._catalog,
            imports=imports,
            importer=importer,
            exporter=Exporter(services.postgres, services.events),
            use=services.tenant_use,
            trail=services.trail,
            most_bytes=self._most_bytes,
        ).routes()

    def _add_document(self, web_app: web.Application, routes: Sequence[Route]) -> None:
        described = cache(lambda: document(routes))

        async def openapi(request: web.Request) -> web.StreamResponse:
            return web.json_response(described())

        view = self._access.require_key(openapi, may_call("GET", OPENAPI))
        web_app.router.add_route("GET", OPENAPI, view)

    def _add_schemas(self, web_app: web.Application) -> None:
        schemas = SchemaViews(
            settings=self._settings, schemas=self._services.schemas, catalog=self._catalog
        )
        add_schema_registry(web_app, schemas, self._access, self._settings.public_url)

    def _add_updates(self, web_app: web.Application) -> None:
        updates = UpdateViews(
            access=self._access,
            settings=self._settings,
            catalog=self._catalog,
            feeds=self._services.feeds,
            resets=self._services.resets,
            followers=self._services.followers,
            use=self._services.tenant_use,
        )
        web_app.add_routes(updates.routes())
        web_app.on_shutdown.append(updates.close_all)

    def _add_sign_in(self, web_app: web.Application) -> None:
        settings, sessions = self._settings, self._services.sessions
        if sessions is None:
            web_app.add_routes(not_here())
            return
        views = SignInViews(
            provider=OpenIdProvider(
                settings.oidc_issuer,
                settings.oidc_client_id,
                settings.oidc_client_secret,
                scopes=settings.oidc_scopes,
                allow_private=settings.oidc_allow_private,
            ),
            sessions=sessions,
            cookies=self._cookies,
            mapping=settings.role_mapping(),
            trail=self._services.trail,
        )
        web_app.add_routes(views.routes())
        web_app.on_cleanup.append(views.close)

    def _add_mcp(self, web_app: web.Application) -> None:
        mcp = McpViews(self._access, self._start_mcp)
        web_app.add_routes(mcp.routes())
        web_app.on_shutdown.append(mcp.stop)

    async def _start_mcp(self) -> McpHandler:
        # not in the loop's thread: others are served meanwhile
        await asyncio.to_thread(import_module, "hookstream.app.mcp.server")
        from hookstream.app.mcp.reading import AgentReader
        from hookstream.app.mcp.server import McpServer
        from hookstream.app.mcp.tools import AgentTools

        feeds, events = self._services.feeds, self._services.events
        reader = AgentReader(
            catalog=self._catalog,
            feeds=feeds,
            resets=self._services.resets,
            events=events,
            trail=self._services.trail,
            maskers=self._services.maskers,
        )
        tools = AgentTools(
            reader=reader,
            feeds=feeds,
            resets=self._services.resets,
            events=events,
            single_replay=self._single_replay,
        )
        mcp = McpServer(
            process=self._process,
            settings=self._settings,
            access=self._access,
            reader=reader,
            tools=tools,
            feeds=feeds,
            followers=self._services.followers,
        )
        mcp.start()
        return mcp
