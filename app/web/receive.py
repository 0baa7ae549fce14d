"""The receiver: ``POST /hooks/{tool_id}``. 202, or a provider's own 200, means: durable."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import orjson
from aiohttp import web
from structlog.contextvars import bind_contextvars

from hookstream.app import metrics, tasks
from hookstream.app.errors import (
    ConflictError,
    HookstreamError,
    NotFoundError,
    SchemaViolationError,
    UnavailableError,
)
from hookstream.app.ids import new_event_id, partition_of, random_bits
from hookstream.app.ingest.appender import Appender
from hookstream.app.ingest.refusals import Refusal, Refusals
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.providers import PROVIDERS, Answer, Provider
from hookstream.app.providers.provider import JSON
from hookstream.app.providers.signatures.options import AnyAge, SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import REJECT, Catalog, Tool
from hookstream.app.routing.event_keys import (
    DedupFunction,
    custom_message_id,
    message_id,
    ordering_key,
)
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.body import check_size, decode_body, read_body
from hookstream.codecs.envelope import Event

__all__ = ["Receiver", "make_event"]

#: How often, at most, unknown tool ids make a process look into the database.
RELOAD_SECONDS = 0.25
#: Counted for a sender that has gone: nobody hears an answer.
GONE = 499


class Receiver:
    """Verifies, wraps and appends webhooks."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: CatalogCache,
        payloads: Payloads,
        appender: Appender,
        refusals: Refusals,
        functions: Mapping[str, DedupFunction],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._payloads = payloads
        self._appender = appender
        self._refusals = refusals
        self._functions = functions
        self._reloaded_at = -RELOAD_SECONDS
        #: What those wait for that come before it is begun.
        self._next_reload: asyncio.Task[Catalog] | None = None

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody: signatures say who may send."""
        return [web.post("/hooks/{tool_id}", self.post)]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Receive one webhook; answers once Redis has it."""
        tool: Tool | None = None
        came: list[bytes] = []
        status = 500
        try:
            tool = await self._tool(request.match_info["tool_id"])
            response = await self._receive(request, tool, came)
            status = response.status
            return response
        except HookstreamError as error:
            status = error.status
            if self._refusals.count(tool, error.slug):
                self._refusals.keep(tool, _refusal(request, error, came))
            raise
        except (asyncio.CancelledError, ConnectionError):
            status = GONE
            raise
        finally:
            _received(tool.provider if tool else "unknown", status).inc()

    async def _receive(
        self, request: web.Request, tool: Tool, came: list[bytes]
    ) -> web.StreamResponse:
        settings = self._settings
        body = await read_body(
            request, settings.max_body_bytes, settings.body_timeout_seconds, came
        )
        now_ms = time.time_ns() // 1_000_000
        hook = WebhookRequest(
            method=request.method,
            url=self._external_url(_origin(request), request.raw_path),
            headers=_headers(request),
            body=body,
            decoded=body,
        )
        provider = PROVIDERS[tool.provider]
        hook = self._verified(hook, tool, tool.options, now_ms)
        if provider.handshake and (answer := provider.handshake(hook)):
            return _response(answer)
        event_id = await self._accept(hook, tool, now_ms)
        accepted = Answer(202, orjson.dumps({"event_id": event_id, "status": "accepted"}), JSON)
        return _response(provider.answer(hook, accepted) if provider.answer else accepted)

    async def replay(self, refusal: Refusal, tenant: str) -> str:
        """Verify a refused webhook anew, by the tool as it is now, and accept it as one of now.

        The age of its signature's time is not checked. That check is for what strangers send: who
        has overheard a webhook shall not be able to send it again later. Here an operator asks, and
        for what this door has kept itself; by now it is too old for any tolerance.

        Returns the event's id.

        Raises:
            ConflictError: it is refused again, not all of it was kept, or it is no event.
            NotFoundError: there is (still) no such tool of the tenant.
            UnavailableError: it cannot be decided, or kept, now.
        """
        tool = await self._tool(refusal.tool_id)
        if tool.tenant != tenant:
            raise NotFoundError(f"there is no tool {refusal.tool_id!r}")
        if not refusal.whole:
            raise ConflictError(
                f"not all of it was kept ({len(refusal.body)} of {refusal.body_bytes} bytes of its "
                "body), so it cannot be verified: have the sender send it again"
            )
        now_ms = time.time_ns() // 1_000_000
        hook = WebhookRequest(
            method=refusal.method,
            url=self._external_url(refusal.origin, refusal.path),
            headers=refusal.headers,
            body=refusal.body,
            decoded=refusal.body,
        )
        provider = PROVIDERS[tool.provider]
        try:
            check_size(len(hook.body), self._settings.max_body_bytes)
            hook = self._verified(hook, tool, AnyAge(**asdict(tool.options)), now_ms)
            if provider.handshake and provider.handshake(hook):
                raise ConflictError("it only tries out the address: there is no event in it")
            return await self._accept(hook, tool, now_ms)
        except (ConflictError, UnavailableError):
            raise
        except HookstreamError as error:
            raise ConflictError(f"it is refused again ({error.slug}): {error}") from error

    def _verified(
        self, hook: WebhookRequest, tool: Tool, options: SignatureOptions, now_ms: int
    ) -> WebhookRequest:
        """The request with its body decoded, once its signature has been found right."""
        # the signature is over the bytes as sent: verified before anything looks inside
        PROVIDERS[tool.provider].verify(hook, tool.secrets, options, now_ms / 1000)
        if encoding := ",".join(hook.headers.get("content-encoding", ())):
            decoded = decode_body(hook.body, encoding, self._settings.max_body_bytes)
            return replace(hook, decoded=decoded)
        return hook

    async def _accept(self, hook: WebhookRequest, tool: Tool, now_ms: int) -> str:
        """Make a verified request an event, and return its id once that is durable."""
        catalog = self._catalog.current
        event, partition = make_event(
            hook,
            PROVIDERS[tool.provider],
            tool,
            partitions=self._settings.partitions,
            registry_version=catalog.version,
            registry_token=catalog.token,
            now_ms=now_ms,
            random_bits=random_bits(),
            functions=self._functions,
        )
        bind_contextvars(event_id=event.event_id)
        if broken := catalog.violations(event, REJECT):
            raise SchemaViolationError("; ".join(broken))
        entry = await self._payloads.encode_aside(event)
        urgent = tool.tool_id in catalog.urgent_tools
        await self._appender.append(keys.events(partition), entry, urgent=urgent)
        return event.event_id

    async def _tool(self, tool_id: str) -> Tool:
        tool = self._catalog.current.tools.get(tool_id)
        if tool is None:
            # perhaps it was made a moment ago through another process
            try:
                tool = (await self._reloaded()).tools.get(tool_id)
            except UnavailableError as error:
                raise UnavailableError("the tool is not known here yet") from error
        if tool is None and tool_id in self._catalog.current.unreadable_tools:
            raise UnavailableError("the tool cannot be read here: this release may be too old")
        if tool is None:
            raise NotFoundError(
                f"there is no tool {tool_id[:128]!r}: make it with PUT /api/v1/tools/{{tool_id}}"
            )
        return tool

    async def _reloaded(self) -> Catalog:
        """the snapshot as PostgreSQL has it after this call; many calls are one question."""
        if self._next_reload is None:
            self._next_reload = tasks.awaited("Receiver._reload", self._reload())
        return await asyncio.shield(self._next_reload)

    async def _reload(self) -> Catalog:
        await asyncio.sleep(self._reloaded_at + RELOAD_SECONDS - time.monotonic())
        # a webhook that comes from now on may be of a tool that this does not see any more
        self._reloaded_at, self._next_reload = time.monotonic(), None
        return await self._catalog.refresh()

    def _external_url(self, origin: str, path: str) -> str:
        return (self._settings.public_url.rstrip("/") or origin) + path


@cache
def _received(provider: str, status: int) -> Any:
    """The counter of a kind of answer: finding it costs more than counting."""
    return metrics.RECEIVED.labels(provider=provider, status=status)


def make_event(
    hook: WebhookRequest,
    provider: Provider,
    tool: Tool,
    *,
    partitions: int,
    registry_version: int,
    registry_token: int = 0,
    now_ms: int,
    random_bits: int,
    functions: Mapping[str, DedupFunction],
) -> tuple[Event, int]:
    """The event in a verified request, and the partition it belongs to.

    Where the tool's dedup function fails the event has no message id yet: it is kept all the same,
    and the worker asks the function again.
    """
    event_type = provider.event_type(hook, tool.options)
    delivery_id = _printable(provider.delivery_id(hook, tool.options), 256)
    data = None
    if tool.strategy == "fields" or tool.order_by == "field":
        data = _json_or_none(hook.decoded)
    # with ordering "none" the partition follows from the message id, which for strategy "none"
    # is the event id, which carries the partition: random bits break the circle
    unique = f"{now_ms:x}-{random_bits:x}"
    message = message_id(tool, event_type, delivery_id, hook.decoded, data, unique)
    partition = partition_of(partitions, *ordering_key(tool, message, data))
    event = Event(
        event_id=new_event_id(now_ms, partition, random_bits),
        tenant=tool.tenant,
        tool_id=tool.tool_id,
        provider=tool.provider,
        type=event_type,
        message_id=message,
        delivery_id=delivery_id,
        received_at_ms=now_ms,
        headers={
            name: _printable(", ".join(hook.headers[name]), 1024)
            for name in provider.keep_headers
            if name in hook.headers
        },
        content_type=_printable(hook.header("content-type"), 256),
        trace_context=_printable(hook.header("traceparent"), 128),
        payload=hook.decoded,
        dedup_window_ms=tool.window_ms,
        dedup_history_ms=tool.history_ms,
        registry_version=registry_version,
        registry_token=registry_token,
    )
    if tool.strategy == "custom":
        event = _named(event, tool, functions, never=f"{tool.tool_id}:{event_type}:{unique}")
        # one without a message id yet goes where its payload leads
        partition = partition_of(partitions, *ordering_key(tool, event.message_id or message, data))
        event = replace(event, event_id=new_event_id(now_ms, partition, random_bits))
    return event, partition


def _named(
    event: Event, tool: Tool, functions: Mapping[str, DedupFunction], *, never: str
) -> Event:
    """The event with the message id that its tool's dedup function gives, or without one."""
    try:
        message = custom_message_id(functions, tool.function, event)
    except Exception:  # noqa: BLE001 user code; its error is told where it is asked again
        return replace(event, message_id="", dedup_function=tool.function)
    if message:
        return replace(event, message_id=message)
    return replace(event, message_id=never, dedup_window_ms=0, dedup_history_ms=0)


def _refusal(request: web.Request, error: HookstreamError, came: list[bytes]) -> Refusal:
    """What a refused request was, as far as it has come."""
    content = request.content
    if not came and content.is_eof() and content.exception() is None:
        # refused before its body was read, of which all is here: nothing to wait for
        came.append(content.read_nowait())
    body = b"".join(came)
    return Refusal(
        at_ms=time.time_ns() // 1_000_000,
        tool_id=request.match_info["tool_id"],
        status=error.status,
        reason=error.slug,
        detail=str(error),
        address=request.remote or "",
        method=request.method,
        origin=_origin(request),
        path=request.raw_path,
        headers=_headers(request),
        body=body,
        body_bytes=max(content.total_bytes, request.content_length or 0),
        whole=content.is_eof() and len(body) == content.total_bytes,
    )


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)


def _headers(request: web.Request) -> dict[str, tuple[str, ...]]:
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        headers[lower] = (*headers.get(lower, ()), value)
    return headers


def _printable(text: str, limit: int) -> str:
    """Without control characters and lone surrogates, which neither protobuf nor SQL can hold."""
    text = text[:limit]
    return text if text.isprintable() else "".join(char for char in text if char.isprintable())


def _json_or_none(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
