"""The tools of the MCP server: what an agent may ask for, limited to its key's contexts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_types import Tool, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.feeds.digests import MAX_BUDGET, MIN_BUDGET, digest_budget
from hookstream.app.mcp.untrusted import cut
from hookstream.app.status import Status
from hookstream.app.stores.events import EventFilter
from hookstream.app.web.access import Caller, uuid7
from hookstream.app.web.contexts import read_digest
from hookstream.app.web.events import parse_time, visible_event
from hookstream.app.web.models import ID_PATTERN
from hookstream.app.web.replays import SingleReplay

if TYPE_CHECKING:
    from hookstream.app.application import Hookstream

__all__ = ["PAGE", "TOOLS", "AgentTool", "own_contexts", "read_updates"]

MAX_SEQ = 2**53
PAGE = 100


class Arguments(BaseModel):
    """Arguments of a tool: what is not listed is refused."""

    model_config = ConfigDict(extra="forbid")


ContextId = Field(pattern=ID_PATTERN, description="The context's id; list_contexts names them.")
Generation = Field(
    0, ge=0, le=MAX_SEQ, description="The generation that came with that number, if you have it."
)
EventId = Field(description="The event's id, as updates and searches give it.")


class NoArguments(Arguments):
    pass


class SearchEvents(Arguments):
    context_id: str | None = Field(
        None,
        pattern=ID_PATTERN,
        description="Only what reached this context. May be left out by a key with one context.",
    )
    tool: str | None = Field(None, max_length=128, description="Only of this tool (source).")
    type: str | None = Field(
        None, max_length=256, description="Event type; * stands for anything: pull_request.*"
    )
    status: Status | None = Field(None, description="Only events with this status.")
    since: str | None = Field(None, description="Received at or after this time (RFC 3339).")
    until: str | None = Field(None, description="Received before this time (RFC 3339).")
    cursor: str | None = Field(None, description="Where the last page ended; newest come first.")
    limit: int = Field(20, ge=1, le=PAGE, description="Most events in the answer.")


class GetEvent(Arguments):
    event_id: str = EventId


class GetDigest(Arguments):
    context_id: str = ContextId
    budget: int | None = Field(
        None,
        ge=MIN_BUDGET,
        le=MAX_BUDGET,
        description="Most tokens of the digest's text; the context's own budget if left out.",
    )
    after: int | None = Field(
        None,
        ge=0,
        le=MAX_SEQ,
        description="Only updates past this number; past what is acknowledged if left out.",
    )


class GetUpdates(Arguments):
    context_id: str = ContextId
    after: int = Field(0, ge=0, le=MAX_SEQ, description="Only updates past this number.")
    generation: int = Generation
    limit: int = Field(20, ge=1, le=PAGE, description="Most updates in the answer.")


class GetFolded(Arguments):
    context_id: str = ContextId
    seq: int = Field(ge=1, le=MAX_SEQ, description="The number of an update of kind digest.")
    after: int = Field(0, ge=0, le=MAX_SEQ, description="Only places past this one.")
    limit: int = Field(20, ge=1, le=PAGE, description="Most updates in the answer.")


class Acknowledge(Arguments):
    context_id: str = ContextId
    seq: int = Field(ge=0, le=MAX_SEQ, description="Everything up to this number has been read.")
    generation: int = Generation


class ReplayEvent(Arguments):
    event_id: str = EventId
    context_id: str = ContextId


Call = Callable[["Hookstream", Caller, Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A tool: its arguments, and what it does with them."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    call: Call
    writes: bool = False
    idempotent: bool = False

    def listed(self) -> Tool:
        """The tool as clients see it."""
        return Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.arguments.model_json_schema(),
            annotations=ToolAnnotations(
                read_only_hint=not self.writes,
                destructive_hint=False,
                idempotent_hint=self.idempotent or not self.writes,
                open_world_hint=False,
            ),
        )


async def own_contexts(
    app: "Hookstream", caller: Caller, after: str = "", limit: int = PAGE
) -> list[dict[str, Any]]:
    """The caller's contexts in the order of their ids, past ``after``."""
    registry = await app.parts.registry.reload()
    mine = sorted(
        (
            context
            for (tenant, context_id), context in registry.contexts.items()
            if tenant == caller.tenant
            and context_id > after
            and (caller.contexts is None or context_id in caller.contexts)
        ),
        key=lambda context: context.context_id,
    )
    found = []
    for context in mine[:limit]:
        last = await app.parts.feeds.last_seq(context.tenant, context.context_id)
        read = await app.parts.feeds.acknowledged(context.tenant, context.context_id)
        found.append(
            {
                "context_id": context.context_id,
                "name": context.name,
                "priority": context.priority,
                "token_budget": context.token_budget,
                "last_seq": last,
                "acknowledged_seq": read,
                "unread": await app.parts.feeds.unread(context.tenant, context.context_id, read),
            }
        )
    return found


async def read_updates(
    app: "Hookstream",
    caller: Caller,
    context_id: str,
    after: int,
    limit: int,
    generation: int = 0,
) -> dict[str, Any]:
    """A page of a context's updates; ``next_after`` is where to go on.

    ``reset`` is there where Redis has lost data since: numbers begin anew, and what is missing.

    Raises:
        ForbiddenError, NotFoundError: it is none of the caller's.
    """
    context = await _context(app, caller, context_id)
    page = await app.parts.resets.page((context.tenant, context_id), after, generation, limit)
    return {
        "context_id": context_id,
        **page.told(),
        "updates": page.updates,
        "next_after": page.after,
        "generation": page.generation,
        "last_seq": page.last,
    }


async def _context(app: "Hookstream", caller: Caller, context_id: str) -> Any:
    caller.check(context_id)
    return await app.parts.registry.context(caller.tenant, context_id)


async def _list_contexts(
    app: "Hookstream", caller: Caller, arguments: NoArguments
) -> dict[str, Any]:
    return {"contexts": await own_contexts(app, caller)}


async def _search(app: "Hookstream", caller: Caller, arguments: SearchEvents) -> dict[str, Any]:
    context_id = arguments.context_id
    if caller.contexts is not None:
        if context_id is None and len(caller.contexts) == 1:
            [context_id] = caller.contexts
        if context_id is None:
            raise BadRequestError("context_id: name one of this key's contexts")
        caller.check(context_id)
    wanted = EventFilter(
        tool=arguments.tool,
        type=arguments.type,
        status=arguments.status,
        context=context_id,
        since=parse_time("since", arguments.since),
        until=parse_time("until", arguments.until),
        cursor=uuid7(arguments.cursor, "cursor") if arguments.cursor else None,
        limit=arguments.limit,
    )
    events = await app.parts.events.search(caller.tenant, wanted)
    more = len(events) == wanted.limit
    return {"events": events, "cursor": events[-1]["event_id"] if more else None}


async def _get_event(app: "Hookstream", caller: Caller, arguments: GetEvent) -> dict[str, Any]:
    event_id = uuid7(arguments.event_id, "event_id")
    return cut(await visible_event(app.parts.events, caller, event_id))


async def _get_digest(app: "Hookstream", caller: Caller, arguments: GetDigest) -> dict[str, Any]:
    context = await _context(app, caller, arguments.context_id)
    budget = arguments.budget or digest_budget(context.token_budget)
    digest = await read_digest(
        app.parts.feeds, context.tenant, context.context_id, budget, arguments.after
    )
    # the groups repeat the text with all their ids: get_updates gives those by number
    return {name: value for name, value in digest.items() if name not in ("groups", "omitted")}


async def _get_updates(app: "Hookstream", caller: Caller, arguments: GetUpdates) -> dict[str, Any]:
    return await read_updates(
        app,
        caller,
        arguments.context_id,
        arguments.after,
        arguments.limit,
        arguments.generation,
    )


async def _get_folded(app: "Hookstream", caller: Caller, arguments: GetFolded) -> dict[str, Any]:
    context = await _context(app, caller, arguments.context_id)
    who = (context.tenant, context.context_id)
    updates = await app.parts.feeds.folded(*who, arguments.seq, arguments.after, arguments.limit)
    return {"context_id": context.context_id, "seq": arguments.seq, "updates": updates}


async def _acknowledge(app: "Hookstream", caller: Caller, arguments: Acknowledge) -> dict[str, Any]:
    context = await _context(app, caller, arguments.context_id)
    kept = await app.parts.feeds.acknowledge(
        context.tenant, context.context_id, arguments.seq, arguments.generation
    )
    return {"context_id": context.context_id, "acknowledged_seq": kept}


async def _replay(app: "Hookstream", caller: Caller, arguments: ReplayEvent) -> dict[str, Any]:
    context = await _context(app, caller, arguments.context_id)
    event_id = uuid7(arguments.event_id, "event_id")
    event = await visible_event(app.parts.events, caller, event_id)
    reached = {delivery["context_id"] for delivery in event.get("deliveries", ())}
    if caller.contexts is not None and context.context_id not in reached:
        # a key must not carry an event from one of its contexts into another
        raise NotFoundError(f"event {event_id} has not reached context {context.context_id}")
    parts = app.parts
    single = SingleReplay(
        registry=parts.registry,
        events=parts.events,
        replays=parts.replays,
        appender=parts.appender,
    )
    replay_id = await single.send(caller.tenant, event_id, context.context_id)
    return {"replay_id": replay_id, "event_id": event_id, "context_id": context.context_id}


TOOLS = {
    tool.name: tool
    for tool in (
        AgentTool(
            "list_contexts",
            "List contexts",
            "The contexts that this key may read, and how much in each is unread.",
            NoArguments,
            _list_contexts,
        ),
        AgentTool(
            "get_digest",
            "What is new",
            "What is unread in a context, folded into a token budget: critical updates word for "
            "word, the rest by what it is about. Numbers such as #17 are updates: fetch them with "
            "get_updates. Read this first, then acknowledge its last_seq.",
            GetDigest,
            _get_digest,
        ),
        AgentTool(
            "get_updates",
            "Read updates",
            "A context's updates in their order, past a number. Nothing is marked as read. With a "
            "reset, some that you have not read are lost: it names them, and where to go on.",
            GetUpdates,
            _get_updates,
        ),
        AgentTool(
            "get_folded",
            "Open a digest",
            "The single updates that an update of kind digest stands for; ~3 in its text is the "
            "one in place 3.",
            GetFolded,
            _get_folded,
        ),
        AgentTool(
            "search_events",
            "Search events",
            "Past events, newest first, by source, type, status and time; without payloads.",
            SearchEvents,
            _search,
        ),
        AgentTool(
            "get_event",
            "Show an event",
            "One event with its payload as it was received, and where it was delivered. Long "
            "payloads are cut (payload_cut).",
            GetEvent,
            _get_event,
        ),
        AgentTool(
            "acknowledge",
            "Acknowledge",
            "Say that a context's updates up to a number have been read. It never goes back.",
            Acknowledge,
            _acknowledge,
            writes=True,
            idempotent=True,
        ),
        AgentTool(
            "replay_event",
            "Replay an event",
            "Deliver an event to a context once more, as a new update that is marked as a replay.",
            ReplayEvent,
            _replay,
            writes=True,
        ),
    )
}
