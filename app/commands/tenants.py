"""``hookstream tenants``: who shares this installation, from a shell."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.api_command import API_OPTIONS, ApiCommand
from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import columns
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.routing.tenants import TenantQuotas

__all__ = ["tenants"]

QUOTAS = tuple(one.name for one in fields(TenantQuotas))
#: Between two looks at a deletion that is waited for.
LOOK_SECONDS = 1.0
PAGE = 1000


class tenants(ApiCommand):  # noqa: N801 Faust names a command by its class
    """Tenants: `list`, `make ID`, `show ID`, `suspend ID`, `resume ID`, `delete ID --confirm ID`,
    `quotas ID [NAME=NUMBER …]` (NAME= takes one away), `masking ID` (shows rules for
    personal data; `--rules FILE` sets them, `--no-rules` takes them away).
    """

    actions = ("list", "make", "show", "suspend", "resume", "delete", "quotas", "masking")
    options = [
        argument("action", metavar="ACTION"),
        argument("tenant_id", metavar="[ID]", required=False, default=""),
        argument("quotas", metavar="[NAME=NUMBER]...", nargs=-1),
        option("--name", default="", help="make: what people call it."),
        option("--reason", default="", help="suspend: why; whoever is refused is told."),
        option("--confirm", default="", help="delete: its id once more; all that it has goes."),
        option("--wait", is_flag=True, help="delete: until all of it is deleted."),
        option("--rules", default="", help="masking: a file of JSON; - for standard input."),
        option("--no-rules", is_flag=True, help="masking: its tools' own rules hold alone."),
        *API_OPTIONS,
    ]

    def check(
        self,
        *,
        action: str,
        tenant_id: str,
        quotas: Sequence[str],
        rules: str,
        no_rules: bool,
        **options: Any,
    ) -> None:
        """All but a list are of one tenant, and quotas and rules are what they can be."""
        if bool(tenant_id) == (action == "list"):
            raise BadRequestError(
                "list takes no id" if tenant_id else f"{action} which? `hookstream tenants list`"
            )
        if quotas and action not in ("make", "quotas"):
            raise BadRequestError(f"{action} takes no quotas")
        parse_quotas(quotas)
        if (rules or no_rules) and action != "masking":
            raise BadRequestError(f"{action} takes no rules")
        if rules and no_rules:
            raise BadRequestError("--rules or --no-rules: one of them")

    async def ask(
        self,
        api: ApiClient,
        *,
        action: str,
        tenant_id: str = "",
        quotas: Sequence[str] = (),
        wait: bool = False,
        rules: str = "",
        no_rules: bool = False,
        **rest: str,
    ) -> None:
        """List tenants, or do something to one and show it."""
        if action == "list":
            tenants = await api.everything("/tenants", "tenants", PAGE)
            self.tell(tenants, table(tenants))
            return
        if action == "masking":
            found = await self._masking(api, tenant_id, rules, none=no_rules)
            self.tell(found, "\n".join(masking_lines(found)))
            return
        found = await self._do(api, action, tenant_id, parse_quotas(quotas), **rest)
        if action == "delete" and wait:
            found = await self._wait(api, tenant_id)
        self.tell(found, "\n".join(lines_of(found)))

    async def _do(
        self,
        api: ApiClient,
        action: str,
        tenant_id: str,
        quotas: Mapping[str, float | None],
        *,
        name: str,
        reason: str,
        confirm: str,
    ) -> Any:
        path = f"/tenants/{quoted(tenant_id)}"
        if action == "make":
            body = {"tenant_id": tenant_id, "name": name, "quotas": quotas}
            return await api.call("POST", "/tenants", body=body)
        if action == "quotas" and quotas:
            return await api.call("PATCH", path, body={"quotas": quotas})
        if action == "suspend":
            return await api.call("POST", f"{path}/suspend", body={"reason": reason})
        if action == "resume":
            return await api.call("POST", f"{path}/resume")
        if action == "delete":
            return await api.call("DELETE", path, confirm=confirm)
        found = await api.call("GET", path)
        if found["state"] != "deleted":
            found["metrics"] = await api.call("GET", f"{path}/metrics")
        return found

    async def _masking(self, api: ApiClient, tenant_id: str, rules: str, *, none: bool) -> Any:
        path = f"/tenants/{quoted(tenant_id)}/masking"
        body = read_rules(rules) if rules else None
        if none:
            await api.call("DELETE", path)
        return await api.call("GET" if body is None else "PUT", path, body=body)

    async def _wait(self, api: ApiClient, tenant_id: str) -> Any:
        while True:
            found = await api.call("GET", f"/tenants/{quoted(tenant_id)}")
            if found["state"] == "deleted":
                return found
            self.stdout.write(f"{time.strftime('%H:%M:%S')}  {deletion_line(found['deletion'])}\n")
            await asyncio.sleep(LOOK_SECONDS)


def read_rules(name: str) -> dict[str, Any]:
    """Masking rules in a file of JSON, or on standard input.

    Raises:
        BadRequestError: there is no such file, or no JSON object in it.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise BadRequestError(f"--rules {name}: {error}") from error
    if not isinstance(found, dict):
        example = {"agents": {"email": "mask"}}
        raise BadRequestError(f"--rules {name}: an object such as {json.dumps(example)}")
    return found


def masking_lines(found: Mapping[str, Any]) -> list[str]:
    """A tenant's rules for personal data, for a person."""
    rules = found["masking"]
    if rules is None:
        return [f"{found['tenant_id']}  no rules of its own"]
    rows: list[tuple[str, ...]] = [("of", "what", "becomes")]
    rows += [
        (of, what, action)
        for of in ("agents", "models", "fields")
        for what, action in sorted(rules[of].items())
    ]
    return [f"{found['tenant_id']}  keep: {rules['keep']}", *columns(rows)]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Tenants for people, a line each."""
    rows: list[tuple[str, ...]] = [("tenant", "state", "name", "quotas")]
    rows += [
        (one["tenant_id"], one["state"], one["name"], quotas_line(one["quotas"])) for one in found
    ]
    return "\n".join(columns(rows))


def parse_quotas(given: Sequence[str]) -> dict[str, float | None]:
    """``tools=20 events_per_second=1.5 keys=``; a name without a number takes its quota away.

    Raises:
        BadRequestError: it is none of the quotas, or no number.
    """
    found: dict[str, float | None] = {}
    for text in given:
        name, equals, number = text.partition("=")
        if name not in QUOTAS or not equals:
            raise BadRequestError(f"{text}: NAME=NUMBER, NAME one of {', '.join(QUOTAS)}")
        try:
            value = float(number) if number else None
        except ValueError as error:
            raise BadRequestError(f"{text}: {number} is no number") from error
        whole = value is not None and value.is_integer()
        found[name] = int(value) if whole and value is not None else value
    return found


def quotas_line(quotas: Mapping[str, float]) -> str:
    """Quotas as they are given."""
    return " ".join(f"{name}={number:g}" for name, number in sorted(quotas.items())) or "-"


def deletion_line(deletion: Mapping[str, Any] | None) -> str:
    """How far a deletion has come, for a person."""
    if deletion is None:
        raise NotFoundError("it is not being deleted")
    counts = ", ".join(f"{count} {what}" for what, count in sorted(deletion["deleted"].items()))
    error = f"; {deletion['error']}" if deletion["error"] else ""
    return f"{deletion['step'] or 'waits for a worker'}: {counts or 'nothing yet'}{error}"


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """A tenant, for a person."""
    lines = [f"{found['tenant_id']}  {found['state']}  {found['name']}".rstrip()]
    if found["reason"]:
        lines.append(f"because: {found['reason']}")
    if found["deletion"]:
        lines.append(f"deletion: {deletion_line(found['deletion'])}")
    metrics = found.get("metrics")
    if metrics is None:
        return [*lines, f"quotas: {quotas_line(found['quotas'])}"]
    today = metrics["today"]
    lines.append(f"today: {today['events']} events, {today['bytes']} bytes")
    lines += [f"refused today for {name}: {count}" for name, count in today["refused"].items()]
    rows: list[tuple[str, ...]] = [("quota", "used", "most")]
    rows += [(one["name"], _number(one["used"]), _number(one["most"])) for one in metrics["quotas"]]
    return [*lines, *columns(rows)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
