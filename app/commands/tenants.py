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

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command, columns
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.routing.tenants import TenantQuotas

__all__ = ["tenants"]

ACTIONS = ("list", "make", "show", "suspend", "resume", "delete", "quotas", "masking")
QUOTAS = tuple(one.name for one in fields(TenantQuotas))
#: Between two looks at a deletion that is waited for.
LOOK_SECONDS = 1.0


class tenants(Command):  # noqa: N801 Faust names a command by its class
    """Tenants: `list`, `make ID`, `show ID`, `suspend ID`, `resume ID`, `delete ID --confirm ID`,
    `quotas ID [NAME=NUMBER …]` (NAME= takes one away), `masking ID` (shows rules for
    personal data; `--rules FILE` sets them, `--no-rules` takes them away).
    """

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
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action, tenant_id = options["action"], options["tenant_id"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if bool(tenant_id) == (action == "list"):
            raise BadRequestError(
                "list takes no id" if tenant_id else f"{action} which? `hookstream tenants list`"
            )
        if options["quotas"] and action not in ("make", "quotas"):
            raise BadRequestError(f"{action} takes no quotas")
        quotas = parse_quotas(options.pop("quotas"))
        rules, no_rules = options.pop("rules"), options.pop("no_rules")
        if (rules or no_rules) and action != "masking":
            raise BadRequestError(f"{action} takes no rules")
        if action == "masking":
            return asyncio.run(self._masking(tenant_id, rules, options, none=no_rules))
        return asyncio.run(self._run(quotas=quotas, **options))

    async def _masking(
        self, tenant_id: str, rules: str, options: Mapping[str, Any], *, none: bool
    ) -> int:
        """Show a tenant's rules for personal data, or set them, or take them away."""
        path = f"/tenants/{quoted(tenant_id)}/masking"
        if rules and none:
            raise BadRequestError("--rules or --no-rules: one of them")
        body = read_rules(rules) if rules else None
        async with ApiClient(self.app.settings, options["url"]) as api:
            if none:
                await api.call("DELETE", path)
            found = await api.call("GET" if body is None else "PUT", path, body=body)
        if options["as_json"]:
            self.stdout.write(json.dumps(found, indent=2) + "\n")
        else:
            self.stdout.write("\n".join(masking_lines(found)) + "\n")
        return 0

    async def _run(self, *, url: str, **options: Any) -> int:
        async with ApiClient(self.app.settings, url) as api:
            if options["action"] == "list":
                return await self._list(api, as_json=options["as_json"])
            found = await self._do(api, **options)
            if options["action"] == "delete" and options["wait"]:
                found = await self._wait(api, options["tenant_id"])
        if options["as_json"]:
            self.stdout.write(json.dumps(found, indent=2) + "\n")
        else:
            self.stdout.write("\n".join(lines_of(found)) + "\n")
        return 0

    async def _do(
        self,
        api: ApiClient,
        *,
        action: str,
        tenant_id: str,
        quotas: Mapping[str, float | None],
        name: str,
        reason: str,
        confirm: str,
        wait: bool,
        as_json: bool,
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

    async def _wait(self, api: ApiClient, tenant_id: str) -> Any:
        while True:
            found = await api.call("GET", f"/tenants/{quoted(tenant_id)}")
            if found["state"] == "deleted":
                return found
            self.stdout.write(f"{time.strftime('%H:%M:%S')}  {deletion_line(found['deletion'])}\n")
            await asyncio.sleep(LOOK_SECONDS)

    async def _list(self, api: ApiClient, *, as_json: bool) -> int:
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await api.call("GET", "/tenants", limit="1000", cursor=cursor)
            found += page["tenants"]
            cursor = page["cursor"]
        if as_json:
            self.stdout.write(json.dumps(found, indent=2) + "\n")
            return 0
        rows: list[tuple[str, ...]] = [("tenant", "state", "name", "quotas")]
        rows += [
            (one["tenant_id"], one["state"], one["name"], quotas_line(one["quotas"]))
            for one in found
        ]
        self.stdout.write("\n".join(columns(rows)) + "\n")
        return 0


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
