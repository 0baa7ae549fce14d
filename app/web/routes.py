"""A route of the API: what aiohttp serves and what the OpenAPI document says are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from hookstream.app.errors import SettingsError
from hookstream.app.roles import May, MissingRowError, may
from hookstream.app.web.access import Access, View

__all__ = ["Route", "add_routes", "check_routes", "may_call"]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    view: View
    summary: str
    takes: type[BaseModel] | None = None
    gives: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    query: dict[str, dict[str, object]] = field(default_factory=dict)
    #: Its ``operationId``, where that is not what the view's name says.
    operation: str = ""
    #: What the audit trail calls it where nothing in PostgreSQL changes; None: nothing does at all.
    action: str | None = ""

    @property
    def operation_id(self) -> str:
        """``tool_put`` for the view ``ToolViews.put``."""
        return self.operation or self.view.__qualname__.replace("Views.", "_").lower()


def add_routes(web_app: web.Application, routes: Sequence[Route], access: Access) -> None:
    """Serve routes to whoever has a key of a role that may call them.

    Raises:
        SettingsError: who may call a route is not said.
    """
    for route in routes:
        view = access.require_key(
            route.view, may_call(route.method, route.path), action=route.action
        )
        web_app.router.add_route(route.method, route.path, view)


def may_call(method: str, path: str) -> May:
    """Who may call a route, as ``app/roles.py`` says. Raises SettingsError where it does not."""
    try:
        return may(method, path)
    except MissingRowError as error:
        raise SettingsError(str(error)) from error


def check_routes(web_app: web.Application) -> None:
    """Whether all that is served has its row, also what asks for no key.

    Raises:
        SettingsError: it is not said who may call a route.
    """
    for route in web_app.router.routes():
        if route.resource is not None:
            may_call(route.method, route.resource.canonical)
