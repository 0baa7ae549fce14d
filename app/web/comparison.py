"""``/api/v1/tools/{tool_id}/migration/comparison``: old workers and Hookstream side by side."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.errors import BadRequestError, ConflictError, NotFoundError, UnavailableError
from hookstream.app.ids import own_tool_id
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Tool
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.comparisons import OldResult, PathComparer
from hookstream.app.web.access import path_tool, read_model
from hookstream.app.web.events import check_query, parse_limit, parse_time
from hookstream.app.web.models.comparison import (
    COMPARISON_QUERY,
    CPU_PRICE,
    REQUEST_PRICE,
    ComparisonOut,
    ResultIn,
    ResultsIn,
    ResultsOut,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["ComparisonViews", "costs"]

MIGRATION = "/api/v1/tools/{tool_id}/migration"
DAY: Final = timedelta(days=1)
MOST_EXAMPLES: Final = 100
#: How far the clocks of old workers may be from those here.
CLOCKS: Final = timedelta(minutes=5)


class ComparisonViews:
    """Takes what old workers say they have done, and compares it with what is done here."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: CatalogCache,
        clock: RedisClock,
        comparer: PathComparer,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._clock = clock
        self._comparer = comparer

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                f"{MIGRATION}/results",
                self.report,
                "Say what old workers have done, to be compared",
                takes=ResultsIn,
                gives=ResultsOut,
                errors=(400, 404, 409, 503),
                action=None,
            ),
            Route(
                "GET",
                f"{MIGRATION}/comparison",
                self.get,
                "Old workers and Hookstream side by side, by hour, and where they differ",
                gives=ComparisonOut,
                errors=(400, 404, 503),
                query=COMPARISON_QUERY,
            ),
        ]

    async def report(self, request: web.Request) -> web.StreamResponse:
        """Keep results; who says the same twice has said it once."""
        wanted = await read_model(self._settings, request, ResultsIn)
        tool = self._tool(request)
        if not (tool.forward or tool.source or tool.migration):
            raise ConflictError(
                "the tool has no old workers: neither `forward` nor `source` says of a queue"
            )
        bounds = self._bounds(tool)
        results = [_result(at, one, bounds) for at, one in enumerate(wanted.results)]
        taken = await self._comparer.take(tool.tenant, tool.tool_id, results) if results else 0
        return json_response({"taken": taken, "known": len(results) - taken})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Compare some hours."""
        query = request.query
        check_query(query, COMPARISON_QUERY)
        limit = parse_limit(query.get("limit", "10"), MOST_EXAMPLES)
        request_price = _price("request_price", query.get("request_price"), REQUEST_PRICE)
        cpu_price = _price("cpu_price", query.get("cpu_price"), CPU_PRICE)
        tool = self._tool(request)
        now_ms = self._clock.now_ms()
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        until = min(parse_time("until", query.get("until")) or now, now)
        kept = now - timedelta(days=self._settings.comparison_days)
        since = _since(query.get("since"), until)
        if since >= until:
            raise BadRequestError(f"since: a time before `until`, which is {_text(until)}")
        since = max(since, kept)
        begin = parse_time("cursor", query.get("cursor")) or since
        begin = min(max(begin.astimezone(UTC), since.astimezone(UTC)), until)
        try:
            found = await self._comparer.compare(
                tool, begin, until.astimezone(UTC), now_ms=now_ms, examples=limit
            )
        except REDIS_ERRORS as error:
            raise UnavailableError("Redis cannot be asked at the moment: try again") from error
        return json_response(
            {
                "tool_id": own_tool_id(tool.tool_id),
                "mode": tool.migration.mode if tool.migration else None,
                "since": begin.isoformat(),
                "until": found.until.isoformat(),
                "hours": [
                    {
                        "hour": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
                        **counts,
                        **costs(counts, request_price=request_price, cpu_price=cpu_price),
                    }
                    for at, counts in found.comparison.hours()
                ],
                "causes": found.comparison.causes(),
                "cursor": found.rest.isoformat() if found.rest else None,
            }
        )

    def _bounds(self, tool: Tool) -> "_Bounds":
        """When old workers may have done what they speak of."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        if tool.forwarded_since is not None:
            return _Bounds(tool.forwarded_since, "the tool has had its `forward`", now)
        days = self._settings.comparison_days
        return _Bounds(now - timedelta(days=days), "results are kept", now)

    def _tool(self, request: web.Request) -> Tool:
        tool_id = path_tool(request)
        tool = self._catalog.current.tools.get(tool_id)
        if tool is None:
            raise NotFoundError(f"there is no tool {own_tool_id(tool_id)}")
        return tool


def _since(text: str | None, until: datetime) -> datetime:
    try:
        return parse_time("since", text) or until - DAY
    except OverflowError as error:
        raise BadRequestError("until: a time with a day before it") from error


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Since when, and by what, old workers may have done something; and what time it is."""

    since: datetime
    by: str
    now: datetime


def _result(at: int, one: ResultIn, bounds: _Bounds) -> OldResult:
    """A result to be kept. Raises BadRequestError, naming which it is and why it is none."""
    if (one.event_id is None) == (one.delivery_id is None):
        raise BadRequestError(f"results.{at}: either `event_id` or `delivery_id`")
    name, said = one.event_id or one.delivery_id, one.finished_at.isoformat()
    if one.finished_at > bounds.now + CLOCKS:
        raise BadRequestError(
            f"results.{at}.finished_at: {name} is done at {said}, and here it is "
            f"{_text(bounds.now)}: see to the worker's clock"
        )
    if one.finished_at < bounds.since - CLOCKS:
        raise BadRequestError(
            f"results.{at}.finished_at: {name} was done at {said}, and {bounds.by} since "
            f"{_text(bounds.since)}: leave it out"
        )
    return OldResult(
        one.event_id or "", one.delivery_id or "", one.finished_at, one.contexts, one.error
    )


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _price(name: str, text: str | None, default: float) -> float:
    try:
        price = default if text is None else float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price <= 1000:
        raise BadRequestError(f"{name}: USD, a number from 0 to 1000")
    return price


def _figures() -> Mapping[str, float]:
    text = files("hookstream.app.commands").joinpath("figures.json").read_text()
    found: Mapping[str, float] = json.loads(text)["figures"]
    return found


def costs(
    counts: Mapping[str, Any],
    *,
    request_price: float,
    cpu_price: float,
    figures: Mapping[str, float] = _figures(),
) -> dict[str, float | None]:
    """CPU time here of what was counted, by the benchmarks' figures, and USD for a million events.

    Old workers' own CPU time is not in it: nobody says what it is.
    """
    each = figures["receiver_cpu_us"] + figures["worker_cpu_us"] + figures["redis_cpu_us"]
    here, old = counts["events_here"], counts["events_old"]
    seconds = here * each + counts["contexts_here"] * figures["worker_context_cpu_us"]
    seconds /= 1_000_000
    return {
        "cpu_seconds": round(seconds, 3),
        "cost_old": round(counts["sqs_requests"] / old * request_price, 4) if old else None,
        "cost_ours": round(seconds / 3600 * cpu_price / here * 1e6, 4) if here else None,
    }
