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
from hookstream.app.providers import check_options, provider
from hookstream.app.providers.signatures.option_checks import read_options
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
            help="The tool's secret. Others on this machine see it in the list of processes: "
            "--secret-file, or the environment's HOOK_SECRET, are for secrets that count.",
        ),
        option(
            "--secret-file",
            default="",
            metavar="FILE",
            help='A file with the secret on its only line; "-" for standard input.',
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
        option(
            "--signed-url",
            default="",
            metavar="URL",
            help="The tool's whole address as the sender calls it, for senders that sign it and a "
            "tool that has a public_url; the one that is posted to by default.",
        ),
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
        secret_file: str,
        event: str,
        delivery: str,
        settings: tuple[str, ...],
        url: str,
        signed_url: str,
    ) -> int:
        kind = provider(provider_name)
        if secret_file:
            if file == secret_file == "-":
                raise BadRequestError("only one of FILE and --secret-file can be standard input")
            secret = read_secret(secret_file)
        if kind.needs_secret and not secret:
            raise BadRequestError(
                f"{kind.title} signs its webhooks: give --secret-file, HOOK_SECRET or --secret"
            )
        body = read_payload(file)
        tool_options = signature_options(settings)
        check_options(kind, tool_options)
        if url and not url.startswith(("http://", "https://")):
            raise BadRequestError(f"--url {url}: an address, as http://127.0.0.1:6066")
        now = time.time()
        if kind.stamp:
            body = kind.stamp(body, now)
        if kind.seal:
            body = kind.seal(body, secret)
        conf = self.settings
        address = f"{url or conf.known_hooks_address()}/hooks/{tool}"
        if kind.address:
            address = kind.address(address, secret)
        headers = kind.sign(
            body,
            secret,
            tool_options,
            now=now,
            event_type=event,
            delivery_id=delivery or secrets.token_hex(16),
            url=signed_url or address,
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
        return read_options(given)
    except TypeError as error:
        raise BadRequestError(f"--option: {error}") from error


def read_secret(file: str) -> str:
    """The secret in a file, or on standard input for "-". Raises BadRequestError."""
    try:
        secret = read_payload(file).decode().strip()
    except (BadRequestError, UnicodeDecodeError) as error:
        raise BadRequestError(f"--secret-file {error}") from error
    # a key as PEM has lines
    if not secret or ("\n" in secret and not secret.startswith("-----BEGIN ")):
        raise BadRequestError(
            f"--secret-file: {file} has not the secret alone, on one line or as PEM"
        )
    return secret


def read_payload(file: str) -> bytes:
    """The bytes of a file, or of standard input for "-". Raises BadRequestError."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadRequestError(f"{file}: {error.strerror}") from error
