"""Pages of stages (``@app.page``): served by workers, where tables are, to the admin key."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from faust.web import View

from hookstream.app.errors import MisdirectedError, SettingsError
from hookstream.app.web.access import Access

__all__ = ["Page", "Pages", "first_names", "send_to_receivers"]


@dataclass(frozen=True, slots=True)
class Page:
    """A view of Faust's; ``public``: for whoever asks."""

    path: str
    view: type[View]
    public: bool
    cors_options: Mapping[str, Any] | None
    #: File and line where it is declared.
    place: str


@dataclass(slots=True)
class Pages:
    """The pages that modules with stages have declared."""

    _pages: dict[str, Page] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def guarded(self) -> bool:
        """Whether there is one that wants the admin key."""
        return any(not page.public for page in self._pages.values())

    def declare(self, page: Page) -> None:
        """Keep it until the server starts.

        Raises:
            SettingsError: another one has its path, or that is none, or begins with no name.
        """
        what, first = f"the path of the page {page.path!r} ({page.place})", _first(page.path)
        if not page.path.startswith("/") or not first or "{" in first:
            raise SettingsError(f"{what} has to begin with '/' and a name")
        try:
            web.UrlDispatcher().add_resource(page.path)
        except ValueError as error:
            raise SettingsError(f"{what} cannot be: {error}") from error
        # whatever the names are for what stands there: the second one would never be asked
        known = self._pages.setdefault(re.sub(r"\{\w+\}", "{}", page.path), page)
        if known is not page:
            also = "" if known.path == page.path else f", and {known.path!r} is the same to it"
            raise SettingsError(
                f"two pages have the path {page.path!r}{also}: {known.place} and {page.place}. "
                "Rename one of them"
            )

    def serve(self, server: Any, access: Access, ours: Collection[str]) -> None:
        """Add them to a worker's server; ``ours``: how paths of Hookstream's own begin.

        Raises:
            SettingsError: a path is ours.
        """
        for page in self._pages.values():
            if _first(page.path) in ours:
                raise SettingsError(
                    f"the path of the page {page.path!r} ({page.place}) begins as one of "
                    f"Hookstream's own: {', '.join(sorted(filter(None, ours)))}"
                )
            view = _answering(page)
            if not page.public:
                view = _guarded(view, access)
            server.add_view(view, cors_options=page.cors_options)

    def send_elsewhere(self, web_app: web.Application, worker_port: int) -> None:
        """Have a process without tables say where the pages are."""

        async def elsewhere(request: web.Request) -> web.StreamResponse:
            raise MisdirectedError(
                f"{request.path[:200]} is a page of a stage, and workers serve those, where tables "
                f"are: ask a worker (port {worker_port}, HOOKSTREAM_WORKER_WEB_PORT)"
            )

        ours = first_names(web_app)
        for page in self._pages.values():
            if _first(page.path) not in ours:
                web_app.router.add_route("*", page.path, elsewhere)


def send_to_receivers(web_app: web.Application, names: Iterable[str]) -> None:
    """Have a worker say where webhooks, API, MCP and console are: it serves none of them."""

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise MisdirectedError(
            "a worker serves /health, /metrics and pages of stages only: webhooks, API, MCP and "
            "console are on the receivers' port (HOOKSTREAM_WEB_PORT, or HOOKSTREAM_ADMIN_PORT)"
        )

    for name in sorted(set(names) - first_names(web_app)):
        web_app.router.add_route("*", f"/{name}", elsewhere)
        if name:
            web_app.router.add_route("*", f"/{name}/{{rest:.*}}", elsewhere)


def _answering(page: Page) -> type[View]:
    """A view that is told where it answers with something else than a response."""
    view = page.view

    async def call(self: Any, request: web.Request) -> web.StreamResponse:
        answer: object = await view.__call__(self, request)
        if not isinstance(answer, web.StreamResponse):
            raise TypeError(
                f"the page {page.path!r} ({page.place}) returned {type(answer).__name__}: a "
                "response is wanted, such as self.json(...) or self.text(...)"
            )
        return answer

    answering: type[View] = type(view.__name__, (view,), {"__call__": call})
    return answering


def _guarded(view: type[View], access: Access) -> type[View]:
    """A view that only the admin key reaches."""

    async def call(self: Any, request: web.Request) -> web.StreamResponse:
        answer = access.require_key(
            # it may show all that its stage has, of every tenant
            lambda request: view.__call__(self, request),
            operator=True,
        )
        return await answer(request)

    guarded: type[View] = type(view.__name__, (view,), {"__call__": call})
    return guarded


def first_names(web_app: web.Application) -> set[str]:
    """How the paths of an application's routes begin."""
    return {_first(resource.canonical) for resource in web_app.router.resources()}


def _first(path: str) -> str:
    return path.lstrip("/").partition("/")[0]
