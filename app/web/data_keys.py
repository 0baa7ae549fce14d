"""``/api/v1/data-keys``: keys by which payloads are sealed, wrapped anew and destroyed."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.errors import BadRequestError, ForbiddenError, NotFoundError, SealingKeyError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY
from hookstream.app.web.events import check_query
from hookstream.app.web.models.data_keys import DataKeyList, DataKeysRewrapped, DataKeysShredded
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["DataKeyViews"]

_OF: dict[str, dict[str, object]] = {
    "tenant": {"type": "string", "description": "Whose; the key's own by default."}
}
_SHREDS: dict[str, dict[str, object]] = {
    **_OF,
    "confirm": {"type": "string", "description": "`TENANT/MONTH`, as what is to be destroyed."},
}


class DataKeyViews:
    """Shows data keys, and destroys those that somebody means."""

    def __init__(self, data_keys: DataKeys) -> None:
        self._keys = data_keys

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/data-keys",
                self.list,
                "Data keys of a tenant, a month each",
                gives=DataKeyList,
                errors=(400, 403, 503),
                query=_OF,
                operation="data_key_list",
            ),
            Route(
                "POST",
                "/api/v1/data-keys/rewrap",
                self.rewrap,
                "Wrap all data keys by the first key of HOOKSTREAM_KEY_URL now",
                gives=DataKeysRewrapped,
                errors=(503,),
                operation="data_key_rewrap",
                action="data_key.rewrapped",
            ),
            Route(
                "DELETE",
                "/api/v1/data-keys/{month}",
                self.shred,
                "Destroy a tenant's data key of a month: all that it sealed is unreadable for good",
                gives=DataKeysShredded,
                errors=(400, 403, 404, 409, 503),
                query=_SHREDS,
                operation="data_key_shred",
                action="data_key.shredded",
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A tenant's keys, the newest month first."""
        check_query(request.query, _OF)
        tenant = _tenant(request)
        rows = await self._keys.list(tenant)
        return json_response(
            {
                "tenant": tenant,
                "payloads": "sealed" if self._keys.seals else "clear",
                "wraps": self._wraps(),
                "data_keys": [self._out(row) for row in rows],
            }
        )

    async def rewrap(self, request: web.Request) -> web.StreamResponse:
        """Do at once what every process does within seconds."""
        if self._keys.ring.is_empty or not self._keys.has_table:
            return json_response({"rewrapped": 0, "wraps": self._wraps()})
        done = await self._keys.rewrap()
        return json_response({"rewrapped": done, "wraps": self._wraps()})

    async def shred(self, request: web.Request) -> web.StreamResponse:
        """Destroy a month's key, if it is said twice which one."""
        check_query(request.query, _SHREDS)
        tenant, month = _tenant(request), request.match_info["month"]
        if request.query.get("confirm") != f"{tenant}/{month}":
            raise BadRequestError(
                f"confirm={tenant}/{month} is to be there: what this key sealed is unreadable then "
                "for everybody and for good, in backups too"
            )
        done = await self._keys.shred(tenant, month)
        if not done:
            raise NotFoundError(f"{tenant} has no data key of {month} that is not destroyed")
        return json_response({"tenant": tenant, "month": month, "shredded": done})

    def _wraps(self) -> str:
        try:
            return "" if self._keys.ring.is_empty else self._keys.ring.current().name
        except SealingKeyError:
            return ""

    def _out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        number = str(row["key_id"])
        return {
            "key_id": number,
            "month": row["month"],
            "wrapped_by": row["wrapped_by"],
            "made_at": row["made_at"].isoformat(),
            "shredded_at": row["shredded_at"].isoformat() if row["shredded_at"] else None,
            "missing": self._keys.missing.get(number, ""),
        }


def _tenant(request: web.Request) -> str:
    """Whose keys are meant. Raises ForbiddenError where those are not the caller's to ask for."""
    own = request[TENANT_KEY]
    wanted = request.query.get("tenant") or own
    if wanted != own and not request[CALLER_KEY].operator:
        raise ForbiddenError("data keys of another tenant: they need the admin key")
    return wanted
