"""The OpenAPI document, made from the table of routes and the models."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hookstream import __version__
from hookstream.app.web.models.fields import ID_PATTERN
from hookstream.app.web.models.problem import Problem
from hookstream.app.web.models.receive import Accepted
from hookstream.app.web.routes import Route

__all__ = ["document"]

REF = "#/components/schemas/{model}"
#: What every route may answer to a request that it does not do, and what the receiver may.
ALWAYS = (400, 401, 403, 429, 503)
RECEIVES = (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
#: Those that come with ``Retry-After``.
WAITING = (429, 503)
UUID_PARAMETERS = ("event_id", "replay_id", "import_id")


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 of the given routes and of the receiver."""
    models: set[type[BaseModel]] = {Problem, Accepted}
    for route in routes:
        models |= {model for model in (route.takes, route.gives) if model}
    _, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=REF,
    )
    paths: dict[str, dict[str, Any]] = {
        "/hooks/{tool_id}": {"post": _receive("receive", "tool_id")},
        "/hooks/{tenant}/{tool_id}": {"post": _receive("receive_of_tenant", "tenant", "tool_id")},
    }
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hookstream",
            "version": __version__,
            "description": "Webhooks into AI agents' contexts. Updates themselves come over "
            "WebSocket at /contexts/{context_id}/updates; schemas are at /registry, by the "
            "interface of Confluent's Schema Registry. With the installation's own key the header "
            "Hookstream-Tenant names the tenant that a request is for; without it that is "
            "`default`.",
            "license": {"name": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "security": [{"key": []}],
        "responses": {
            **_success(route),
            # an agent's key may make too many calls, of what it may not call, too
            **{str(status): _problem(status) for status in (*ALWAYS, *route.errors)},
        },
    }
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += [
        {"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.takes:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(route.takes)}},
        }
        for status in (408, 413, 415):
            operation["responses"][str(status)] = _problem(status)
    return operation


def _success(route: Route) -> dict[str, Any]:
    statuses = ("200", "201") if route.method == "PUT" else (str(route.status),)
    if route.gives is None:
        return {status: {"description": "Done"} for status in statuses}
    content = {"application/json": {"schema": _ref(route.gives)}}
    return {status: {"description": "Done", "content": content} for status in statuses}


def _receive(operation: str, *names: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": "Receive a webhook, signed as its provider signs",
        "parameters": [_path_parameter(name) for name in names],
        "requestBody": {
            "content": {"application/json": {}, "application/x-www-form-urlencoded": {}}
        },
        "responses": {
            "200": {
                "description": "As the provider wants it: durable, or its trial of the URL answered"
            },
            "202": {
                "description": "Durable",
                "content": {"application/json": {"schema": _ref(Accepted)}},
            },
            **{str(status): _problem(status) for status in RECEIVES},
        },
    }


def _path_parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "pattern": ID_PATTERN}
    if name in UUID_PARAMETERS:
        schema = {"type": "string", "format": "uuid"}
    if name == "seq":
        schema = {"type": "integer", "minimum": 1, "maximum": 2**53}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _problem(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": "A problem",
        "content": {"application/problem+json": {"schema": _ref(Problem)}},
    }
    if status in WAITING:
        found["headers"] = {
            "Retry-After": {
                "description": "Seconds until it may go better",
                "required": True,
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return found
