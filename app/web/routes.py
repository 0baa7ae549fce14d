"""A route of the API: what aiohttp serves and what the OpenAPI document says are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from hookstream.app.web.access import Access, View

__all__ = ["Route", "add_routes"]


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
    #: An agent's key may call it, for what reached its own contexts.
    agents: bool = False
    #: Its ``operationId``, where that is not what the view's name says.
    operation: str = ""
    #: What the audit trail calls it where nothing in PostgreSQL changes; None: nothing does at all.
    action: str | None = ""
    #: It is of all tenants: for the admin key alone.
    operator: bool = False

    @property
    def operation_id(self) -> str:
        """``tool_put`` for the view ``ToolViews.put``."""
        return self.operation or self.view.__qualname__.replace("Views.", "_").lower()


def add_routes(web_app: web.Application, routes: Sequence[Route], access: Access) -> None:
    """Serve routes to whoever has a key."""
    for route in routes:
        view = access.require_key(
            route.view, agents=route.agents, operator=route.operator, action=route.action
        )
        web_app.router.add_route(route.method, route.path, view)
