"""Tools whose webhooks are events as they are: what follows from the tool is found out once.

Most are of this kind: one event a request, told apart by its body or its delivery id. What needs
more (a batch, fields or a function that tell events apart, a schema that refuses, masking before it
is kept, keys that are fetched, a word to the provider) is made by
:mod:`hookstream.app.ingest.events`, and so is all that is refused: whatever raises here is tried
there again, which says what is wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.ingest.events import printable
from hookstream.app.providers import PROVIDERS, Provider
from hookstream.app.providers.shapes import is_unverified
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import REJECT, Catalog, Tool
from hookstream.app.routing.event_keys import message_id, ordering_key
from hookstream.codecs.envelope import Blank
from hookstream.codecs.payload import StoredPayload

__all__ = ["PlainTool", "Taken"]

#: Strategies that need no look at the content.
STRATEGIES: Final = ("payload", "delivery", "none")

#: Tenant, tool, event id and payload to the payload as it is kept.
Pack = Callable[[str, str, str, bytes], StoredPayload]


@dataclass(slots=True)
class Taken:
    """A verified webhook as the entry that it becomes."""

    event_id: str
    key: str
    entry: bytes
    message_id: str = ""
    delivery_id: str = ""


class PlainTool:
    """One such tool, as one state of the catalog has it."""

    def __init__(self, tool: Tool, provider: Provider, catalog: Catalog, partitions: int) -> None:
        self.tool = tool
        self.provider = provider
        self.urgent = tool.tool_id in catalog.urgent_tools
        self._partitions = partitions
        #: Of all its events, unless they may overtake each other.
        self._key = ""
        self._partition = -1
        if tool.order_by != "none":
            self._partition = partition_of(partitions, *ordering_key(tool, "", None))
            self._key = keys.events(self._partition)
        self._blank = Blank(
            tenant=tool.tenant,
            tool_id=tool.tool_id,
            provider=tool.provider,
            dedup_window_ms=tool.window_ms,
            dedup_history_ms=tool.history_ms,
            registry_version=catalog.version,
            registry_token=catalog.token,
        )

    @classmethod
    def of(cls, tool: Tool, catalog: Catalog, partitions: int) -> "PlainTool | None":
        """The tool prepared; None where its webhooks need more."""
        provider, rule = PROVIDERS.get(tool.provider), tool.payload_rule
        if provider is None:
            return None
        more = (
            provider.batch,
            provider.batch_by is not None and provider.batch_by(tool.options),
            provider.keys,
            provider.confirm,
            provider.learn and not tool.secrets,
            tool.strategy not in STRATEGIES,
            tool.order_by == "field",
            rule is not None and rule.on_violation == REJECT,
            catalog.keeps_masked(tool),
        )
        return None if any(more) else cls(tool, provider, catalog, partitions)

    def take(self, hook: WebhookRequest, now_ms: int, random_bits: int, pack: Pack) -> Taken | None:
        """The event of a webhook, as ``make_event`` makes it; None where it may be none.

        Raises:
            HookstreamError: its signature is not right, it cannot be read, or its data key is not
                here.
        """
        tool, provider = self.tool, self.provider
        secrets, options = tool.secrets, tool.options
        if provider.challenge is not None and provider.challenge(hook, secrets, options):
            return None
        provider.verify(hook, secrets, options, now_ms / 1000)
        if provider.handshake is not None and provider.handshake(hook, secrets, options):
            return None
        event_type = provider.event_type(hook, options)
        if is_unverified(event_type):
            # of which something is said
            return None
        delivery_id = printable(provider.delivery_id(hook, options), 256)
        payload = hook.decoded
        content = payload if provider.content is None else provider.content(hook)
        unique = f"{now_ms:x}-{random_bits:x}" if tool.strategy == "none" or not content else ""
        message = message_id(tool, event_type, delivery_id, content, None, unique)
        partition, key = self._partition, self._key
        if not key:
            partition = partition_of(self._partitions, *ordering_key(tool, message, None))
            key = keys.events(partition)
        event_id = new_event_id(now_ms, partition, random_bits)
        headers = hook.headers
        entry = self._blank.filled(
            pack(tool.tenant, tool.tool_id, event_id, payload),
            event_id=event_id,
            event_type=event_type,
            message_id=message,
            delivery_id=delivery_id,
            received_at_ms=now_ms,
            headers=[
                (name, printable(", ".join(headers[name]), 1024))
                for name in provider.keep_headers
                if name in headers
            ],
            content_type=_kept(headers, "content-type", 256),
            trace_context=_kept(headers, "traceparent", 128),
        )
        return Taken(event_id, key, entry, message, delivery_id)


def _kept(headers: Mapping[str, tuple[str, ...]], name: str, limit: int) -> str:
    values = headers.get(name)
    return printable(values[0], limit) if values else ""
