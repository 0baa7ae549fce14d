"""``hookstream send``: sign a payload as its provider would, and post it."""

import asyncio
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from faust.cli.base import argument, option

from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError
from hookstream.app.providers import provider
from hookstream.app.providers.signatures.options import SignatureOptions

__all__ = ["send"]

TIMEOUT_SECONDS = 30


class send(Command):  # noqa: N801 Faust names a command by its class
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

    def perform(self, **options: Any) -> int:
        """Post one webhook and print the answer."""
        return asyncio.run(self._send(**options))

    async def _send(
        self,
        *,
        provider_name: str,
        file: str,
        tool: str,
        secret: str,
        event: str,
        delivery: str,
        settings: tuple[str, ...],
        url: str,
    ) -> int:
        kind = provider(provider_name)
        if kind.needs_secret and not secret:
            raise BadRequestError(f"{kind.title} signs its webhooks: give --secret or HOOK_SECRET")
        body = read_payload(file)
        now = time.time()
        if kind.stamp:
            body = kind.stamp(body, now)
        conf = self.app.settings
        address = f"{url or conf.known_hooks_address()}/hooks/{tool}"
        headers = kind.sign(
            body,
            secret,
            signature_options(settings),
            now=now,
            event_type=event,
            delivery_id=delivery or secrets.token_hex(16),
            url=address,
        )
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS)) as session,
            session.post(address, data=body, headers=headers) as response,
        ):
            self.stdout.write(f"{response.status} {await response.text()}\n")
            return 0 if response.ok else 1


def signature_options(settings: tuple[str, ...]) -> SignatureOptions:
    """The options in NAME=VALUE texts. Raises BadRequestError."""
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise BadRequestError(f"--option {setting}: NAME=VALUE, as in header=X-Signature")
        given[name] = value
    try:
        return SignatureOptions(**given)
    except TypeError as error:
        raise BadRequestError(f"--option: {error}") from error


def read_payload(file: str) -> bytes:
    """The bytes of a file, or of standard input for "-"."""
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
