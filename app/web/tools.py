"""``/api/v1/tools``: the sources of webhooks."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.addresses import networks_of
from hookstream.app.durations import duration_seconds, duration_text
from hookstream.app.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    SchemaRegistryError,
    SealingKeyError,
    UnavailableError,
)
from hookstream.app.failures.dead_letters import DeadLetterFilter, DeadLetters
from hookstream.app.ids import DEFAULT_TENANT, own_tool_id
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.privacy.rules import ALONG, Rules
from hookstream.app.providers import (
    Provider,
    check_options,
    check_secrets,
    is_pending,
    provider,
    weak_secrets,
)
from hookstream.app.providers.signatures.option_checks import read_options
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.routing.queues import Queue, SqsSource, SqsTarget
from hookstream.app.routing.topics import KafkaSource
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.settings import Settings
from hookstream.app.sqs.moves import Moves
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.holds import HoldStore, refuse
from hookstream.app.web.access import (
    CALLER_KEY,
    TENANT_KEY,
    Caller,
    path_tool,
    query_tool,
    read_model,
)
from hookstream.app.web.events import check_query
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.models.tools import (
    PURGE_QUERY,
    LearntSecretOut,
    SourceIn,
    ToolIn,
    ToolList,
    ToolOut,
)
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.quotas import Quotas
from hookstream.app.web.recorded import note
from hookstream.app.web.routes import Route
from hookstream.app.web.tenant_masking import checked_rules
from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.json_payload import dump_json

__all__ = ["ToolViews"]

logger = get_logger(__name__)

DAY_SECONDS = 86_400
#: Without a login, which no sender signs, and without a query, which each request has its own of.
PUBLIC_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!\"$->@-~]*)?"
)

TOOL = "/api/v1/tools/{tool_id}"
#: Of what each message of a queue says of whom it is.
MAX_AUTH_CONTEXT_BYTES = 4096
#: Dead letters that are looked for and discarded in one go.
PURGED_AT_ONCE = 500
WAITING_UNKNOWN = "Redis cannot say at the moment what waits for old workers: try again"


class ToolViews:
    """Make, change, show and delete tools."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        schemas: SchemaStore,
        quotas: Quotas,
        functions: Mapping[str, DedupFunction],
        dead_letters: DeadLetters,
        refusals: Refusals,
        dictionaries: Dictionaries,
        trail: AuditTrail,
        holds: HoldStore,
        moves: Moves,
    ) -> None:
        self._holds = holds
        self._moves = moves
        self._trail = trail
        self._dead_letters = dead_letters
        self._refusals = refusals
        self._dictionaries = dictionaries
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._schemas = schemas
        self._quotas = quotas
        self._functions = functions

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/tools",
                self.list,
                "List the tools",
                gives=ToolList,
                errors=(400,),
                query=PAGE_QUERY,
            ),
            Route(
                "PUT",
                TOOL,
                self.put,
                "Make or change a tool",
                takes=ToolIn,
                gives=ToolOut,
                errors=(400, 409, 503),
                query=PURGE_QUERY,
            ),
            Route(
                "POST",
                f"{TOOL}/learnt-secret",
                self.show_learnt_secret,
                "Show, once, the secret that the sender handed over in its first request",
                gives=LearntSecretOut,
                errors=(404,),
            ),
            Route("GET", TOOL, self.get, "Show a tool", gives=ToolOut, errors=(404,)),
            Route(
                "DELETE",
                TOOL,
                self.delete,
                "Delete a tool; with purge its dead letters, refusals and dictionary, too",
                status=204,
                errors=(400, 404, 409, 503),
                query=PURGE_QUERY,
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenant's tools."""
        limit, after = asked_page(request.query)
        # a cursor is a tool's own id
        past = query_tool(request, after) if after else ""
        rows = await self._postgres.fetch(statement("tools"), request[TENANT_KEY], past, limit)
        cursor = next_cursor(limit, [own_tool_id(row["tool_id"]) for row in rows])
        return json_response({"tools": await self._out(rows), "cursor": cursor})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a tool; in force in this process when the answer comes."""
        tool_id, purge = path_tool(request), asked_purge(request)
        tool = await read_model(self._settings, request, ToolIn)
        kind = provider(tool.provider)
        before = self._catalog.current.tools.get(tool_id)
        known = before.secrets if before and before.tenant == request[TENANT_KEY] else ()
        given = options(tool)
        check_options(kind, given)
        check_secrets(kind, tool.secrets, known, given)
        check_moving(before, tool)
        ends_copies = tool.forward is None and before is not None and before.forward is not None
        if ends_copies:
            await self._check_copies(tool_id, purge=purge)
        # what it has learnt is not for the caller to say again
        keeps_secrets = kind.learns(given) and not tool.secrets
        tenant = request[TENANT_KEY]
        row = await self._quotas.put(
            "tools",
            tenant,
            statement("put_tool"),
            tool_id,
            tenant,
            kind.name,
            await self._catalog.secrets.sealed(tenant, tool_id, tool.secrets),
            tool.options,
            dedup(tool, kind, self._functions, self._settings.dedup_history_days),
            ordering(tool),
            tool.ttl.model_dump(),
            tool.alert.model_dump(exclude_none=True),
            await payload_schema(self._schemas, tenant, tool),
            tool.webhooks_per_second,
            allow_from(tool),
            public_url(tool),
            self._quotas.most("tools", tenant),
            keeps_secrets,
            masking(
                tool,
                self._catalog.current.masking.get(tenant, ALONG),
                has_key=bool(self._settings.pseudonym_key),
            ),
            source(tool, tenant, self._settings, self._others(tool_id)),
            forward(tool, tenant, self._settings, self._others(tool_id)),
        )
        if row is None:
            if not await self._postgres.fetchrow("SELECT FROM tools WHERE tool_id = $1", tool_id):
                await self._quotas.check(tenant, "tools")
            raise ConflictError(f"the tool id {own_tool_id(tool_id)} is taken: choose another")
        await self._catalog.reload()
        if ends_copies:
            await self._give_up_copies(tool_id)
        if weak := weak_secrets(kind.name, tool.secrets):
            logger.warning(
                "tool %s has %d weak secrets: set random ones, at the provider, too", tool_id, weak
            )
        [out] = await self._out([row])
        return json_response(out, status=201 if row["created"] else 200)

    def _others(self, tool_id: str) -> Sequence[Tool]:
        """All tools but one: which queues those have."""
        return [one for one in self._catalog.current.tools.values() if one.tool_id != tool_id]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One tool."""
        tool_id = path_tool(request)
        row = await self._postgres.fetchrow(statement("tool"), tool_id, request[TENANT_KEY])
        if row is None:
            raise NotFoundError(f"there is no tool {own_tool_id(tool_id)}")
        [out] = await self._out([row])
        return json_response(out)

    async def _out(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        """Tools as the API shows them."""
        sealed = self._catalog.secrets
        await sealed.prepare(rows)
        shown = []
        for row in rows:
            try:
                secrets, trouble = sealed.opened(row), ""
            except SealingKeyError as error:
                secrets, trouble = (), str(error)
            shown.append(tool_out(row, secrets) | {"secrets_trouble": trouble})
        return shown

    async def show_learnt_secret(self, request: web.Request) -> web.StreamResponse:
        """A secret that the tool has learnt: some senders want it to be pasted at theirs."""
        tool_id = path_tool(request)
        secrets, tenant = self._catalog.secrets, request[TENANT_KEY]
        row = await self._postgres.fetchrow(statement("tool"), tool_id, tenant)
        if row is not None and row["learnt_secret"] is not None:
            await secrets.prepare([row])
            # it is shown once: not before it can be
            [secret] = secrets.opened(row, "learnt_secret")
            row = await self._postgres.fetchrow(statement("show_learnt_secret"), tool_id, tenant)
        if row is None or row["learnt_secret"] is None:
            raise NotFoundError(
                f"tool {own_tool_id(tool_id)} has learnt no secret that has not been shown: to "
                "learn one anew delete it, make it without secrets, and have the sender try out "
                "the address again"
            )
        return json_response({"secret": secret})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a tool; its events stay.

        With ``purge`` its dead letters and refused webhooks are discarded, and a tool of its name
        that is made later begins without its dictionary. What was packed with that stays readable.
        """
        tool_id, purge = path_tool(request), asked_purge(request)
        hold = await self._holds.check(request[TENANT_KEY], tool_id=tool_id)
        if hold is not None:
            raise ConflictError(refuse(hold, f"the tool {tool_id}"))
        await self._check_left(request[TENANT_KEY], tool_id, purge=purge)
        if purge:
            await self._purge(request[CALLER_KEY], tool_id)
        tag = await self._postgres.execute(statement("delete_tool"), tool_id, request[TENANT_KEY])
        if tag == "DELETE 0":
            raise NotFoundError(f"there is no tool {own_tool_id(tool_id)}")
        await self._catalog.reload()
        if purge:
            await self._give_up_copies(tool_id)
        return web.Response(status=204)

    async def _check_left(self, tenant: str, tool_id: str, *, purge: bool) -> None:
        """Refuse to delete a tool while events of it wait for old workers.

        Raises ConflictError; UnavailableError where that cannot be looked at.
        """
        row = await self._postgres.fetchrow(statement("tool"), tool_id, tenant)
        if row is None or row["forward"] is None:
            return
        migration = row["migration"]
        if migration is not None and migration["mode"] not in ("sqs", "only"):
            raise ConflictError(
                f"the tool moves from old workers to here, and is in mode {migration['mode']}: "
                "shift it to `sqs` or to `only` first, so that nothing is left in between"
            )
        try:
            keys = sum([1 async for _ in self._moves.hand_overs(tool_id)])
        except REDIS_ERRORS as error:
            raise UnavailableError(WAITING_UNKNOWN) from error
        if keys:
            raise ConflictError(
                f"{keys} ordering keys wait for old workers to be through with them: have their "
                "marks confirmed (`hookstream migrate confirm`), or shift it to `sqs`, and what "
                "waits goes to old workers"
            )
        await self._check_copies(tool_id, purge=purge)

    async def _check_copies(self, tool_id: str, *, purge: bool) -> None:
        """Refuse that a tool has no queue any more while something waits for that.

        Raises ConflictError; UnavailableError where that cannot be looked at.
        """
        try:
            copies = await self._moves.copies(tool_id)
        except REDIS_ERRORS as error:
            raise UnavailableError(WAITING_UNKNOWN) from error
        if copies and not purge:
            raise ConflictError(
                f"{copies} events are still to be copied into its queue: wait until they are, or "
                "say ?purge=true, and they are not"
            )

    async def _give_up_copies(self, tool_id: str) -> None:
        """Drop what waits for its queue now, not for a tool that is made under its name later."""
        try:
            given_up = await self._moves.give_up(tool_id)
        except REDIS_ERRORS as error:
            # workers do it within some minutes
            logger.warning("tool %s: what waits for its queue is dropped later: %s", tool_id, error)
            return
        if given_up:
            metrics.SQS_NOT_SENT.labels(tool=tool_id, reason="forgotten").inc(given_up)
            logger.warning(
                "tool %s has no queue any more: %d events that were to be copied into it are not",
                tool_id,
                given_up,
            )

    async def _purge(self, caller: Caller, tool_id: str) -> None:
        tenant = caller.tenant
        known = await self._postgres.fetchrow(statement("tool"), tool_id, tenant)
        if known is None:
            raise NotFoundError(f"there is no tool {own_tool_id(tool_id)}")
        try:
            wanted = DeadLetterFilter(tool=own_tool_id(tool_id))
            page = await self._dead_letters.find(tenant, wanted, PURGED_AT_ONCE)
            while True:
                names = [one["letter_id"] for one in page.letters]
                if names:
                    await self._note_purge(caller, tool_id, page.letters)
                await self._dead_letters.discard(tenant, names)
                if page.next is None:
                    break
                page = await self._dead_letters.find(tenant, wanted, PURGED_AT_ONCE, page.next)
            await self._dictionaries.forget(tool_id)
            await self._refusals.forget(tenant, tool_id)
        except REDIS_ERRORS as error:
            raise UnavailableError(
                "Redis cannot do it at the moment, and the tool is still there: try again"
            ) from error

    async def _note_purge(
        self, caller: Caller, tool_id: str, letters: Sequence[Mapping[str, Any]]
    ) -> None:
        events = sorted({one["event_id"] for one in letters if one["event_id"]})
        done, about = "dead_letter.discarded", ("tool", tool_id)
        await note(self._trail, caller.tenant, caller.acting, done, about, events)


def asked_purge(request: web.Request) -> bool:
    """Whether what waits is to be given up. Raises BadRequestError."""
    check_query(request.query, PURGE_QUERY)
    if (purge := request.query.get("purge", "false")) not in ("true", "false"):
        raise BadRequestError("purge: true or false")
    return purge == "true"


def options(tool: ToolIn) -> SignatureOptions:
    """The tool's signature options. Raises BadRequestError."""
    try:
        return read_options(tool.options)
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"options: {error}") from error


def allow_from(tool: ToolIn) -> list[str]:
    """The networks as they are kept, each once. Raises BadRequestError."""
    try:
        return list(dict.fromkeys(map(str, networks_of(tool.allow_from))))
    except ValueError as error:
        raise BadRequestError(f"allow_from: {error}") from error


def public_url(tool: ToolIn) -> str:
    """The address that the sender calls. Raises BadRequestError."""
    if tool.public_url and not PUBLIC_URL.fullmatch(tool.public_url):
        raise BadRequestError(
            "public_url: https:// (or http://) and a host, as in https://hooks.example.com, or the "
            "whole address as the sender has it, without its query"
        )
    return tool.public_url


def masking(tool: ToolIn, tenant: Rules, *, has_key: bool) -> dict[str, Any] | None:
    """The rules for personal data; ``tenant``: those that stand behind them.

    Raises BadRequestError, naming what is wrong with them.
    """
    if tool.masking is None:
        return None
    try:
        checked_rules(tool.masking, has_key=has_key).before(tenant).check()
    except ValueError as error:
        raise BadRequestError(f"masking.{error}") from error
    return tool.masking.model_dump()


def source(
    tool: ToolIn, tenant: str, settings: Settings, others: Iterable[Tool]
) -> dict[str, Any] | None:
    """The queue, or topic, that its events come out of. Raises BadRequestError, naming what is
    wrong.
    """
    if tool.source is None:
        return None
    if (tool.source.sqs is None) == (tool.source.kafka is None):
        raise BadRequestError("source: either sqs or kafka, and not both")
    if tool.source.kafka is not None:
        return kafka_source(tool.source, tenant, settings)
    given = tool.source.model_dump(exclude_none=True)
    try:
        queue = SqsSource.from_dict(given).queue
    except ValueError as error:
        raise BadRequestError(f"source.sqs.{error}") from error
    check_queue("source", queue, tenant, settings)
    for other in others:
        if other.forward is not None and other.forward.queue.url == queue.url:
            raise BadRequestError(
                f"source.sqs.queue_url: events of {own_tool_id(other.tool_id)} are copied into "
                "it: they could go round"
            )
        if isinstance(other.source, SqsSource) and other.source.queue.url == queue.url:
            raise BadRequestError(
                f"source.sqs.queue_url: it is the source of {own_tool_id(other.tool_id)} already, "
                "and each message would be of one tool or of the other"
            )
    return given


def kafka_source(given: SourceIn, tenant: str, settings: Settings) -> dict[str, Any]:
    """A topic that events come out of. Raises BadRequestError, naming what is wrong.

    It is read with the credentials of the installation, which may read others' topics, too.
    """
    kept = given.model_dump(exclude_none=True)
    try:
        topic = KafkaSource.from_dict(kept).topic
    except ValueError as error:
        raise BadRequestError(f"source.kafka.{error}") from error
    if tenant != DEFAULT_TENANT:
        raise BadRequestError(
            "source: topics are for tools of the installation's own tenant: they are read with "
            "its credentials. Have your service call /hooks/{tenant}/{tool_id}"
        )
    if not settings.kafka_url:
        raise BadRequestError(
            "source.kafka: there is no Kafka here: have whoever runs this set "
            "HOOKSTREAM_KAFKA_URL, for all processes"
        )
    if topic in (settings.kafka_events_topic, settings.kafka_updates_topic):
        raise BadRequestError(
            "source.kafka.topic: events, or updates, are mirrored to it: they would go round"
        )
    if not settings.may_read_topic(topic):
        raise BadRequestError(
            "source.kafka.topic: it is none of HOOKSTREAM_KAFKA_TOPICS, which says what topics "
            "tools may name: have whoever runs this add it, for all processes"
        )
    return kept


def forward(
    tool: ToolIn, tenant: str, settings: Settings, others: Iterable[Tool]
) -> dict[str, Any] | None:
    """The queue that its events are copied into. Raises BadRequestError, naming what is wrong."""
    if tool.forward is None:
        return None
    given = tool.forward.model_dump()
    try:
        queue = SqsTarget.from_dict(given).queue
    except ValueError as error:
        raise BadRequestError(f"forward.sqs.{error}") from error
    if len(dump_json(given["sqs"]["auth_context"])) > MAX_AUTH_CONTEXT_BYTES:
        raise BadRequestError(
            f"forward.sqs.auth_context: {MAX_AUTH_CONTEXT_BYTES} bytes of JSON at most: each "
            "message has it"
        )
    check_queue("forward", queue, tenant, settings)
    read = {
        other.source.queue.url: own_tool_id(other.tool_id)
        for other in others
        if isinstance(other.source, SqsSource)
    }
    if tool.source is not None and tool.source.sqs is not None:
        read[tool.source.sqs.queue_url] = "this tool"
    if queue.url in read:
        raise BadRequestError(
            f"forward.sqs.queue_url: it is the source of {read[queue.url]}: events would go round"
        )
    return given


def check_queue(name: str, queue: Queue, tenant: str, settings: Settings) -> None:
    """Refuse a queue that is not for this tool to name. Raises BadRequestError.

    It is asked with the credentials of the installation, which may have others' queues, too.
    """
    if tenant != DEFAULT_TENANT:
        raise BadRequestError(
            f"{name}: queues are for tools of the installation's own tenant: they are asked with "
            "its credentials. Have your service call /hooks/{tenant}/{tool_id}"
        )
    if not settings.may_ask_queue(queue.url):
        raise BadRequestError(
            f"{name}.sqs.queue_url: it is none of HOOKSTREAM_SQS_QUEUES, which says what queues "
            "tools may name: have whoever runs this add it, for all processes"
        )


def check_moving(before: Tool | None, tool: ToolIn) -> None:
    """Refuse what would tear a move apart that is under way. Raises ConflictError."""
    if before is None or before.migration is None or before.forward is None:
        return
    said = "the tool moves from old workers to here (GET /api/v1/tools/{tool_id}/migration)"
    end = "shift it to `only`, and end the move"
    if tool.forward is None or tool.forward.sqs.queue_url != before.forward.queue.url:
        raise ConflictError(
            f"forward: {said}, by this queue: {end}. To leave everything to old workers have the "
            "webhooks sent to them, and delete the tool in mode `sqs`"
        )
    if (tool.ordering.by, tool.ordering.field) != (before.order_by, before.order_field):
        raise ConflictError(f"ordering: {said}, key by key: {end}")


async def payload_schema(schemas: SchemaStore, tenant: str, tool: ToolIn) -> dict[str, str] | None:
    """The schema rule. Raises BadRequestError when the subject has no schema that can be used."""
    given = tool.payload_schema
    if given is None:
        return None
    try:
        version = await schemas.version(tenant, given.subject, -1)
        schema = await schemas.parsed(tenant, version)
        schema.violations({})
    except (SchemaRegistryError, InvalidSchemaError) as error:
        raise BadRequestError(f"schema.subject: {error} Register it at /registry first") from error
    return given.model_dump()


def dedup(
    tool: ToolIn, kind: Provider, functions: Collection[str], history_days: int
) -> dict[str, Any]:
    """The dedup rule with the provider's defaults filled in. Raises BadRequestError.

    ``functions`` are the names of dedup functions that there are.
    """
    given = tool.dedup
    strategy = given.strategy or kind.dedup_strategy
    if not given.strategy and names_deliveries(tool):
        # what the sender says tells copies apart, a body does not
        strategy = "delivery"
    fields = given.fields or (list(kind.dedup_fields) if strategy == "fields" else [])
    if strategy == "fields" and not fields:
        raise BadRequestError('dedup.fields: strategy "fields" needs at least one, as in ["id"]')
    if given.fields and strategy != "fields":
        raise BadRequestError('dedup.fields: only strategy "fields" takes them')
    window = kind.dedup_window_seconds
    if strategy != kind.dedup_strategy:
        # a body that comes again may well be another event, an id that does is none
        window = max(window, DAY_SECONDS)
    if given.window:
        window = duration_seconds(given.window)
    rule = {"strategy": strategy, "fields": fields, "window_seconds": window}
    if strategy == "custom" and given.name not in functions:
        known = ", ".join(sorted(functions)) or "none yet: see docs/dedup.md"
        asked = f"there is no dedup function {given.name!r}" if given.name else "which function?"
        raise BadRequestError(f"dedup.name: {asked} (there are: {known})")
    if given.name and strategy != "custom":
        raise BadRequestError('dedup.name: only strategy "custom" takes it')
    if given.name:
        rule["name"] = given.name
    if given.history:
        rule["history_seconds"] = history_seconds(given.history, strategy, window, history_days)
    return rule


def names_deliveries(tool: ToolIn) -> bool:
    """Whether the options say where a delivery's id stands."""
    return bool(tool.options.get("delivery_header") or tool.options.get("delivery_field"))


def history_seconds(history: str, strategy: str, window_seconds: int, days: int) -> int:
    """How far back history goes. Raises BadRequestError where it would find nothing."""
    seconds = duration_seconds(history)
    if strategy == "none":
        raise BadRequestError('dedup.history: with strategy "none" there are no duplicates')
    if seconds > days * 86_400:
        raise BadRequestError(
            f"dedup.history: at most {days}d here (HOOKSTREAM_DEDUP_HISTORY_DAYS)"
        )
    if seconds <= window_seconds:
        raise BadRequestError(
            f"dedup.history: longer than the window ({duration_text(window_seconds)}), "
            "which finds everything within itself"
        )
    return seconds


def ordering(tool: ToolIn) -> dict[str, str]:
    """The ordering rule. Raises BadRequestError."""
    if (tool.ordering.by == "field") != bool(tool.ordering.field):
        raise BadRequestError(
            'ordering.field: goes with by "field", as in {"by": "field", '
            '"field": "pull_request.id"}'
        )
    if tool.ordering.by == "none" and tool.ordering.on_error == "hold":
        raise BadRequestError(
            'ordering.on_error: "hold" needs an order to keep: by "tool" or "field"'
        )
    return tool.ordering.model_dump()


def tool_out(row: Mapping[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    """A tool as the API shows it. ``secrets``: those that could be opened, in the clear."""
    rule = row["dedup"]
    return {
        "tool_id": own_tool_id(row["tool_id"]),
        "provider": row["provider"],
        "secret_count": len(row["secrets"]),
        "weak_secret_count": weak_secrets(row["provider"], secrets),
        "pending": is_pending(row["provider"], row["secrets"], row["options"]),
        "learnt_secret_waits": row["learnt_secret"] is not None,
        "options": row["options"],
        "dedup": {
            "strategy": rule["strategy"],
            "fields": rule["fields"],
            "window": duration_text(rule["window_seconds"]),
            "name": rule.get("name"),
            "history": duration_text(rule["history_seconds"])
            if "history_seconds" in rule
            else None,
        },
        "ordering": row["ordering"],
        "ttl": row["ttl"],
        "alert": row["alert"],
        "schema": row["payload_schema"],
        "webhooks_per_second": row["webhooks_per_second"],
        "allow_from": row["allow_from"],
        "public_url": row["public_url"],
        "masking": row["masking"],
        "source": row["source"],
        "forward": row["forward"],
        "forwarded_since": row["forwarded_since"] and row["forwarded_since"].isoformat(),
        "path": f"/hooks/{row['tool_id']}",
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }
