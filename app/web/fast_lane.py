"""The shortest way of a webhook into a process: from its connection's bytes to the appender.

aiohttp makes a task, a request, a writer and three futures for each request, which takes longer
than all that a webhook of 10 KB needs. One that has come whole, is nothing out of the ordinary, and
proves genuine needs none of them: it is looked at where it came, put before the appender, and
answered when that has kept it. What is above a quota or of a tenant that is suspended is answered
here, too, once others have told enough of such. Everything else goes the way of all others
(:mod:`hookstream.app.web.hot_route`), which finds out for itself what is the matter: nothing has
been done by then.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from hookstream.app.addresses import Network
from hookstream.app.errors import HookstreamError, LimitError, SuspendedError
from hookstream.app.ids import random_bits
from hookstream.app.ingest.appender import Appender
from hookstream.app.ingest.plain_tool import PlainTool
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.providers import Answer
from hookstream.app.providers.provider import JSON
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.erasures import ErasureStore
from hookstream.app.web.hot_route import PREFIX, answer_bytes
from hookstream.app.web.limits import ToolLimit
from hookstream.app.web.problem import TYPE_PREFIX
from hookstream.app.web.receive import GONE, accepted_out, called_url, received
from hookstream.app.web.request_log import REQUEST_ID, is_verbose, request_id_of
from hookstream.app.web.sender import Sender, check_allowed, past_proxies

__all__ = ["LANE", "FastLane", "Landing"]

#: A larger body is packed on another thread, or has had its connection wait.
MOST_BYTES: Final = 64 * 1024
#: With one of these it is out of the ordinary.
UNUSUAL: Final = frozenset({"expect", "content-encoding", "origin", "sec-fetch-site"})
_ID: Final = REQUEST_ID.lower()


class Landing(Protocol):
    """A connection, of which one webhook at a time is on its way here."""

    def landed(self, data: bytes) -> bool:
        """It is kept, and this is its answer; False where nobody is there to take that."""

    def not_landed(self, error: Exception) -> None:
        """It is not kept: others answer it."""


class _Flight:
    """A webhook between its connection and Redis."""

    __slots__ = ("_answer", "_at", "_provider", "_status", "_told")

    def __init__(self, at: Landing, answer: bytes, provider: str, status: int) -> None:
        self._at = at
        self._answer = answer
        self._provider = provider
        self._status = status
        self._told = False

    def done(self) -> bool:
        return self._told

    def set_result(self, result: None) -> None:
        self._told = True
        there = self._at.landed(self._answer)
        received(self._provider, self._status if there else GONE).inc()

    def set_exception(self, error: Exception) -> None:
        self._told = True
        self._at.not_landed(error)


@dataclass(frozen=True, slots=True)
class _Way:
    """A tool, as one state of the catalog has it.

    ``plain``: the same prepared; None where its webhooks need more. ``url``: its address, where
    that is set. ``trouble``: why nothing is taken of its tenant.
    """

    tool: Tool
    plain: PlainTool | None
    url: str
    trouble: str


class FastLane:
    """Takes webhooks of tools that are prepared for it."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: CatalogCache,
        payloads: Payloads,
        appender: Appender,
        limit: ToolLimit,
        refusals: Refusals | None = None,
        erasures: ErasureStore | None = None,
    ) -> None:
        """``refusals``: where what is above a quota is counted; None: others do so.

        ``erasures``: what repeats something that was erased is not taken here.
        """
        self._refusals = refusals
        self._erasures = erasures
        self._settings = settings
        self._trusted: Sequence[Network] = settings.trusted_networks
        self._cache = catalog
        self._payloads = payloads
        self._appender = appender
        self._limit = limit
        self._most = min(MOST_BYTES, settings.max_body_bytes)
        #: The state of the catalog that the tools are prepared for; by the path that they have.
        self._catalog: Catalog | None = None
        self._ways: dict[str, _Way] = {}

    def take(
        self, landing: Landing, message: RawRequestMessage, payload: StreamReader, peer: Sender
    ) -> bool:
        """Whether a webhook is on its way: ``landing`` hears what becomes of it.

        ``peer``: who is at the connection's other end; its host is not looked at.
        """
        way = self._way(message.path)
        if (
            way is None
            or message.method != "POST"
            or message.should_close
            or message.version != HttpVersion11
            or type(payload) is not StreamReader
            or not payload.is_eof()
            or payload.exception() is not None
            or is_verbose()
            or (way.plain is None and not self._is_refused(way))
        ):
            return False
        headers = {name.lower(): (value,) for name, value in message.headers.items()}
        try:
            return self._take(landing, message, payload, peer, headers, way)
        except Exception:  # noqa: BLE001 whatever it is, it is raised again where all are dealt with
            return False

    def _take(
        self,
        landing: Landing,
        message: RawRequestMessage,
        payload: StreamReader,
        peer: Sender,
        headers: Mapping[str, tuple[str, ...]],
        way: _Way,
    ) -> bool:
        tool, url, plain = way.tool, way.url, way.plain
        [host] = headers["host"]
        if self._trusted and (tool.allow_from or not url):
            direct = Sender(peer.address, peer.scheme, host)
            peer = past_proxies(direct, message.headers, self._trusted)
            host = peer.host
        if tool.allow_from:
            check_allowed(tool.allow_from, peer.address)
        if self._is_refused(way):
            return self._refuse(landing, way, headers)
        if (
            plain is None
            or payload.total_bytes > self._most
            or len(headers) != len(message.headers)
            or not UNUSUAL.isdisjoint(headers)
        ):
            return False
        provider = plain.provider
        if not url:
            url = called_url(tool, "", f"{peer.scheme}://{host}", message.path)
        chunks = payload._buffer
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        hook = WebhookRequest("POST", url, headers, body, body)
        now_ms = time.time_ns() // 1_000_000
        taken = plain.take(hook, now_ms, random_bits(), self._payloads.pack)
        if taken is None:
            return False
        if self._erasures is not None and self._erasures.repeats(
            tool.tenant, tool.tool_id, taken.message_id, taken.delivery_id
        ):
            return False
        event_id = taken.event_id
        accepted = orjson.dumps(accepted_out([event_id], is_batch=False))
        answer = Answer(202, accepted, JSON)
        if provider.answer is not None:
            answer = provider.answer(hook, tool.options, answer)
        [given] = headers.get(_ID, ("",))
        data = answer_bytes(answer, event_id, request_id_of(given), keep_alive=True)
        self._limit.take_of(tool, size=len(body))
        flight = _Flight(landing, data, tool.provider, answer.status)
        self._appender.put(taken.key, taken.entry, plain.urgent, flight)
        return True

    def _is_refused(self, way: _Way) -> bool:
        """Whether nothing is taken of a tool now."""
        return bool(way.trouble) or not self._limit.has_room(way.tool)

    def _refuse(self, landing: Landing, way: _Way, headers: Mapping[str, tuple[str, ...]]) -> bool:
        """Answer what is not taken anyhow, where others have kept enough of such.

        A tenant that sends ten times what it may would else take as much of this process as if it
        were accepted, or more: what others refuse has a task, and a line of the log.
        """
        tool = way.tool
        if self._refusals is None or self._refusals.has_room(tool):
            return False
        error = self._refusal(way)
        if error is None:
            return False
        self._refusals.pass_over(tool, error.slug)
        received(tool.provider, error.status).inc()
        [given] = headers.get(_ID, ("",))
        answer = problem_answer(error)
        data = answer_bytes(answer, "", request_id_of(given), keep_alive=True)
        # once it is known here that this one was taken
        asyncio.get_running_loop().call_soon(landing.landed, data)
        return True

    def _refusal(self, way: _Way) -> HookstreamError | None:
        """Why nothing is taken of a tool now, which is counted."""
        if way.trouble:
            return SuspendedError(way.trouble)
        try:
            self._limit.look_at(way.tool)
        except LimitError as error:
            return error
        return None

    def _way(self, path: str) -> _Way | None:
        """The tool whose path is this, as it is; None where others know."""
        catalog = self._cache.current
        if catalog is not self._catalog:
            self._catalog, self._ways = catalog, {}
        if found := self._ways.get(path):
            return found
        tool = catalog.tools.get(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None
        if tool is None:
            return None
        plain = PlainTool.of(tool, catalog, self._settings.partitions)
        public = tool.public_url or self._settings.public_url
        url = called_url(tool, public, "", path) if public else ""
        found = self._ways[path] = _Way(tool, plain, url, catalog.tenant(tool.tenant).trouble)
        return found


def problem_answer(error: HookstreamError) -> Answer:
    """What :func:`hookstream.app.web.problem.problem_response` says, as the answer to a webhook."""
    body = {
        "type": TYPE_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": str(error),
    }
    headers = {}
    if isinstance(error, LimitError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds or 0)))
    return Answer(error.status, orjson.dumps(body), "application/problem+json", headers)


#: Of an application that takes webhooks.
LANE: web.AppKey[FastLane] = web.AppKey("lane", FastLane)
