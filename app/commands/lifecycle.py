"""``hookstream lifecycle``: tiers from a shell."""

import asyncio
import json
from collections import Counter
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import Command, columns
from hookstream.app.errors import BadRequestError

__all__ = ["lifecycle"]

ACTIONS = ("status", "run", "verify")
#: How long a run is waited for, and how often it is asked how far it is.
RUN_SECONDS = 600
ASK_SECONDS = 1.0
#: Differences that are printed; how many there are is.
PRINTED = 200


class lifecycle(Command):  # noqa: N801 Faust names a command by its class
    """Tiers of events: `status`, `run` what is due now, or `verify` that all that is kept fits."""

    options = [
        argument("action", metavar="ACTION"),
        option(
            "--read",
            is_flag=True,
            help="verify: read the archive's objects, and look for each event in them.",
        ),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        if options["action"] not in ACTIONS:
            raise BadRequestError(f"{options['action']}: one of {', '.join(ACTIONS)}")
        return asyncio.run(self._run(**options))

    async def _run(self, *, action: str, read: bool, as_json: bool, url: str) -> int:
        async with ApiClient(self.settings, url) as api:
            if action == "verify":
                return await self._verify(api, read, as_json)
            if action == "run":
                await self._wait_for_run(api)
            shown = await api.call("GET", "/lifecycle")
        self.stdout.write(json.dumps(shown, indent=2) + "\n" if as_json else _table(shown))
        return 0

    async def _wait_for_run(self, api: ApiClient) -> None:
        """Ask for a run, and wait until every worker that there is has had one since."""
        workers = (await api.call("GET", "/partitions"))["workers"]
        if not workers:
            raise BadRequestError("no worker is alive: nobody moves anything")
        asked = (await api.call("POST", "/lifecycle/run"))["asked"]
        for second in range(RUN_SECONDS):
            runs = (await api.call("GET", "/lifecycle"))["workers"]
            done = [name for name in workers if runs.get(name, {}).get("asked", 0) >= asked]
            if len(done) == len(workers):
                return
            self._progress(f"{len(done)} of {len(workers)} workers are through, {second} s")
            await asyncio.sleep(ASK_SECONDS)
        raise BadRequestError(f"the run is not over after {RUN_SECONDS} s; it goes on")

    async def _verify(self, api: ApiClient, read: bool, as_json: bool) -> int:
        """Look at everything, part by part; the exit status is 1 where something differs."""
        looked: Counter[str] = Counter()
        tiers: Counter[str] = Counter()
        differences: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            found = await api.call(
                "GET", "/lifecycle/verify", cursor=cursor, read="1" if read else ""
            )
            looked[found["part"]] += found["looked_at"]
            tiers.update(found["tiers"])
            differences += found["differences"]
            cursor = found["next"]
            self._progress(f"{looked['events']} events, {looked['warm']} warm blocks")
        if as_json:
            report = {"looked_at": looked, "tiers": tiers, "differences": differences}
            self.stdout.write(json.dumps(report, indent=2) + "\n")
        else:
            for line in differences[:PRINTED]:
                self.stdout.write(f"{line}\n")
            told = ", ".join(f"{count} {tier}" for tier, count in sorted(tiers.items()))
            self.stdout.write(
                f"{looked['events']} events ({told or 'none'}), {looked['warm']} warm blocks, "
                f"{looked['archive']} objects: {len(differences)} differences\n"
            )
        return 1 if differences else 0

    def _progress(self, text: str) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{text:<72}\r")
            self.stderr.flush()


def _table(shown: dict[str, Any]) -> str:
    """Tiers for people."""
    rows = [("tier", "events", "bytes", "oldest")]
    hot, warm, cold = shown["hot"], shown["warm"], shown["cold"]
    rows.append(("hot", f"{hot['entries']:.0f}", "", _age(hot["oldest_seconds"])))
    rows.append(
        ("warm", f"{warm['events']:.0f}", f"{warm['bytes']:.0f}", _age(warm["oldest_seconds"]))
    )
    rows.append(
        ("cold", f"{cold['events']:.0f}", f"{cold['bytes']:.0f}", "")
        if cold
        else ("cold", "?", "?", "")
    )
    lines = columns(rows)
    memory = shown["memory"]
    lines.append(
        f"Redis: {memory['used_bytes']} of {memory['max_bytes'] or '?'} bytes, {memory['means']}"
    )
    for worker, run in sorted(shown["workers"].items()):
        trouble = f"; trouble: {run['trouble']}" if run.get("trouble") else ""
        lines.append(
            f"{worker}: {run['seconds_ago']:.0f} s ago, {run['moved']} became warm, "
            f"{run['archived']} cold{trouble}"
        )
    return "\n".join(lines) + "\n"


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
