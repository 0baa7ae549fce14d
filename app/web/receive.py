"""The receiver: ``POST /hooks/{tool_id}`` and ``/hooks/{tenant}/{tool_id}``.

202, or a provider's own 200, means: durable.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import orjson
from aiohttp import web
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import (
    ConflictError,
    HookstreamError,
    NotFoundError,
    SealingKeyError,
    SignatureError,
    SuspendedError,
    UnavailableError,
    UnavailableKeyError,
)
from hookstream.app.ids import DEFAULT_TENANT, full_tool_id, own_tool_id
from hookstream.app.ingest.acceptance import Acceptance
from hookstream.app.ingest.appender import Appender
from hookstream.app.ingest.events import incoming, make_event
from hookstream.app.ingest.key_fetcher import KeyFetcher
from hookstream.app.ingest.refusals import Refusal, Refusals
from hookstream.app.ingest.signing_keys import SigningKeys
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.providers import PROVIDERS, Answer, check_secrets
from hookstream.app.providers.first_contact import hub_challenge
from hookstream.app.providers.provider import JSON
from hookstream.app.providers.signatures.options import BODILESS, AnyAge, SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.routing.maskers import Maskers
from hookstream.app.routing.payload_check import PayloadCheck
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.erasures import ErasureStore
from hookstream.app.token_bucket import TokenBuckets
from hookstream.app.web.body import check_size, decode_aside, read_body
from hookstream.app.web.body_limit import LargeBodies, Room, most_bytes
from hookstream.app.web.browsers import refuse_other_sites
from hookstream.app.web.connection import not_kept
from hookstream.app.web.limits import ToolLimit
from hookstream.app.web.malformed import Fault
from hookstream.app.web.sender import check_allowed, sender_of

__all__ = ["GONE", "Receiver", "accepted_out", "called_url", "make_event", "received"]

logger = get_logger(__name__)

#: How often, at most, unknown tool ids make a process look into the database.
RELOAD_SECONDS = 0.25
#: The event's id, whatever the answer's body is.
EVENT_ID_HEADER = "Hookstream-Event-Id"
#: The answer to a webhook that asked whether others may come.
CONFIRMED = Answer(200, b"", "text/plain")
#: Of a tool; who has captured one that was signed can send it again for a day.
CONFIRMATIONS_PER_SECOND, CONFIRMATIONS_BURST = 0.2, 10.0
#: Counted for a sender that has gone: nobody hears an answer.
GONE = 499


class Receiver:
    """Verifies, wraps and appends webhooks."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        payloads: Payloads,
        appender: Appender,
        refusals: Refusals,
        functions: Mapping[str, DedupFunction],
        limit: ToolLimit,
        payload_check: PayloadCheck,
        fetcher: KeyFetcher,
        maskers: Maskers,
        erasures: ErasureStore | None = None,
    ) -> None:
        """``limit``: of accepted webhooks, by tool id; ``erasures``: what must not come back."""
        self._fetcher = fetcher
        self._keys = SigningKeys(fetcher)
        self._confirmations = TokenBuckets(CONFIRMATIONS_PER_SECOND, CONFIRMATIONS_BURST)
        self._limit = limit
        self._settings = settings
        self._large_bodies = LargeBodies(settings)
        self._postgres = postgres
        self._catalog = catalog
        self._refusals = refusals
        self.acceptance = Acceptance(
            settings=settings,
            catalog=catalog,
            payloads=payloads,
            appender=appender,
            functions=functions,
            payload_check=payload_check,
            maskers=maskers,
            erasures=erasures,
        )
        self._reloaded_at = -RELOAD_SECONDS
        #: What those wait for that come before it is begun.
        self._next_reload: asyncio.Task[Catalog] | None = None

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody: signatures say who may send."""
        # senders are told apart from people by nothing: some add the slash
        return [
            route(f"/hooks/{tool}{slash}", handler)
            for tool in ("{tool_id}", "{tenant}/{tool_id}")
            for slash in ("", "/")
            for route, handler in (
                (web.post, self.post),
                (web.get, self.try_out),  # HEAD, too
                (web.options, self.try_out),
            )
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Receive one webhook; answers once Redis has it."""
        return _response(*await self.take(request, _tool_id(request)))

    async def take(self, request: web.Request, tool_id: str) -> tuple[Answer, str]:
        """Receive one webhook of a tool: its answer, and the event's id if it became one.

        Raises:
            HookstreamError: it is refused.
        """
        tool: Tool | None = None
        came: list[bytes] = []
        status = 500
        try:
            error = not_kept(request)
            tool = await self._tool(tool_id)
            if error is not None:
                # found genuine by who took it (``fast_lane``), and not kept: told like all others
                came.append(request.content.read_nowait())
                raise error
            self._check_tenant(tool)
            self._check_address(request, tool)
            # before its body is read; taken from only once it has been found genuine, so that who
            # cannot sign uses up nothing of the tool's
            self._limit.look_at(tool)
            with self._large_bodies.room() as room:
                answer, event_id = await self._receive(request, tool, came, room)
            status = answer.status
            return answer, event_id
        except HookstreamError as error:
            status = error.status
            self._refused(request, tool_id, tool, error, came)
            raise
        except (asyncio.CancelledError, ConnectionError):
            status = GONE
            raise
        finally:
            received(tool.provider if tool else "unknown", status).inc()

    async def try_out(self, request: web.Request) -> web.StreamResponse:
        """Answer a sender that tries out the address with GET, HEAD or OPTIONS."""
        tool = await self._tool(_tool_id(request))
        try:
            self._check_tenant(tool)
            self._check_address(request, tool)
        except HookstreamError as error:
            self._refused(request, tool.tool_id, tool, error, [])
            raise
        challenge = PROVIDERS[tool.provider].challenge
        hook = self._request(request, tool, b"")
        for found in (hub_challenge, challenge):
            if found and (answer := found(hook, tool.secrets, tool.options)):
                return _response(answer)
        if request.method == "HEAD":
            # some ask for a sign that somebody is there
            return web.Response()
        detail = f"{request.method} {request.path[:200]}: a webhook is sent by POST"
        self.missed(request, 405, detail)
        raise web.HTTPMethodNotAllowed(request.method, ["POST"])

    def malformed(self, fault: Fault, address: str) -> None:
        """Keep that something came which is no HTTP request: of no tool that is known."""
        if not self._refusals.count(None, fault.slug):
            return
        refusal = Refusal(
            at_ms=time.time_ns() // 1_000_000,
            tool_id="",
            status=fault.status,
            reason=fault.slug,
            detail=fault.detail,
            address=address,
            method="",
            origin="",
            path="",
            headers={},
            body=b"",
            body_bytes=0,
            whole=False,
        )
        self._refusals.keep(None, refusal, fault.detail)

    def missed(self, request: web.Request, status: int, detail: str) -> None:
        """Keep what was sent below ``/hooks`` and met no route: another method, or more path."""
        called = request.path.removeprefix("/hooks").strip("/").split("/")
        tools = self._catalog.current.tools
        # of a tenant's tool, or of one of ours with more behind it
        tool_id = full_tool_id(called[0], called[1]) if len(called) > 1 else called[0]
        tool_id = tool_id if tool_id in tools or called[0] not in tools else called[0]
        tool = tools.get(tool_id)
        reason = "wrong-method" if status == 405 else "wrong-path"
        if self._refusals.count(tool, reason):
            refusal = _refusal(request, tool_id, (status, reason, detail), [])
            # what is no POST is no webhook, whatever it has brought along
            kept = replace(refusal, whole=refusal.whole and request.method == "POST")
            self._refusals.keep(tool, kept)

    def _check_tenant(self, tool: Tool) -> None:
        if trouble := self._catalog.current.tenant(tool.tenant).trouble:
            raise SuspendedError(trouble)

    def _check_address(self, request: web.Request, tool: Tool) -> None:
        if tool.allow_from:
            check_allowed(tool.allow_from, sender_of(request).address)

    def _refused(
        self,
        request: web.Request,
        tool_id: str,
        tool: Tool | None,
        error: HookstreamError,
        came: list[bytes],
    ) -> None:
        """Count a refused request, and keep it where there is room."""
        if tool is None and error.status == 404 and self._is_too_long(tool_id):
            self.missed(request, 404, str(error))
            return
        if self._refusals.count(tool, error.slug):
            why = (error.status, error.slug, str(error))
            refusal = _refusal(request, tool_id, why, came)
            self._refusals.keep(tool, refusal, error.title)

    async def _receive(
        self, request: web.Request, tool: Tool, came: list[bytes], room: Room
    ) -> tuple[Answer, str]:
        settings, provider = self._settings, PROVIDERS[tool.provider]
        if provider.browsers_can_send:
            public = (settings.public_url, tool.public_url)
            refuse_other_sites(request, *public, known_names_only=True)
        body = await read_body(
            request,
            most_bytes(settings, provider),
            settings.body_timeout_seconds,
            came,
            room.hold,
        )
        now_ms = time.time_ns() // 1_000_000
        address = sender_of(request).address
        hook = self._request(request, tool, body)
        if provider.challenge and (answer := provider.challenge(hook, tool.secrets, tool.options)):
            return answer, ""
        if provider.learn and not tool.secrets and (learnt := provider.learn(hook, tool.options)):
            # it could never be replaced by another: as one that people set
            check_secrets(provider, learnt[:1], (), tool.options)
            return await self._learn(tool, *learnt, address), ""
        hook = await self._verified(hook, tool, tool.options, now_ms, address)
        if provider.confirm and (url := provider.confirm(hook)):
            self._limit.take_of(tool, size=len(body))
            await self._confirm(tool, url)
            return CONFIRMED, ""
        if provider.handshake and (answer := provider.handshake(hook, tool.secrets, tool.options)):
            return answer, ""
        found = incoming(hook, provider, settings.max_batch_events, tool.options)
        self._limit.take_of(tool, max(1, len(found.requests)), len(body))
        ids = await self.acceptance.accept(found, tool, now_ms)
        accepted = Answer(202, orjson.dumps(accepted_out(ids, is_batch=found.is_batch)), JSON)
        if provider.answer:
            accepted = provider.answer(hook, tool.options, accepted)
        return accepted, ids[0] if ids else ""

    async def _learn(self, tool: Tool, secret: str, answer: Answer, address: str) -> Answer:
        """Keep the secret that a sender hands over, for a tool that waits for one.

        Whoever comes first is believed, as with these senders it has to be: nobody is from then on.
        """
        kept = await self._catalog.secrets.sealed(tool.tenant, tool.tool_id, [secret])
        found = await self._postgres.fetchrow(
            statement("learn_secret"), tool.tool_id, tool.tenant, *kept
        )
        if found is None:
            raise SignatureError("the tool has a secret by now: what is sent has to be signed")
        await self._catalog.refresh()
        logger.warning(
            "tool %s has learnt its secret from %s: POST /api/v1/tools/%s/learnt-secret shows it, "
            "once",
            tool.tool_id,
            address,
            own_tool_id(tool.tool_id),
        )
        return answer

    def _request(self, request: web.Request, tool: Tool, body: bytes) -> WebhookRequest:
        return WebhookRequest(
            method=request.method,
            url=called_url(
                tool, self._settings.public_url, sender_of(request).origin, _path(request)
            ),
            headers=_headers(request),
            body=body,
            decoded=body,
        )

    async def replay(self, refusal: Refusal, tenant: str) -> dict[str, Any]:
        """Verify a refused webhook anew, by the tool as it is now, and accept it as one of now.

        The age of its signature's time is not checked. That check is for what strangers send: who
        has overheard a webhook shall not be able to send it again later. Here an operator asks, and
        for what this door has kept itself; by now it is too old for any tolerance.

        Returns what a sender would have been told.

        Raises:
            ConflictError: it is refused again, not all of it was kept, or it is no event.
            NotFoundError: there is (still) no such tool of the tenant.
            UnavailableError: it cannot be decided, or kept, now.
        """
        tool = await self._tool(refusal.tool_id)
        if tool.tenant != tenant:
            raise NotFoundError(f"there is no tool {own_tool_id(refusal.tool_id)!r}")
        self._check_tenant(tool)
        if not refusal.is_webhook:
            raise ConflictError(
                "it came out of a queue, or a topic: mend the tool's source, then send it there "
                "again"
            )
        if not refusal.whole:
            raise ConflictError(
                f"not all of it was kept ({len(refusal.body)} of {refusal.body_bytes} bytes of its "
                "body), so it cannot be verified: have the sender send it again"
            )
        now_ms = time.time_ns() // 1_000_000
        hook = WebhookRequest(
            method=refusal.method,
            url=called_url(tool, self._settings.public_url, refusal.origin, refusal.path),
            headers=refusal.headers,
            body=refusal.body,
            decoded=refusal.body,
        )
        provider = PROVIDERS[tool.provider]
        try:
            check_allowed(tool.allow_from, refusal.address)
            check_size(len(hook.body), most_bytes(self._settings, provider))
            options = AnyAge(**asdict(tool.options))
            hook = await self._verified(hook, tool, options, now_ms, "")
            if provider.confirm and (url := provider.confirm(hook)):
                await self._confirm(tool, url)
                raise ConflictError("it asked for a confirmation, which was given: it is no event")
            if provider.handshake and provider.handshake(hook, tool.secrets, tool.options):
                raise ConflictError("it only tries out the address: there is no event in it")
            found = incoming(hook, provider, self._settings.max_batch_events, tool.options)
            if not len(found.requests):
                raise ConflictError("it is an empty batch: there is no event in it")
            ids = await self.acceptance.accept(found, tool, now_ms)
            return accepted_out(ids, is_batch=found.is_batch)
        except (ConflictError, UnavailableError):
            raise
        except HookstreamError as error:
            raise ConflictError(f"it is refused again ({error.slug}): {error}") from error

    async def _verified(
        self,
        hook: WebhookRequest,
        tool: Tool,
        options: SignatureOptions,
        now_ms: int,
        address: str,
    ) -> WebhookRequest:
        """The request with its body decoded, once its signature has been found right.

        ``address``: who may be held for asking for keys that there are not.
        """
        provider, now = PROVIDERS[tool.provider], now_ms / 1000
        if provider.keys and (sources := provider.keys(hook, tool.secrets, options, now)):
            keys = await self._keys.first_of(sources, (tool.tool_id, address))
            hook = replace(hook, keys=keys)
        # the signature is over the bytes as sent: verified before anything looks inside
        provider.verify(hook, tool.secrets, options, now)
        if encoding := ",".join(hook.headers.get("content-encoding", ())):
            most = most_bytes(self._settings, PROVIDERS[tool.provider])
            decoded = await decode_aside(hook.body, encoding, most)
            return replace(hook, decoded=decoded)
        return hook

    async def _confirm(self, tool: Tool, url: str) -> None:
        """Call the address that a provider wants called before it sends.

        Raises UnavailableError.
        """
        if self._confirmations.take(tool.tool_id, time.monotonic()):
            raise UnavailableKeyError("too many confirmations were asked for: send it again")
        found = await self._fetcher.fetch(url)
        if found.status != 200:
            raise UnavailableError(f"its confirmation was answered {found.status}: send it again")
        logger.info("tool %s: its provider has been told that webhooks may come", tool.tool_id)

    async def _tool(self, tool_id: str) -> Tool:
        tool = self._catalog.current.tools.get(tool_id)
        if tool is None:
            # perhaps it was made a moment ago through another process
            try:
                tool = (await self._reloaded()).tools.get(tool_id)
            except UnavailableError as error:
                raise UnavailableError("the tool is not known here yet") from error
        if tool is None and tool_id in self._catalog.current.sealed_tools:
            raise SealingKeyError(
                "the tool's secrets cannot be opened here now: /health says why, in part `sealing`"
            )
        if tool is None and tool_id in self._catalog.current.unreadable_tools:
            raise UnavailableError("the tool cannot be read here: this release may be too old")
        if tool is None and self._is_too_long(tool_id):
            raise NotFoundError(
                f"there is neither a tool nor a tenant of this path, {tool_id[:256]!r}. A webhook "
                "is sent by POST to /hooks/TOOL, with nothing behind it, or to /hooks/TENANT/TOOL"
            )
        if tool is None:
            raise NotFoundError(
                f"there is no tool {tool_id[:256]!r}: make it with PUT /api/v1/tools/{{tool_id}}"
            )
        return tool

    def _is_too_long(self, tool_id: str) -> bool:
        """Whether it is a path with something behind its tool, rather than a tenant's tool."""
        tenant, slash, _ = tool_id.partition("/")
        return bool(slash) and tenant not in self._catalog.current.tenants

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


def _tool_id(request: web.Request) -> str:
    """The tool that is called, as it is called in the whole installation."""
    tenant = request.match_info.get("tenant", DEFAULT_TENANT)
    return full_tool_id(tenant, request.match_info["tool_id"])


def called_url(tool: Tool, public_url: str, origin: str, path: str) -> str:
    """The URL that the sender has called, which some sign: ``origin`` and ``path`` came here.

    What is set of the tool counts first, then what is set for all, then what the request says.
    """
    if tool.names_address:
        # the whole of it but for the query, which differs
        _, mark, query = path.partition("?")
        return tool.public_url + mark + query
    return (tool.public_url or public_url or origin).rstrip("/") + path


def accepted_out(ids: Sequence[str], *, is_batch: bool) -> dict[str, Any]:
    """What is told of an accepted request: of a batch all ids, which are none of an empty one."""
    out: dict[str, Any] = {"event_id": ids[0]} if ids else {}
    if is_batch:
        out["event_ids"] = list(ids)
    return {**out, "status": "accepted"}


@cache
def received(provider: str, status: int) -> Any:
    """The counter of a kind of answer: finding it costs more than counting."""
    return metrics.RECEIVED.labels(provider=provider, status=status)


def _refusal(
    request: web.Request, tool_id: str, why: tuple[int, str, str], came: list[bytes]
) -> Refusal:
    """What a refused request was, as far as it has come; ``why``: status, reason, detail."""
    status, reason, detail = why
    content = request.content
    if not came and content.is_eof() and content.exception() is None:
        # refused before its body was read, of which all is here: nothing to wait for
        came.append(content.read_nowait())
    body = b"".join(came)
    sender = sender_of(request)
    return Refusal(
        at_ms=time.time_ns() // 1_000_000,
        tool_id=tool_id,
        status=status,
        reason=reason,
        detail=detail,
        address=sender.address,
        method=request.method,
        origin=sender.origin,
        path=_path(request),
        headers=_headers(request),
        body=body,
        body_bytes=max(content.total_bytes, request.content_length or 0),
        whole=content.is_eof() and len(body) == content.total_bytes,
    )


def _path(request: web.Request) -> str:
    """The path and query that were called, also where a proxy passes on the whole address.

    RFC 9112, 3.2.2: servers have to take that form.
    """
    path = request.raw_path
    if path.startswith("/"):
        return path
    _, mark, rest = path.partition("://")
    return f"/{rest.partition('/')[2]}" if mark else path


def _response(answer: Answer, event_id: str = "") -> web.Response:
    headers = {**answer.headers, "Content-Type": answer.content_type}
    if event_id:
        headers[EVENT_ID_HEADER] = event_id
    if answer.status in BODILESS:
        # what followed would be taken for the next answer (RFC 9110, 15.3.5 and 15.3.6)
        del headers["Content-Type"]
        return web.Response(status=answer.status, headers=headers)
    return web.Response(status=answer.status, body=answer.body or None, headers=headers)


def _headers(request: web.Request) -> dict[str, tuple[str, ...]]:
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        headers[lower] = (*headers.get(lower, ()), value)
    return headers
