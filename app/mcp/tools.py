"""The tools of the MCP server: what an agent may ask for, limited to its key's contexts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp_types import Tool, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.feeds.digests import MAX_BUDGET, MIN_BUDGET, digest_budget
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.resets import Resets
from hookstream.app.ids import full_tool_id
from hookstream.app.mcp.reading import PAGE, AgentReader
from hookstream.app.mcp.untrusted import cut
from hookstream.app.postgres.acting import acting
from hookstream.app.status import Status
from hookstream.app.stores.events import EventFilter, EventStore
from hookstream.app.web.access import Caller, uuid7
from hookstream.app.web.events import parse_time
from hookstream.app.web.feeds import read_digest
from hookstream.app.web.models.fields import ID_PATTERN
from hookstream.app.web.replays import SingleReplay

__all__ = ["TOOLS", "AgentTool", "AgentTools"]

MAX_SEQ = 2**53


class Arguments(BaseModel):
    """Arguments of a tool: what is not listed is refused."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


ContextId = Field(pattern=ID_PATTERN, description="The context's id; list_contexts names them.")
Generation = Field(
    0, ge=0, le=MAX_SEQ, description="The generation that came with that number, if you have it."
)
EventId = Field(description="The event's id, as updates and searches give it.")


class ListContexts(Arguments):
    cursor: str | None = Field(
        None, max_length=512, description="Where the last page ended; they come by their ids."
    )
    limit: int = Field(PAGE, ge=1, le=PAGE, description="Most contexts in the answer.")


class SearchEvents(Arguments):
    context_id: str | None = Field(
        None,
        pattern=ID_PATTERN,
        description="Only what reached this context. May be left out by a key with one context.",
    )
    tool: str | None = Field(None, max_length=128, description="Only of this tool (source).")
    type: str | None = Field(
        None,
        max_length=256,
        description="Event type; * stands for anything: pull_request.*",
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


Call = Callable[["AgentTools", Caller, Any], Awaitable[dict[str, Any]]]


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


class AgentTools:
    """What each tool does for a caller."""

    def __init__(
        self,
        *,
        reader: AgentReader,
        feeds: Feeds,
        resets: Resets,
        events: EventStore,
        single_replay: SingleReplay,
    ) -> None:
        self._reader = reader
        self._feeds = feeds
        self._resets = resets
        self._events = events
        self._single_replay = single_replay

    async def list_contexts(self, caller: Caller, arguments: ListContexts) -> dict[str, Any]:
        """A page of what the caller may read."""
        limit = arguments.limit
        contexts = await self._reader.contexts(caller, arguments.cursor or "", limit)
        more = len(contexts) == limit
        return {"contexts": contexts, "cursor": contexts[-1]["context_id"] if more else None}

    async def search_events(self, caller: Caller, arguments: SearchEvents) -> dict[str, Any]:
        """A page of events that reached one of the caller's contexts."""
        context_id = arguments.context_id
        if caller.contexts is not None:
            if context_id is None and len(caller.contexts) == 1:
                [context_id] = caller.contexts
            if context_id is None:
                raise BadRequestError("context_id: name one of this key's contexts")
            caller.check(context_id)
        if "\0" in f"{arguments.tool}{arguments.type}":
            raise BadRequestError("tool, type: text without NUL")
        wanted = EventFilter(
            tool=None if arguments.tool is None else full_tool_id(caller.tenant, arguments.tool),
            type=arguments.type,
            status=arguments.status,
            context=context_id,
            since=parse_time("since", arguments.since),
            until=parse_time("until", arguments.until),
            cursor=uuid7(arguments.cursor, "cursor") if arguments.cursor else None,
            limit=arguments.limit,
        )
        events, cursor = await self._events.search(caller.tenant, wanted)
        return {"events": events, "cursor": cursor}

    async def get_event(self, caller: Caller, arguments: GetEvent) -> dict[str, Any]:
        """One event, with the beginning of its payload."""
        event_id = uuid7(arguments.event_id, "event_id")
        return cut(await self._reader.event(caller, event_id))

    async def get_digest(self, caller: Caller, arguments: GetDigest) -> dict[str, Any]:
        """What is unread, folded into a token budget."""
        context = await self._reader.context(caller, arguments.context_id)
        budget = arguments.budget or digest_budget(context.token_budget)
        digest = await read_digest(
            self._feeds, self._resets, caller, context.context_id, budget, arguments.after
        )
        # the groups repeat the text with all their ids: get_updates gives those by number
        return {name: value for name, value in digest.items() if name not in ("groups", "omitted")}

    async def get_updates(self, caller: Caller, arguments: GetUpdates) -> dict[str, Any]:
        """A page of a context's updates."""
        return await self._reader.updates(
            caller,
            arguments.context_id,
            arguments.after,
            arguments.limit,
            arguments.generation,
        )

    async def get_folded(self, caller: Caller, arguments: GetFolded) -> dict[str, Any]:
        """A page of what a digest update stands for."""
        context = await self._reader.context(caller, arguments.context_id)
        who = (context.tenant, context.context_id)
        updates = await self._feeds.coalesced(*who, arguments.seq, arguments.after, arguments.limit)
        return {"context_id": context.context_id, "seq": arguments.seq, "updates": updates}

    async def acknowledge(self, caller: Caller, arguments: Acknowledge) -> dict[str, Any]:
        """Keep what has been read."""
        context = await self._reader.context(caller, arguments.context_id)
        kept = await self._feeds.acknowledge(
            context.tenant, context.context_id, arguments.seq, arguments.generation
        )
        return {"context_id": context.context_id, "acknowledged_seq": kept}

    async def replay_event(self, caller: Caller, arguments: ReplayEvent) -> dict[str, Any]:
        """Send an event to a context that it has reached once more."""
        context = await self._reader.context(caller, arguments.context_id)
        event_id = uuid7(arguments.event_id, "event_id")
        reached = (context.tenant, event_id, context.context_id)
        if caller.contexts is not None and not await self._events.has_reached(*reached):
            # a key must not carry an event from one of its contexts into another
            raise NotFoundError(
                f"there is no event {event_id} that has reached context {context.context_id}"
            )
        with acting(caller.acting):
            replay_id = await self._single_replay.send(caller, event_id, context.context_id)
        return {"replay_id": replay_id, "event_id": event_id, "context_id": context.context_id}


TOOLS = {
    tool.name: tool
    for tool in (
        AgentTool(
            "list_contexts",
            "List contexts",
            "The contexts that this key may read, and how much in each is unread; where there is a "
            "cursor, there are more.",
            ListContexts,
            AgentTools.list_contexts,
        ),
        AgentTool(
            "get_digest",
            "What is new",
            "What is unread in a context, folded into a token budget: critical updates word for "
            "word, the rest by what it is about. Numbers such as #17 are updates: fetch them with "
            "get_updates. Read this first, then acknowledge its last_seq. With truncated, the "
            "oldest of what is unread are kept no longer: its digest says what they were about.",
            GetDigest,
            AgentTools.get_digest,
        ),
        AgentTool(
            "get_updates",
            "Read updates",
            "A context's updates in their order, past a number. Nothing is marked as read. With a "
            "reset, some that you have not read are lost: it names them, and where to go on. With "
            "truncated, some are kept no longer: its digest says what they were about.",
            GetUpdates,
            AgentTools.get_updates,
        ),
        AgentTool(
            "get_folded",
            "Open a digest",
            "The single updates that an update of kind digest stands for; ~3 in its text is the "
            "one in place 3.",
            GetFolded,
            AgentTools.get_folded,
        ),
        AgentTool(
            "search_events",
            "Search events",
            "Past events, newest first, by source, type, status and time; without payloads. A page "
            "may have fewer than asked for, or none: while there is a cursor, there may be more.",
            SearchEvents,
            AgentTools.search_events,
        ),
        AgentTool(
            "get_event",
            "Show an event",
            "One event with its payload as it was received, what was added to it (enrichment), and "
            "where it was delivered. Long payloads are cut (payload_cut).",
            GetEvent,
            AgentTools.get_event,
        ),
        AgentTool(
            "acknowledge",
            "Acknowledge",
            "Say that a context's updates up to a number have been read. It never goes back.",
            Acknowledge,
            AgentTools.acknowledge,
            writes=True,
            idempotent=True,
        ),
        AgentTool(
            "replay_event",
            "Replay an event",
            "Deliver an event to a context once more, as a new update that is marked as a replay.",
            ReplayEvent,
            AgentTools.replay_event,
            writes=True,
        ),
    )
}
