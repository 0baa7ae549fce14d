"""``hookstream send``: sign a payload as its provider would, and post it."""

import secrets
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from faust.cli.base import AppCommand, argument, option
from hookstream.app.providers import provider
from hookstream.app.signatures import SignatureOptions

from hookstream.app.errors import HookstreamError

__all__ = ["send"]

TIMEOUT_SECONDS = 30


class send(AppCommand):  # noqa: N801 Faust names a command by its class
    """Sign FILE ("-" for standard input) as PROVIDER would, and post it to a tool."""

    options = [
        argument("provider_name", metavar="PROVIDER"),
        argument("file", metavar="FILE"),
        option("--tool", required=True, help="The tool's id."),
        option(
            "--secret",
            default="",
            envvar="HOOK_SECRET",
            help="The tool's secret; also read from the environment's HOOK_SECRET.",
        ),
        option("--event", default="", help="The event's type, where a header carries it."),
        option("--delivery", default="", help="The delivery id; a new one when left out."),
        option(
            "--option",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A signature option, as header=X-Sig for provider generic.",
        ),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and say what was wrong without a traceback."""
        for setting in self.kwargs["settings"]:
            if "=" not in setting:
                raise self.UsageError(f"--option {setting}: NAME=VALUE")
        return super().__call__(*args, **kwargs)

    async def run(
        self,
        provider_name: str,
        file: str,
        tool: str,
        secret: str,
        event: str,
        delivery: str,
        settings: tuple[str, ...],
        url: str,
        **_: Any,
    ) -> None:
        """Post one webhook and print the answer."""
        given: dict[str, Any] = dict(setting.split("=", 1) for setting in settings)
        try:
            kind = provider(provider_name)
            options = SignatureOptions(**given)
        except (HookstreamError, TypeError) as error:
            raise self.UsageError(str(error)) from error
        if kind.needs_secret and not secret:
            raise self.UsageError(f"{kind.title} signs its webhooks: give --secret or HOOK_SECRET")
        body = read_payload(file)
        conf = self.app.settings
        address = f"{url or f'http://{conf.web_host}:{conf.web_port}'}/hooks/{tool}"
        headers = kind.sign(
            body,
            secret,
            options,
            now=time.time(),
            event_type=event,
            delivery_id=delivery or secrets.token_hex(16),
            url=address,
        )
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS)) as session,
            session.post(address, data=body, headers=headers) as response,
        ):
            text = await response.text()
        self.stdout.write(f"{response.status} {text}\n")
        if response.status >= 300:
            raise SystemExit(1)


def read_payload(file: str) -> bytes:
    """The bytes of a file, or of standard input for "-"."""
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
