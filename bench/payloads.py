"""Events for the benchmarks: GitHub's example payloads, each one different."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Tool
from hookstream.app.web.receive import make_event
from hookstream.codecs.dictionaries import Dictionary
from hookstream.codecs.envelope import encode_event
from hookstream.codecs.payload import Packing
from tests.support.fixtures import github_examples

__all__ = ["Entries", "numbered", "requests", "sized"]

DAY_MS = 86_400_000
_WORDS = [f"{random.Random(n).getrandbits(32):x}" for n in range(2000)]


def numbered(first: int = 0, size: int = 0) -> Iterator[tuple[str, bytes]]:
    """Event names and payloads without end: the examples in turn, or ``size`` bytes, numbered."""
    examples = github_examples()
    number = first
    while True:
        example = examples[number % len(examples)]
        body = b'{"bench":%d,%s' % (number, example.body[1:])
        yield (example.event, body) if not size else ("issues", sized(size, number))
        number += 1


def sized(size: int, number: int) -> bytes:
    """A payload of ``size`` bytes whose text is words drawn anew for each: no two are alike."""
    head = b'{"action":"opened","bench":%d,"issue":{"number":%d,"body":"' % (number, number)
    draw = random.Random(number)
    words = " ".join(draw.choices(_WORDS, k=max(1, size // 8))).encode()
    text = (words * 2)[: max(0, size - len(head) - 3)]
    return head + text + b'"}}'


class Entries:
    """Makes what a receiver appends: envelopes of different events, payloads packed."""

    def __init__(
        self,
        partitions: int,
        dictionaries: Mapping[str, Dictionary] | None = None,
        *,
        first: int = 0,
        size: int = 0,
    ) -> None:
        self._partitions = partitions
        self._dictionaries = dictionaries or {}
        self._payloads = numbered(first, size)
        self._draw = random.Random(first)
        self._packing = Packing()

    def make(self, tools: Sequence[str], count: int) -> list[tuple[int, bytes]]:
        """So many entries of the tools in turn, each with its partition."""
        now_ms = time.time_ns() // 1_000_000
        made = []
        for number, (event, body) in enumerate(islice(self._payloads, count)):
            tool = _tool(tools[number % len(tools)])
            delivery = f"{self._draw.getrandbits(128):032x}"
            hook = WebhookRequest(
                method="POST",
                url="",
                headers={"x-github-event": (event,), "x-github-delivery": (delivery,)},
                body=body,
                decoded=body,
            )
            made_event, partition = make_event(
                hook,
                PROVIDERS["github"],
                tool,
                partitions=self._partitions,
                registry_version=0,
                now_ms=now_ms,
                random_bits=self._draw.getrandbits(62),
                functions={},
            )
            packed = self._packing.pack(body, self._dictionaries.get(tool.tool_id))
            made.append((partition, encode_event(made_event, packed)))
        return made


def _tool(name: str) -> Tool:
    return Tool(
        tool_id=name,
        tenant="default",
        provider="github",
        secrets=(),
        options=SignatureOptions(),
        strategy="delivery",
        fields=(),
        window_ms=DAY_MS,
        order_by="tool",
        order_field="",
    )


def requests(
    tools: Sequence[str], count: int, secret: str, *, size: int = 0
) -> list[tuple[bytes, bytes]]:
    """HTTP requests in two parts; between them goes the delivery id, which makes each an event."""
    made = []
    for number, (event, body) in enumerate(islice(numbered(size=size), count)):
        headers = PROVIDERS["github"].sign(
            body, secret, SignatureOptions(), now=0, event_type=event, delivery_id="?", url=""
        )
        lines = [
            f"POST /hooks/{tools[number % len(tools)]} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items() if value != "?"),
            "X-GitHub-Delivery: ",
        ]
        made.append(("\r\n".join(lines).encode(), b"\r\n\r\n" + body))
    return made
