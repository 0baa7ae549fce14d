"""``hookstream partitions``: who owns what, and how far behind it is."""

import asyncio
import json
from typing import Any

from faust.cli.base import option

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import Command, columns

__all__ = ["partitions"]


class partitions(Command):  # noqa: N801 Faust names a command by its class
    """Show every partition: owner, epoch, lag, pending entries, age of the oldest that waits."""

    options = [
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Ask once, and print."""
        return asyncio.run(self._run(**options))

    async def _run(self, *, as_json: bool, url: str) -> int:
        async with ApiClient(self.settings, url) as api:
            shown = await api.call("GET", "/partitions")
        if as_json:
            self.stdout.write(json.dumps(shown, indent=2) + "\n")
            return 0
        rows = [("partition", "owner", "epoch", "lease s", "lag", "pending", "oldest s")]
        for row in shown["partitions"]:
            streams = row["streams"].values()
            lags = [stream["lag"] for stream in streams]
            rows.append(
                (
                    str(row["partition"]),
                    row["owner"] or "nobody",
                    str(row["epoch"]),
                    f"{row['lease_seconds']:.1f}",
                    "?" if None in lags else f"{sum(lags):.0f}",
                    f"{sum(stream['pending'] for stream in streams):.0f}",
                    f"{max(stream['oldest_seconds'] for stream in streams):.1f}",
                )
            )
        for line in columns(rows):
            self.stdout.write(line + "\n")
        self.stdout.write(f"{len(shown['workers'])} workers alive\n")
        return 0
