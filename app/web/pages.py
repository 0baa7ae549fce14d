"""Pages of stages (``@app.page``): served by workers, where tables are, to the admin key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from faust.web import View

from hookstream.app.errors import MisdirectedError, SettingsError
from hookstream.app.web.access import Access

__all__ = ["Page", "Pages"]


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
        known = self._pages.setdefault(page.path, page)
        if known.place != page.place:
            raise SettingsError(
                f"two pages have the path {page.path!r}: {known.place} and {page.place}. Rename "
                "one of them"
            )

    def serve(self, server: Any, access: Access) -> None:
        """Add them to a worker's server, behind all that is ours.

        Raises:
            SettingsError: a path is ours.
        """
        ours = _first_names(server.web_app)
        for page in self._pages.values():
            if _first(page.path) in ours:
                raise SettingsError(
                    f"the path of the page {page.path!r} ({page.place}) begins as one of "
                    f"Hookstream's own: {', '.join(sorted(filter(None, ours)))}"
                )
            view = page.view if page.public else _guarded(page.view, access)
            server.add_view(view, cors_options=page.cors_options)

    def send_elsewhere(self, web_app: web.Application, worker_port: int) -> None:
        """Have a process without tables say where the pages are."""

        async def elsewhere(request: web.Request) -> web.StreamResponse:
            raise MisdirectedError(
                f"{request.path[:200]} is a page of a stage, and workers serve those, where tables "
                f"are: ask a worker (port {worker_port}, HOOKSTREAM_WORKER_WEB_PORT)"
            )

        ours = _first_names(web_app)
        for page in self._pages.values():
            if _first(page.path) not in ours:
                web_app.router.add_route("*", page.path, elsewhere)


def _guarded(view: type[View], access: Access) -> type[View]:
    """A view that only the admin key reaches."""

    async def call(self: Any, request: web.Request) -> web.StreamResponse:
        answer = access.require_key(lambda request: view.__call__(self, request))
        return await answer(request)

    guarded: type[View] = type(view.__name__, (view,), {"__call__": call})
    return guarded


def _first_names(web_app: web.Application) -> set[str]:
    return {_first(resource.canonical) for resource in web_app.router.resources()}


def _first(path: str) -> str:
    return path.lstrip("/").partition("/")[0]
