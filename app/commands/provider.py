"""``hookstream provider``: the providers there are, and what a payload of one becomes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.command import Command
from hookstream.app.commands.send import read_payload, signature_options
from hookstream.app.errors import BadRequestError
from hookstream.app.providers import PROVIDERS, check_options, correlation_keys
from hookstream.app.providers import provider as provider_of
from hookstream.app.providers.provider import UNKNOWN
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.settings import Settings
from hookstream.codecs.envelope import Event
from hookstream.codecs.form import FORM

__all__ = ["KINDS", "provider", "what_becomes", "what_each_becomes"]

#: By the end of a file's name, what it is sent as.
KINDS = {
    ".json": "application/json",
    ".form": FORM,
    ".xml": "text/xml",
    ".txt": "text/plain",
    ".ndjson": "application/x-ndjson",
}


def what_becomes(
    name: str, body: bytes, content_type: str, headers: Mapping[str, str]
) -> dict[str, Any]:
    """The first of :func:`what_each_becomes`; nothing of an empty batch."""
    return next(iter(what_each_becomes(name, body, content_type, headers)), {})


def what_each_becomes(
    name: str,
    body: bytes,
    content_type: str,
    headers: Mapping[str, str],
    *,
    tool: str = "",
    options: SignatureOptions | None = None,
) -> list[dict[str, Any]]:
    """What a payload becomes: type, delivery id, correlation keys, summary, data and their tokens.

    ``tool`` is the id of the tool that it is sent to; the provider's name where none is given.
    One for each event, in order: several of a batch, none of an empty one. Nothing is verified,
    sent or kept. Raises BadRequestError: there is no such provider.
    """
    # templates and the tokenizer are for this alone: every command is imported with each process
    from hookstream.app.ingest.events import incoming, make_events
    from hookstream.app.routing.catalog import Tool
    from hookstream.app.summaries.summariser import Summariser

    row = provider_of(name)
    sent = {key.lower(): (value,) for key, value in headers.items()}
    sent["content-type"] = (content_type,)
    hook = WebhookRequest("POST", "http://127.0.0.1/hooks/t", sent, body, body)
    options = options or SignatureOptions()
    came = incoming(hook, row, Settings.model_fields["max_batch_events"].default, options)
    made = make_events(
        came,
        Tool(tool or row.name, "default", row.name, (), options, "payload", (), 0, "tool", ""),
        partitions=1,
        registry_version=0,
        now_ms=0,
        random_bits=0,
        functions={},
    )
    summariser = Summariser()
    return [_told(event, summariser.summarise(event)) for event, _ in made]


def _told(event: Event, summary: Any) -> dict[str, Any]:
    return {
        "type": event.type,
        "delivery_id": event.delivery_id,
        "keys": list(correlation_keys(event)),
        "summary": summary.text,
        "data": dict(summary.facts),
        "tokens": summary.tokens,
        "template": summary.template,
        "unparsed": event.data() is None,
    }


class provider(Command):  # noqa: N801 Faust names a command by its class
    """`list`: the providers there are. `test NAME FILE`: what a payload of one becomes.

    Of FILE ("-" for standard input) the end says what it is sent as: .form, .xml, .txt, .ndjson;
    else JSON. Nothing is sent.
    """

    options = [
        argument("action", metavar="list|test"),
        argument("name", required=False, default=""),
        argument("file", required=False, default=""),
        option(
            "--header",
            "headers",
            multiple=True,
            metavar="NAME=VALUE",
            help="A header that the sender sets, as X-GitHub-Event=push.",
        ),
        option(
            "--option",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="An option of the tool, as type_field=event for provider generic.",
        ),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]

    def perform(self, **options: Any) -> int:
        """Print."""
        action = options.pop("action")
        if action == "list" and not options["name"]:
            return self._list(as_json=options["as_json"])
        if action != "test" or not options["name"] or not options["file"]:
            raise BadRequestError("say `provider list`, or `provider test NAME FILE`")
        return self._test(**options)

    def _list(self, *, as_json: bool) -> int:
        if as_json:
            self.stdout.write(
                json.dumps({row.name: row.title for row in PROVIDERS.values()}) + "\n"
            )
            return 0
        for row in sorted(PROVIDERS.values(), key=lambda row: row.name):
            self.stdout.write(f"{row.name:<16}{row.title}\n")
        return 0

    def _test(
        self,
        *,
        name: str,
        file: str,
        headers: tuple[str, ...],
        settings: tuple[str, ...],
        as_json: bool,
    ) -> int:
        row = provider_of(name)
        tool_options = signature_options(settings)
        check_options(row, tool_options)
        body = read_payload(file)
        given: dict[str, str] = {}
        for header in headers:
            key, equals, value = header.partition("=")
            if not equals:
                raise BadRequestError(f"--header {header}: NAME=VALUE, as X-GitHub-Event=push")
            given[key] = value
        kind = KINDS.get(Path(file).suffix, KINDS[".json"])
        each = what_each_becomes(name, body, kind, given, options=tool_options)
        if as_json:
            # a payload that is one event is an object, of a batch there is a list
            found: Any = each[0] if len(each) == 1 else each
            self.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
            return 0
        if len(each) != 1:
            self.stdout.write(f"a batch of {len(each)} events\n")
        for number, found in enumerate(each, 1):
            if len(each) > 1:
                self.stdout.write(f"\n{number}.\n")
            self._show(found)
        if any(found["type"] == UNKNOWN for found in each):
            self.stdout.write(f"no type was found; it is taken from {row.notes.type_from}\n")
        return 0

    def _show(self, found: Mapping[str, Any]) -> None:
        for what in ("type", "delivery_id", "summary", "template"):
            self.stdout.write(f"{what + ':':<14}{found[what]}\n")
        self.stdout.write(f"{'data:':<14}{json.dumps(found['data'], ensure_ascii=False)}\n")
        self.stdout.write(f"{'keys:':<14}{', '.join(found['keys'])}\n")
        self.stdout.write(f"{'tokens:':<14}{found['tokens']}\n")
        if found["unparsed"]:
            self.stdout.write("nothing could be read of the payload: it is kept as it is\n")
