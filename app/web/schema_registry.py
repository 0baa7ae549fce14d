"""``/registry``: the schema registry, by Confluent's REST interface, so that its clients work.

The key is the API's: as a bearer token, or as the password of HTTP basic with any user. Errors are
``{"error_code", "message"}`` with Confluent's codes, not problem documents.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from mode.utils.logging import get_logger

from hookstream.app.errors import HookstreamError, SchemaRegistryError
from hookstream.app.schema_registry.store import MOST_LISTED, Part, SchemaStore, Version
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import Access
from hookstream.app.web.access import View as Keyed
from hookstream.app.web.body import decode_aside, read_body
from hookstream.app.web.browsers import refuse_other_sites
from hookstream.app.web.request_log import route_of
from hookstream.app.web.routes import may_call
from hookstream.app.web.schema_forms import (
    ConfigIn,
    answer,
    changeable,
    flag,
    given,
    number,
    page,
    part,
    raw,
    read,
    schema_id,
    schema_in,
    schema_out,
    subject,
    tenant,
    text,
    version_out,
)
from hookstream.codecs.schemas import Mode, Schema, SchemaType

__all__ = ["PREFIX", "SchemaViews", "add_schema_registry"]

logger = get_logger(__name__)

PREFIX = "/registry"

View = Callable[[web.Request], Awaitable[web.Response]]


class SchemaViews:
    """Confluent's routes over :class:`SchemaStore`."""

    def __init__(self, *, settings: Settings, schemas: SchemaStore, catalog: CatalogCache) -> None:
        self._settings = settings
        self._store = schemas
        self._catalog = catalog

    async def root(self, request: web.Request) -> web.Response:
        """An empty object: what clients ask to see whether anybody is there."""
        return answer({})

    async def types(self, request: web.Request) -> web.Response:
        """The types of schemas."""
        return answer(sorted(SchemaType))

    async def subjects(self, request: web.Request) -> web.Response:
        """The subjects."""
        which = "all" if flag(request, "deleted") else "live"
        if flag(request, "deletedOnly") or flag(request, "deleted_only"):
            which = "deleted"
        prefix = given(request, "subjectPrefix") or ""
        found = await self._store.subjects(
            tenant(request), prefix=prefix, which=which, part=part(request)
        )
        return answer(found)

    async def register(self, request: web.Request) -> web.Response:
        """A new version of a subject; the one that says the same where there is one."""
        name, schema = changeable(request), await self._schema(request)
        version = await self._store.register(tenant(request), name, schema)
        return answer({"id": version.schema_id})

    async def look_up(self, request: web.Request) -> web.Response:
        """The version of a subject that says what the body says."""
        schema = await self._schema(request)
        deleted = flag(request, "deleted")
        version = await self._store.look_up(
            tenant(request), subject(request), schema, deleted=deleted
        )
        return answer(version_out(version, text(request, version.schema, version.compiled)))

    async def delete_subject(self, request: web.Request) -> web.Response:
        """Delete all versions of a subject."""
        permanent = flag(request, "permanent")
        numbers = await self._store.delete_subject(
            tenant(request), changeable(request), permanent=permanent
        )
        await self._catalog.reload()
        return answer(numbers)

    async def versions(self, request: web.Request) -> web.Response:
        """The numbers of a subject's versions."""
        deleted = flag(request, "deleted")
        numbers = await self._store.numbers(
            tenant(request), subject(request), deleted=deleted, part=part(request)
        )
        return answer(numbers)

    async def version(self, request: web.Request) -> web.Response:
        """One version of a subject."""
        found = await self._version(request)
        return answer(version_out(found, text(request, found.schema, found.compiled)))

    async def version_text(self, request: web.Request) -> web.Response:
        """One version's schema alone."""
        found = await self._version(request)
        return raw(text(request, found.schema, found.compiled))

    async def _version(self, request: web.Request) -> Version:
        deleted = flag(request, "deleted")
        return await self._store.version(
            tenant(request), subject(request), number(request), deleted=deleted
        )

    async def referenced_by(self, request: web.Request) -> web.Response:
        """Ids of the schemas that import a version."""
        found = await self._store.referrers(tenant(request), subject(request), number(request))
        return answer(page(request, found))

    async def delete_version(self, request: web.Request) -> web.Response:
        """Delete one version."""
        permanent = flag(request, "permanent")
        gone = await self._store.delete_version(
            tenant(request), changeable(request), number(request), permanent=permanent
        )
        await self._catalog.reload()
        return answer(gone)

    async def by_id(self, request: web.Request) -> web.Response:
        """A schema by its id."""
        schema, compiled = await self._store.by_id(tenant(request), schema_id(request))
        return answer(schema_out(schema, text(request, schema, compiled)))

    async def text_by_id(self, request: web.Request) -> web.Response:
        """A schema's text alone."""
        schema, compiled = await self._store.by_id(tenant(request), schema_id(request))
        return raw(text(request, schema, compiled))

    async def versions_by_id(self, request: web.Request) -> web.Response:
        """Subjects and versions of a schema."""
        uses = await self._uses(request, part(request))
        return answer([{"subject": name, "version": n} for name, n in uses])

    async def subjects_by_id(self, request: web.Request) -> web.Response:
        """Subjects of a schema."""
        found = sorted({name for name, _ in await self._uses(request, (0, MOST_LISTED))})
        return answer(page(request, found))

    async def _uses(self, request: web.Request, part: Part) -> list[tuple[str, int]]:
        return await self._store.uses(
            tenant(request),
            schema_id(request),
            deleted=flag(request, "deleted"),
            subject=given(request, "subject"),
            part=part,
        )

    async def compatible(self, request: web.Request) -> web.Response:
        """Whether a schema could follow one version, or by the subject's mode all of them."""
        schema = await self._schema(request)
        wanted = number(request) if "version" in request.match_info else None
        problems = await self._store.incompatibilities(
            tenant(request), subject(request), schema, wanted
        )
        said: dict[str, Any] = {"is_compatible": not problems}
        if flag(request, "verbose"):
            said["messages"] = problems
        return answer(said)

    async def show_config(self, request: web.Request) -> web.Response:
        """The compatibility mode of a subject, or of all."""
        name = subject(request, "")
        mode = await self._store.mode(tenant(request), name)
        if mode is None and name and not flag(request, "defaultToGlobal"):
            raise SchemaRegistryError(
                404, 40408, f"Subject '{name}' does not have subject-level compatibility configured"
            )
        mode = mode or await self._store.mode(tenant(request)) or Mode.BACKWARD
        return answer({"compatibilityLevel": mode})

    async def set_config(self, request: web.Request) -> web.Response:
        """Set the compatibility mode of a subject, or of all."""
        asked = read(await self._body(request), ConfigIn, 42203)
        try:
            mode = Mode(asked.compatibility.upper())
        except ValueError as error:
            raise SchemaRegistryError(
                422, 42203, f"Invalid compatibility level. Valid values are {', '.join(Mode)}"
            ) from error
        await self._store.set_mode(tenant(request), mode, changeable(request, ""))
        return answer({"compatibility": mode})

    async def delete_config(self, request: web.Request) -> web.Response:
        """Take a compatibility mode back; answers what it was."""
        name = changeable(request, "")
        mode = await self._store.mode(tenant(request), name)
        if mode is None and name:
            raise SchemaRegistryError(
                404, 40408, f"Subject '{name}' does not have subject-level compatibility configured"
            )
        await self._store.set_mode(tenant(request), None, name)
        return answer({"compatibilityLevel": mode or Mode.BACKWARD})

    async def show_mode(self, request: web.Request) -> web.Response:
        """Everything can be read and written, always."""
        name = subject(request, "")
        if name and not flag(request, "defaultToGlobal"):
            raise SchemaRegistryError(
                404, 40409, f"Subject '{name}' does not have subject-level mode configured"
            )
        return answer({"mode": "READWRITE"})

    async def set_mode(self, request: web.Request) -> web.Response:
        """Refused: there is one mode."""
        raise SchemaRegistryError(422, 42205, "Operation not permitted: the mode is READWRITE")

    async def _schema(self, request: web.Request) -> Schema:
        return schema_in(await self._body(request))

    async def _body(self, request: web.Request) -> bytes:
        settings = self._settings
        body = await read_body(request, settings.max_body_bytes, settings.body_timeout_seconds)
        encoding = ",".join(request.headers.getall("Content-Encoding", ()))
        return await decode_aside(body, encoding, settings.max_body_bytes)


def add_schema_registry(
    web_app: web.Application, views: SchemaViews, access: Access, public_url: str
) -> None:
    """Add the routes below :data:`PREFIX`.

    A browser sends a password that it once asked for whichever page wants something here: only
    those of this site, and of ``public_url``, get it.
    """
    one, many = "/subjects/{subject}", "/subjects/{subject}/versions"
    version, by_id = many + "/{version}", "/schemas/ids/{id}"
    asks = (views.look_up, views.compatible)
    routes: list[tuple[str, str, View]] = [
        ("GET", "", views.root),
        ("GET", "/", views.root),
        ("GET", "/schemas/types", views.types),
        ("GET", by_id, views.by_id),
        ("GET", by_id + "/schema", views.text_by_id),
        ("GET", by_id + "/versions", views.versions_by_id),
        ("GET", by_id + "/subjects", views.subjects_by_id),
        ("GET", "/subjects", views.subjects),
        ("POST", one, views.look_up),
        ("DELETE", one, views.delete_subject),
        ("GET", many, views.versions),
        ("POST", many, views.register),
        ("GET", version, views.version),
        ("DELETE", version, views.delete_version),
        ("GET", version + "/schema", views.version_text),
        ("GET", version + "/referencedby", views.referenced_by),
        ("POST", "/compatibility" + many, views.compatible),
        ("POST", "/compatibility" + version, views.compatible),
        ("GET", "/mode", views.show_mode),
        ("GET", "/mode/{subject}", views.show_mode),
        ("PUT", "/mode", views.set_mode),
        ("PUT", "/mode/{subject}", views.set_mode),
    ]
    for path in ("/config", "/config/{subject}"):
        routes += [
            ("GET", path, views.show_config),
            ("PUT", path, views.set_config),
            ("DELETE", path, views.delete_config),
        ]
    for method, path, view in routes:
        keyed = access.require_key(
            view,
            may_call(method, PREFIX + path),
            credentials=_credentials,
            action=None if view in asks else "",
        )
        web_app.router.add_route(method, PREFIX + path, _guarded(keyed, public_url))


def _guarded(keyed: Keyed, public_url: str) -> Keyed:
    """A view behind a key, with errors in Confluent's form."""

    async def guarded(request: web.Request) -> Any:
        try:
            refuse_other_sites(request, public_url)
            return await keyed(request)
        except SchemaRegistryError as error:
            return answer({"error_code": error.code, "message": str(error)}, error.status)
        except HookstreamError as error:
            if error.status >= 500:
                logger.warning("%s %s: %s", *route_of(request), error)
            response = answer({"error_code": error.status, "message": str(error)}, error.status)
            if error.status == 401:
                response.headers["WWW-Authenticate"] = 'Basic realm="Hookstream"'
            return response

    return guarded


def _credentials(request: web.Request) -> str:
    """The key as a bearer token, whichever way it was sent."""
    given = request.headers.get("Authorization", "")
    scheme, _, encoded = given.partition(" ")
    if scheme.lower() != "basic":
        return given
    try:
        _, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # binascii's, UnicodeDecodeError, or characters that are not ASCII
        return ""
    return f"Bearer {password}"
