"""Who may call: API keys, and JSON bodies read strictly."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hookstream.app.errors import (
    AuthError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    PayloadTooLargeError,
    SuspendedError,
    UnavailableError,
)
from hookstream.app.identity.sessions import Sessions, digest_of
from hookstream.app.ids import DEFAULT_TENANT, event_time_ms, full_tool_id
from hookstream.app.postgres.acting import Acting
from hookstream.app.postgres.tenancy import of_tenant
from hookstream.app.roles import INSTALLATION, May, Role
from hookstream.app.routing.catalog import ApiKey
from hookstream.app.settings import Settings
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.key_uses import KeyUses
from hookstream.app.web.body import decode_aside, read_body
from hookstream.app.web.cookies import Cookies
from hookstream.app.web.limits import RateLimit
from hookstream.app.web.models.fields import ID_PATTERN
from hookstream.app.web.recorded import recorded
from hookstream.app.web.request_log import id_of
from hookstream.app.web.sender import sender_of
from hookstream.app.web.wrong_fields import told

__all__ = [
    "CALLER_KEY",
    "TENANT",
    "TENANT_KEY",
    "Access",
    "Caller",
    "People",
    "View",
    "path_id",
    "path_tool",
    "query_tool",
    "read_model",
    "uuid7",
]

#: Most bytes of a body of the API.
MAX_MODEL_BYTES = 1024 * 1024
#: The tenant of the admin key.
TENANT = DEFAULT_TENANT
#: By it who has the admin key acts for another tenant than the default one.
TENANT_HEADER = "Hookstream-Tenant"


#: Who acts where nobody has called.
NOBODY = Acting("unknown", "", "", "", "", "", "")
ADMIN = Acting("admin", "admin", "", "admin", "", "", "")
#: Roles that are shown payloads as they were sent.
ORIGINALS = (Role.ADMIN, Role.OWNER, Role.OPERATOR)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it is, and what it may: its role, and of an agent's key its contexts.

    ``contexts`` are those it may read; None where it is no agent's: all of the tenant's.
    """

    tenant: str
    contexts: frozenset[str] | None = None
    #: Of the key, or of a person's session; empty for the admin key.
    digest: bytes = b""
    #: For the audit trail: whose call it is, and from where.
    acting: Acting = field(default=NOBODY, compare=False)
    role: Role = Role.AGENT

    @property
    def operator(self) -> bool:
        """Whether it is the installation's own key: it may see and change all tenants."""
        return self.role == Role.ADMIN

    @property
    def sees_originals(self) -> bool:
        """Whether it is shown payloads as they were sent; others see them masked."""
        return self.role in ORIGINALS

    def check(self, context_id: str) -> None:
        """Raises ForbiddenError for a context that the key does not name, be there one or not."""
        if self.contexts is not None and context_id not in self.contexts:
            raise ForbiddenError("this key does not name this context")

    def check_may(self, may: May) -> None:
        """Raises ForbiddenError where the caller's role is none of those that may."""
        if self.role in may.roles or may.anybody:
            return
        if self.role == Role.AGENT:
            raise ForbiddenError("an agent's key reads its contexts; this needs the admin key")
        named = ", ".join(role for role in Role if role in may.roles)
        raise ForbiddenError(f"the role {self.role} may not do this; it needs one of: {named}")


class ExpiredKeyError(AuthError):
    """A key that counts no more."""

    def __init__(self, known: ApiKey) -> None:
        super().__init__("this API key has expired, or was replaced by another one: ask for it")
        self.known = known


def kind_of(role: Role) -> str:
    """What the audit trail calls who has a key of a role."""
    return "agent" if role == Role.AGENT else "key"


#: Set on an authorised request.
TENANT_KEY: web.RequestKey[str] = web.RequestKey("tenant", str)
CALLER_KEY: web.RequestKey[Caller] = web.RequestKey("caller", Caller)

View = Callable[[web.Request], Awaitable[web.StreamResponse]]
Model = TypeVar("Model", bound=BaseModel)


def _who(request: web.Request) -> tuple[str, Acting]:
    return request[TENANT_KEY], request[CALLER_KEY].acting


def _header(request: web.Request) -> str:
    return request.headers.get("Authorization", "")


@dataclass(frozen=True, slots=True)
class People:
    """Who has signed in, and how their browsers say so."""

    sessions: Sessions
    cookies: Cookies


def _of_call(caller: Caller, request: web.Request) -> Caller:
    who = replace(
        caller.acting,
        address=sender_of(request).address,
        request_id=id_of(request),
        # not the request's id, which a client may choose
        call=secrets.token_hex(12),
    )
    return replace(caller, acting=who)


class Access:
    """Knows whose a key is: the admin key, or one that was made for a program or an agent."""

    def __init__(
        self,
        catalog: CatalogCache,
        admin_key: Callable[[], str],
        limit: RateLimit,
        trail: AuditTrail,
        uses: KeyUses,
        *,
        people: People | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``admin_key`` is asked when a request comes: the key may have to be made first.

        ``limit``: of calls, by the digest of a key; ``uses``: told of each key that was used;
        ``people``: sessions of those who sign in.
        """
        self._people = people
        self._uses = uses
        self._now = now
        self._limit = limit
        self._trail = trail
        self._catalog = catalog
        self._admin_key = admin_key

    def caller(self, request: web.Request, credentials: str) -> Caller:
        """Whose the key in an ``Authorization`` header's value is; counts as a call of it.

        Raises:
            AuthError: it is missing, of another scheme, or the key is not known.
            ForbiddenError: it acts for a tenant that is not its own.
            LimitError: the key makes too many calls.
            SuspendedError: its tenant is suspended.
        """
        try:
            caller = self._known(credentials)
        except ExpiredKeyError as error:
            known = error.known
            address = sender_of(request).address
            self._trail.refused(known.tenant, address, known.key_id, "expired", kind_of(known.role))
            raise
        except AuthError:
            reason = "unknown" if credentials else "missing"
            self._trail.refused(TENANT, sender_of(request).address, "", reason)
            raise
        caller = self._of_tenant(caller, request.headers.get(TENANT_HEADER, ""))
        return _of_call(caller, request)

    async def caller_of(self, request: web.Request, credentials: str) -> Caller:
        """As :meth:`caller`; without credentials, who has signed in.

        Raises:
            AuthError, LimitError: as there; or the session has ended.
            ForbiddenError: a page of another site asks.
            UnavailableError: sessions cannot be read.
        """
        people = self._people
        token = people.cookies.token(request) if people and not credentials else ""
        if people is None or not token:
            return self.caller(request, credentials)
        people.cookies.check_own_page(request)
        person = await people.sessions.find(token)
        if person is None:
            self._trail.refused(TENANT, sender_of(request).address, "", "unknown")
            raise AuthError("this session has ended: sign in again")
        digest = digest_of(token)
        self._limit.take(digest)
        people.sessions.follow(digest, person.until)
        who = Acting("person", person.subject, person.name, person.role, "", "", "")
        caller = Caller(person.tenant, None, digest, who, person.role)
        caller = self._of_tenant(caller, request.headers.get(TENANT_HEADER, ""))
        return _of_call(caller, request)

    def is_admin(self, request: web.Request) -> bool:
        """Whether a request has the installation's key; one that asks for nothing more."""
        scheme, _, key = _header(request).partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            admin_key = self._admin_key()
        except UnavailableError:
            return False  # there is none yet
        given = key.strip().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, admin_key.encode())

    def forbidden(self, caller: Caller) -> None:
        """Count a call that the caller's key is not for."""
        who = caller.acting
        self._trail.refused(caller.tenant, who.address, who.id, "forbidden", who.kind)

    def _of_tenant(self, caller: Caller, named: str) -> Caller:
        """The caller in the tenant that it acts for: ``named`` by the operator, or its own."""
        if named and named != caller.tenant:
            if not caller.operator:
                raise ForbiddenError("this key is of another tenant")
            if named not in self._catalog.current.tenants:
                raise NotFoundError(f"there is no tenant {named[:128]!r}")
            caller = replace(caller, tenant=named)
        trouble = self._catalog.current.tenant(caller.tenant).trouble
        if trouble and not caller.operator:
            raise SuspendedError(trouble)
        return caller

    def _known(self, credentials: str) -> Caller:
        scheme, _, key = credentials.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise AuthError(
                "send Authorization: Bearer KEY (the admin key is in STATE_DIR/admin.key)"
            )
        given = key.strip().encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, self._admin_key().encode()):
            return Caller(TENANT, acting=ADMIN, role=Role.ADMIN)
        # a look-up by hash tells nothing about keys by the time it takes
        digest = hashlib.sha256(given).digest()
        known = self._catalog.current.keys.get(digest)
        if known is None:
            raise AuthError("this API key is not known here")
        if not self._counts(known):
            raise ExpiredKeyError(known)
        # the admin key has no limit: it is what an operator helps with when there is trouble
        self._limit.take(digest)
        self._uses.used(known.tenant, known.key_id, self._now())
        who = Acting(kind_of(known.role), known.key_id, known.name, known.role, "", "", "")
        return Caller(known.tenant, known.contexts, digest, who, known.role)

    def _counts(self, known: ApiKey) -> bool:
        """Whether a key has not expired, and was not replaced too long ago."""
        return self._now() < known.until

    def still_known(self, caller: Caller) -> bool:
        """Whether the key that a long connection began with may still do what it could then."""
        if not caller.digest:
            return True
        if caller.acting.kind == "person":
            return self._people is not None and self._people.sessions.still(caller.digest)
        known = self._catalog.current.keys.get(caller.digest)
        return (
            known is not None
            and self._counts(known)
            and (known.role, known.contexts) == (caller.role, caller.contexts)
            and not self._catalog.current.tenant(caller.tenant).trouble
        )

    def require_key(
        self,
        view: View,
        may: May,
        *,
        credentials: Callable[[web.Request], str] = _header,
        action: str | None = "",
    ) -> View:
        """A view that only an authorised request of a role that ``may`` reaches.

        ``credentials`` finds in a request what an ``Authorization`` header would say.
        An agent's key never gets past a ``context_id`` in the path that it does not name.
        Statements see rows of the caller's tenant only, but where what a view shows or does is of
        all tenants, and for the admin key alone.
        ``action``: what the audit trail calls it where a request other than GET has left no row
        there; None where it changes nothing.
        """
        if action is not None:
            view = recorded(view, self._trail, action, _who)

        async def authorised(request: web.Request) -> web.StreamResponse:
            caller = await self.caller_of(request, credentials(request))
            try:
                return await let_in(request, caller)
            except ForbiddenError:
                self.forbidden(caller)
                raise

        async def let_in(request: web.Request, caller: Caller) -> web.StreamResponse:
            caller.check_may(may)
            if caller.contexts is not None and "context_id" in request.match_info:
                caller.check(request.match_info["context_id"])
            request[CALLER_KEY] = caller
            request[TENANT_KEY] = caller.tenant
            if may == INSTALLATION:
                return await view(request)
            with of_tenant(caller.tenant):
                return await view(request)

        return authorised


def path_id(request: web.Request, name: str) -> str:
    """An id from the path.

    Raises:
        BadRequestError: it has characters that an id cannot have.
    """
    value = request.match_info[name]
    if not re.fullmatch(ID_PATTERN, value):
        raise BadRequestError(
            f"{name} may have letters, digits, '.', '_' and '-', up to 128, and begins with a "
            "letter or a digit"
        )
    return value


def path_tool(request: web.Request, name: str = "tool_id") -> str:
    """A tool from the path, as it is called in the whole installation.

    Raises:
        BadRequestError: it has characters that an id cannot have.
    """
    return full_tool_id(request[TENANT_KEY], path_id(request, name))


def query_tool(request: web.Request, given: str | None) -> str | None:
    """A tool that a filter names, as it is called in the whole installation; None for any."""
    return None if given is None else full_tool_id(request[TENANT_KEY], given)


def uuid7(text: str, name: str) -> str:
    """``text`` if it is an id that Hookstream could have given.

    Raises:
        BadRequestError: it is not.
    """
    try:
        event_time_ms(text)
    except ValueError as error:
        raise BadRequestError(f"{name} is not a UUIDv7 in lower case with hyphens") from error
    return text


async def read_model(
    settings: Settings, request: web.Request, model: type[Model], most: int = MAX_MODEL_BYTES
) -> Model:
    """The request's JSON body as ``model``; ``most``: bytes of it that are looked into.

    Raises:
        BadRequestError: no JSON, or it does not fit; the detail names the first fields.
        PayloadTooLargeError: it is longer than any such body.
    """
    raw = await read_body(request, settings.max_body_bytes, settings.body_timeout_seconds)
    encoding = ",".join(request.headers.getall("Content-Encoding", ()))
    body = await decode_aside(raw, encoding, settings.max_body_bytes)
    if len(body) > most:
        raise PayloadTooLargeError(f"the body is over {most} bytes, which none of this kind needs")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise BadRequestError(told(error, model)) from error
