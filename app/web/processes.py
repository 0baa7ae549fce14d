"""``/health`` and ``/metrics`` of all processes of a command, by whichever of them is asked.

Several share a port, and the kernel says who answers. So each asks the others, over their own
sockets, and tells of all: one scrape is one scrape, and counts are told by process, since one that
is started again counts from 0.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from hookstream import __version__
from hookstream.app import metrics
from hookstream.app.errors import NotFoundError, UnavailableError
from hookstream.app.siblings import Siblings
from hookstream.app.web.measured import MEASURED_AT, Page, measured_page
from hookstream.app.web.problem import Handler

__all__ = ["ProcessViews", "hand_on", "merged_health", "merged_metrics"]

#: For another process to answer in: longer than what it asks for itself may take.
ANSWER_SECONDS = 5.0
UP: Final = "hookstream_process_up"
#: Of these parts what is counted is added up over processes; of the others the worst one's is told.
ADDED: Final = {
    "partitions": ("owned",),
    "sockets": ("websockets", "mcp", "behind", "failing"),
    "spool": ("entries", "bytes", "drained_per_second", "full_streams"),
}
#: For a page of a stage.
PAGE_SECONDS = 30.0
#: Headers that go along with a request which is handed on, and with its answer.
HANDED_ON: Final = frozenset(("Accept", "Authorization", "Content-Type"))
GIVEN_BACK: Final = frozenset(("Content-Type", "Location", "WWW-Authenticate"))
#: What every process asks Redis for: told once.
SHARED: Final = frozenset(("dead_letters", "generations", "streams", "versions", "workers"))

Answer = Callable[[], Awaitable[web.Response]]
Health = Mapping[str, Any]


class ProcessViews:
    """Tells of all processes, or with ``?processes=own`` of this one.

    Where each is alone of its kind, on a port of its own, that is what is told unless it is
    ``?processes=all``.
    """

    def __init__(self, siblings: Siblings, *, health: Answer, metrics: Answer) -> None:
        """``health`` and ``metrics``: what this process says of itself."""
        self._siblings = siblings
        self._own = {"/health": health, "/metrics": metrics}
        self._all = {
            "/health": measured_page(self._measure_health),
            "/metrics": measured_page(self._measure_metrics),
        }

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody."""
        return [web.get(path, self.show) for path in self._own]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """At most a second old."""
        wanted = request.query.get("processes", "")
        everyone = wanted == "all" or (self._siblings.several and wanted != "own")
        return await (self._all if everyone else self._own)[request.path]()

    async def _measure_health(self) -> Page:
        said = await self._ask_all("/health")
        health = merged_health(
            {name: orjson.loads(each.body) if each.body else None for name, each in said.items()}
        )
        status = 503 if health["status"] == "down" else 200
        return Page(orjson.dumps(health), "application/json", status, _oldest(said))

    async def _measure_metrics(self) -> Page:
        said = await self._ask_all("/metrics")
        text = merged_metrics({name: each.body.decode() for name, each in said.items()})
        return Page(text.encode(), CONTENT_TYPE_LATEST, measured_at=_oldest(said))

    async def _ask_all(self, path: str) -> dict[str, "Said"]:
        """What each process says; nothing of one that does not answer."""
        names = self._siblings.names
        said = await asyncio.gather(*(self._ask(name, path) for name in names))
        return dict(zip(names, said, strict=True))

    async def _ask(self, name: str, path: str) -> "Said":
        if name == self._siblings.name:
            answer = await self._own[path]()
            assert isinstance(answer.body, bytes)
            return Said(answer.body, float(answer.headers[MEASURED_AT]))
        connector = aiohttp.UnixConnector(path=str(self._siblings.socket(name)))
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://localhost{path}?processes=own") as response,
            ):
                return Said(await response.read(), float(response.headers[MEASURED_AT]))
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError):
            return Said()


@dataclass(frozen=True, slots=True)
class Said:
    """What a process says of itself, and since when that holds; empty where it does not answer."""

    body: bytes = b""
    measured_at: float = 0.0


def _oldest(said: Mapping[str, Said]) -> float:
    return min(each.measured_at for each in said.values() if each.body)


def hand_on(siblings: Siblings) -> Middleware:
    """A middleware by which ``?process=NAME`` asks one that is meant of those that share a port.

    For pages of stages: each worker has the tables of its own partitions.
    """

    @web.middleware
    async def hand(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.query.get("process", siblings.name)
        if name == siblings.name:
            return await handler(request)
        if name not in siblings.names:
            raise NotFoundError(f"there is no process of this name: {', '.join(siblings.names)}")
        connector = aiohttp.UnixConnector(path=str(siblings.socket(name)))
        headers = {key: value for key, value in request.headers.items() if key in HANDED_ON}
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.request(
                    request.method,
                    f"http://localhost{request.rel_url}",
                    headers=headers,
                    data=await request.read(),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=PAGE_SECONDS),
                ) as answer,
            ):
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnavailableError(f"{name} does not answer") from error
        given = {key: value for key, value in answer.headers.items() if key in GIVEN_BACK}
        return web.Response(status=answer.status, body=body, headers=given)

    return hand


def merged_health(found: Mapping[str, Health | None]) -> dict[str, Any]:
    """One answer for all: parts as :data:`ADDED` says, and under ``processes`` each by itself.

    ``found``: by process what it says; None where it does not answer. As long as one can do its
    work all together are not ``down``.
    """
    processes: dict[str, dict[str, Any]] = {
        name: {"status": "down", "detail": "this process does not answer"}
        if health is None
        else {"status": health["status"], "parts": dict(health["parts"])}
        for name, health in found.items()
    }
    parts: dict[str, Any] = {}
    for name in dict.fromkeys(
        part for each in processes.values() for part in each.get("parts", ())
    ):
        having = {
            process: each["parts"][name]
            for process, each in processes.items()
            if name in each.get("parts", ())
        }
        worst = max(having, key=lambda process: _badness(having[process]["status"]))
        parts[name] = dict(having[worst])
        if parts[name]["status"] != "ok":
            parts[name]["process"] = worst
        for key in ADDED.get(name, ()):
            parts[name][key] = sum(part.get(key, 0) for part in having.values())
        if name in SHARED:
            parts[name].pop("process", None)
            for process in having:
                del processes[process]["parts"][name]
    said = {each["status"] for each in processes.values()}
    status = said.pop() if len(said) == 1 else "degraded"
    return {"status": status, "version": __version__, "parts": parts, "processes": processes}


def _badness(status: str) -> int:
    return {"ok": 0, "down": 2}.get(status, 1)


def merged_metrics(texts: Mapping[str, str]) -> str:
    """Prometheus' text of all: each sample with its process, but for what all measure alike.

    ``texts``: by process what it says; "" where it does not answer.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for process, text in texts.items():
        for family, head, lines in _families(text):
            heads.setdefault(family, head)
            known = samples.setdefault(family, [])
            if family not in metrics.OF_ALL_PROCESSES:
                known += [_labelled(line, process) for line in lines]
            elif not known:
                known += lines
    told = [
        f"# HELP {UP} Whether a process of this command answers.",
        f"# TYPE {UP} gauge",
        *(f'{UP}{{process="{process}"}} {1 if text else 0}' for process, text in texts.items()),
    ]
    for family, head in heads.items():
        if samples[family]:
            told += [*head, *samples[family]]
    return "\n".join(told) + "\n"


def _families(text: str) -> Iterable[tuple[str, list[str], list[str]]]:
    """Each metric's name, what is said of it, and its samples."""
    family = ""
    head: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            if head:
                yield family, head, lines
            family, head, lines = line.split(" ", 3)[2], [line], []
        elif line.startswith("#"):
            head.append(line)
        elif line:
            lines.append(line)
    if head:
        yield family, head, lines


def _labelled(line: str, process: str) -> str:
    """A sample with one label more; names have neither ``{`` nor spaces."""
    name, _, rest = line.partition(" ")
    bare, mark, _ = name.partition("{")
    if mark:
        return f'{bare}{{process="{process}",{line[len(bare) + 1 :]}'
    return f'{name}{{process="{process}"}} {rest}'
