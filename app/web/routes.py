"""Every route in one table: what aiohttp serves and what the OpenAPI document says are the same."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import BaseModel

from hookstream.app.web import models
from hookstream.app.web.access import Access, View
from hookstream.app.web.agent_keys import KeyViews
from hookstream.app.web.contexts import ContextViews
from hookstream.app.web.dead_letters import LetterViews
from hookstream.app.web.events import EventViews
from hookstream.app.web.feeds import FeedViews
from hookstream.app.web.health import HealthViews, ReadyViews
from hookstream.app.web.health_parts import RedisHealth, StreamHealth
from hookstream.app.web.losses import LossViews
from hookstream.app.web.metrics import MetricsViews
from hookstream.app.web.partitions import PartitionViews, StreamMeter
from hookstream.app.web.receive import Receiver
from hookstream.app.web.replays import ReplayViews, SingleReplay
from hookstream.app.web.subscriptions import DryRunViews, SubscriptionViews
from hookstream.app.web.templates import TemplateViews
from hookstream.app.web.tools import ToolViews
from hookstream.app.web.updates import UpdateViews
from hookstream.app.web.worker import Worker

if TYPE_CHECKING:
    from hookstream.app.application import Hookstream

__all__ = ["Route", "add_routes", "api_routes"]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    view: View
    summary: str
    takes: type[BaseModel] | None = None
    gives: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    query: dict[str, dict[str, object]] = field(default_factory=dict)
    #: An agent's key may call it, for what reached its own contexts.
    agents: bool = False
    #: Its ``operationId``, where that is not what the view's name says.
    operation: str = ""

    @property
    def operation_id(self) -> str:
        """``tool_put`` for the view ``ToolViews.put``."""
        return self.operation or self.view.__qualname__.replace("Views.", "_").lower()


def api_routes(app: "Hookstream") -> list[Route]:
    """The routes below ``/api/v1``; all of them want a key."""
    parts, settings, registry = app.parts, app.settings, app.parts.registry
    postgres, feeds, stored = parts.postgres, parts.feeds, parts.events
    tools = ToolViews(
        settings=settings,
        postgres=postgres,
        registry=registry,
        schemas=parts.schemas,
        functions=app.dedup_functions,
    )
    contexts = ContextViews(
        settings=settings,
        postgres=postgres,
        registry=registry,
        feeds=feeds,
        clock=parts.clock,
    )
    feed = FeedViews(settings=settings, postgres=postgres, feeds=feeds, resets=parts.resets)
    subscriptions = SubscriptionViews(settings=settings, postgres=postgres, registry=registry)
    dry_run = DryRunViews(settings=settings, postgres=postgres, events=stored)
    events = EventViews(stored)
    single_replay = SingleReplay(
        registry=registry, events=stored, replays=parts.replays, appender=parts.appender
    )
    replays = ReplayViews(
        settings=settings, registry=registry, replays=parts.replays, single_replay=single_replay
    )
    letters = LetterViews(settings=settings, letters=parts.letters)
    templates = TemplateViews(
        settings=settings, postgres=postgres, registry=registry, events=stored
    )
    keys = KeyViews(settings=settings, postgres=postgres, registry=registry)
    losses = LossViews(parts.losses)
    partitions = PartitionViews(StreamMeter(parts.redis, parts.clock, settings.partitions))
    template = "/api/v1/templates/{name}"
    letter = "/api/v1/dead-letters/{letter_id}"
    tool = "/api/v1/tools/{tool_id}"
    context = "/api/v1/contexts/{context_id}"
    subscription = context + "/subscriptions/{name}"
    return [
        Route("GET", "/api/v1/tools", tools.list, "List the tools", gives=models.ToolList),
        Route(
            "PUT",
            tool,
            tools.put,
            "Make or change a tool",
            takes=models.ToolIn,
            gives=models.ToolOut,
            errors=(400, 409),
        ),
        Route("GET", tool, tools.get, "Show a tool", gives=models.ToolOut, errors=(404,)),
        Route("DELETE", tool, tools.delete, "Delete a tool", status=204, errors=(404,)),
        Route(
            "GET", "/api/v1/contexts", contexts.list, "List the contexts", gives=models.ContextList
        ),
        Route(
            "PUT",
            context,
            contexts.put,
            "Make or change a context",
            takes=models.ContextIn,
            gives=models.ContextOut,
            errors=(400,),
        ),
        Route(
            "GET",
            context,
            contexts.get,
            "Show a context",
            gives=models.ContextOut,
            errors=(404,),
            agents=True,
        ),
        Route(
            "DELETE",
            context,
            contexts.delete,
            "Delete a context and its subscriptions",
            status=204,
            errors=(404,),
        ),
        Route(
            "GET",
            context + "/digest",
            feed.digest,
            "What is new, folded into a token budget",
            gives=models.DigestOut,
            errors=(400, 404),
            query=models.DIGEST_QUERY,
            agents=True,
            operation="context_digest",
        ),
        Route(
            "POST",
            context + "/ack",
            feed.acknowledge,
            "Acknowledge updates up to a sequence number",
            takes=models.AckIn,
            gives=models.AckOut,
            errors=(404, 409),
            agents=True,
            operation="context_acknowledge",
        ),
        Route(
            "GET",
            context + "/updates",
            feed.updates,
            "A page of the context's updates",
            gives=models.UpdateList,
            errors=(400, 404),
            query=models.FEED_QUERY,
            agents=True,
            operation="context_updates",
        ),
        Route(
            "GET",
            context + "/updates/{seq}/folded",
            feed.folded,
            "A page of the updates that a digest update stands for",
            gives=models.FoldedList,
            errors=(400, 404),
            query=models.UPDATES_QUERY,
            agents=True,
            operation="context_folded",
        ),
        Route(
            "GET",
            context + "/daily",
            feed.dailies,
            "Daily summaries, the newest first",
            gives=models.DailyList,
            errors=(400, 404),
            query=models.LIMIT_QUERY,
            agents=True,
            operation="context_dailies",
        ),
        Route(
            "GET",
            context + "/subscriptions",
            subscriptions.list,
            "List a context's subscriptions",
            gives=models.SubscriptionList,
            errors=(404,),
            operation="context_list_subscriptions",
        ),
        Route(
            "PUT",
            subscription,
            subscriptions.put,
            "Make or change a subscription",
            takes=models.SubscriptionIn,
            gives=models.SubscriptionOut,
            errors=(400, 404),
            operation="context_put_subscription",
        ),
        Route(
            "GET",
            subscription,
            subscriptions.get,
            "Show a subscription",
            gives=models.SubscriptionOut,
            errors=(404,),
            operation="context_get_subscription",
        ),
        Route(
            "DELETE",
            subscription,
            subscriptions.delete,
            "Delete a subscription",
            status=204,
            errors=(404,),
            operation="context_delete_subscription",
        ),
        Route(
            "POST",
            "/api/v1/keys",
            keys.post,
            "Make a key for an agent",
            takes=models.KeyIn,
            gives=models.KeyMade,
            status=201,
            errors=(400,),
        ),
        Route("GET", "/api/v1/keys", keys.list, "List agents' keys", gives=models.KeyList),
        Route(
            "DELETE",
            "/api/v1/keys/{key_id}",
            keys.delete,
            "Revoke a key",
            status=204,
            errors=(404,),
        ),
        Route(
            "GET",
            "/api/v1/templates",
            templates.list,
            "List summary templates",
            gives=models.TemplateList,
        ),
        Route(
            "POST",
            "/api/v1/templates/preview",
            templates.preview,
            "What a template would say of past events",
            takes=models.TemplateIn,
            gives=models.TemplatePreview,
            errors=(400,),
        ),
        Route(
            "PUT",
            template,
            templates.put,
            "Make or change a summary template",
            takes=models.TemplateIn,
            gives=models.TemplateVersion,
            errors=(400,),
        ),
        Route(
            "GET",
            template,
            templates.get,
            "Show a summary template and its versions",
            gives=models.TemplateOut,
            errors=(404,),
        ),
        Route(
            "DELETE",
            template,
            templates.delete,
            "Delete a summary template",
            status=204,
            errors=(404,),
        ),
        Route(
            "POST",
            "/api/v1/subscriptions/dry-run",
            dry_run.post,
            "Which past events a subscription would have matched",
            takes=models.DryRunIn,
            gives=models.DryRunOut,
            errors=(400, 404),
            operation="context_dry_run",
        ),
        Route(
            "GET",
            "/api/v1/events",
            events.list,
            "Search events, newest first",
            gives=models.EventList,
            errors=(400,),
            query=models.EVENT_QUERY,
            agents=True,
        ),
        Route(
            "GET",
            "/api/v1/events/{event_id}",
            events.get,
            "Show an event and its payload",
            gives=models.EventOut,
            errors=(400, 404),
            agents=True,
        ),
        Route(
            "POST",
            "/api/v1/replays",
            replays.post,
            "Send events through the pipeline again",
            takes=models.ReplayIn,
            gives=models.ReplayOut,
            status=202,
            errors=(400, 404),
        ),
        Route(
            "GET",
            "/api/v1/replays",
            replays.list,
            "List replays, newest first",
            gives=models.ReplayList,
            errors=(400,),
            query=models.LIMIT_QUERY,
        ),
        Route(
            "GET",
            "/api/v1/replays/{replay_id}",
            replays.get,
            "Show a replay and how far it has come",
            gives=models.ReplayOut,
            errors=(400, 404),
        ),
        Route(
            "POST",
            "/api/v1/replays/{replay_id}/cancel",
            replays.cancel,
            "Send no more of a replay",
            gives=models.ReplayOut,
            errors=(400, 404, 409),
        ),
        Route(
            "GET",
            "/api/v1/dead-letters",
            letters.list,
            "List dead letters, the newest failure first",
            gives=models.LetterList,
            errors=(400,),
            query=models.LETTER_QUERY,
        ),
        Route(
            "POST",
            "/api/v1/dead-letters/retry",
            letters.retry_many,
            "Try dead letters again, by filter",
            takes=models.LetterFilterIn,
            gives=models.LetterChanged,
            status=202,
            errors=(400,),
        ),
        Route(
            "POST",
            "/api/v1/dead-letters/discard",
            letters.discard_many,
            "Throw dead letters away, by filter",
            takes=models.LetterFilterIn,
            gives=models.LetterChanged,
            errors=(400,),
        ),
        Route(
            "GET",
            letter,
            letters.get,
            "Show a dead letter, its history and payload",
            gives=models.LetterOut,
            errors=(400, 404),
        ),
        Route(
            "POST",
            letter + "/retry",
            letters.retry,
            "Try a dead letter again, now",
            gives=models.LetterChanged,
            status=202,
            errors=(400, 404, 409),
        ),
        Route(
            "DELETE",
            letter,
            letters.discard,
            "Throw a dead letter away",
            status=204,
            errors=(400, 404, 409),
        ),
        Route(
            "GET",
            "/api/v1/losses/deliveries",
            losses.deliveries,
            "Updates of a context that were delivered and are in its feed no more",
            gives=models.LostDeliveryList,
            errors=(400,),
            query=models.LOST_DELIVERIES_QUERY,
        ),
        Route(
            "GET",
            "/api/v1/losses/events",
            losses.events,
            "Events that were accepted and are nowhere in Redis",
            gives=models.LostEventList,
            errors=(400,),
            query=models.LOST_EVENTS_QUERY,
        ),
        Route(
            "GET",
            "/api/v1/partitions",
            partitions.list,
            "Who owns which partition, and how far behind it is",
            gives=models.PartitionList,
            operation="health_partitions",
        ),
    ]


def add_routes(web_app: web.Application, app: "Hookstream") -> None:
    """Add what this process serves: everything, or for a receiver webhooks and health only."""
    parts, registry = app.parts, app.parts.registry
    worker = None if app.producer_only else Worker(app.ownership, app.alerts, app.model)
    redis = RedisHealth(parts.watch, parts.met, lambda: parts.met_with)
    meter = StreamMeter(parts.redis, parts.clock, app.settings.partitions)
    ready = ReadyViews(
        redis=redis,
        registry=registry,
        appender=parts.appender,
        worker=worker,
        stopping=lambda: app.should_stop,
    )
    health = HealthViews(
        redis=redis,
        postgres=parts.postgres,
        registry=registry,
        streams=StreamHealth(meter, parts.feeds, registry),
        followers=parts.followers,
        appender=parts.appender,
        worker=worker,
    )
    measured = MetricsViews(registry=registry, feeds=parts.feeds, meter=meter, worker=worker)
    receiver = Receiver(
        settings=app.settings,
        registry=parts.registry,
        payloads=parts.payloads,
        appender=parts.appender,
        functions=app.dedup_functions,
    )
    web_app.router.add_post("/hooks/{tool_id}", receiver.post)
    web_app.router.add_get("/health/live", ready.live)
    web_app.router.add_get("/health/ready", ready.ready)
    web_app.router.add_get("/health", health.show)
    web_app.router.add_get("/metrics", measured.show)
    if app.receiver_only:
        return
    from hookstream.app.mcp.reading import AgentReader
    from hookstream.app.mcp.server import McpServer
    from hookstream.app.mcp.tools import AgentTools
    from hookstream.app.web.console import add_console
    from hookstream.app.web.openapi import document
    from hookstream.app.web.schema_registry import SchemaViews, add_schema_registry

    access = Access(parts.registry, lambda: app.admin_key)
    routes = api_routes(app)
    for route in routes:
        web_app.router.add_route(
            route.method, route.path, access.require_key(route.view, agents=route.agents)
        )
    described = document(routes)

    async def openapi(request: web.Request) -> web.StreamResponse:
        return web.json_response(described)

    web_app.router.add_get("/api/v1/openapi.json", access.require_key(openapi))
    schemas = SchemaViews(settings=app.settings, schemas=parts.schemas, registry=parts.registry)
    add_schema_registry(web_app, schemas, access)
    updates = UpdateViews(
        access=access,
        settings=app.settings,
        registry=registry,
        feeds=parts.feeds,
        resets=parts.resets,
        followers=parts.followers,
    )
    web_app.router.add_get("/contexts/{context_id}/updates", updates.get)
    web_app.on_shutdown.append(updates.close_all)
    reader = AgentReader(
        registry=registry, feeds=parts.feeds, resets=parts.resets, events=parts.events
    )
    single_replay = SingleReplay(
        registry=registry, events=parts.events, replays=parts.replays, appender=parts.appender
    )
    agent_tools = AgentTools(
        reader=reader, feeds=parts.feeds, events=parts.events, single_replay=single_replay
    )
    mcp = McpServer(
        process=app,
        settings=app.settings,
        access=access,
        reader=reader,
        tools=agent_tools,
        feeds=parts.feeds,
        followers=parts.followers,
    )
    web_app.router.add_route("*", "/mcp", mcp.handle)
    web_app.on_startup.append(mcp.start)
    web_app.on_shutdown.append(mcp.stop)
    add_console(web_app)
