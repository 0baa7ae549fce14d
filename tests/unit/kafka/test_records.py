"""What a record is: a webhook that is the same event each time it comes."""

from dataclasses import dataclass, field
from typing import Any

from hookstream.app.kafka.records import AHEAD_MS, arrival, unpack
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.topics import KafkaSource

NOW_MS = 1_800_000_000_000


@dataclass
class Found:
    """A record, as aiokafka gives it."""

    topic: str = "orders"
    partition: int = 3
    offset: int = 42
    timestamp: int = NOW_MS - 5
    value: bytes = b'{"n": 1}'
    headers: Any = field(default_factory=list)


def test_its_value_is_the_body_and_its_headers_are_the_webhook_s() -> None:
    headers = [("X-GitHub-Event", b"push"), ("kind", b"a"), ("kind", b"b"), ("raw", b"\xff")]
    source = KafkaSource("orders", {"x-kind": "kind", "x-none": "none"})
    came = arrival(Found(headers=headers), source, NOW_MS)
    hook = unpack(came).hook
    assert hook.body == b'{"n": 1}'
    assert hook.headers["x-github-event"] == ("push",)
    assert hook.headers["x-kind"] == ("b",)
    assert "raw" not in hook.headers
    assert "x-none" not in hook.headers
    assert hook.headers["content-type"] == ("application/json",)
    assert PROVIDERS["github"].event_type(hook, SignatureOptions()) == "push"


def test_how_its_value_was_encoded_before_counts_for_nothing() -> None:
    came = arrival(Found(headers=[("Content-Encoding", b"gzip")]), KafkaSource("orders"), NOW_MS)
    assert "content-encoding" not in unpack(came).hook.headers


def test_it_is_the_same_event_each_time_and_no_other_one_s() -> None:
    source = KafkaSource("orders")
    first = arrival(Found(), source, NOW_MS)
    again = arrival(Found(), source, NOW_MS + 60_000)
    assert (first.bits, first.at_ms) == (again.bits, again.at_ms) == (first.bits, NOW_MS - 5)
    others = [Found(offset=43), Found(partition=4), Found(topic="other")]
    assert first.bits not in {arrival(each, source, NOW_MS).bits for each in others}


def test_a_time_that_cannot_be_counts_for_nothing() -> None:
    for at_ms, counts in ((-1, 0), (0, 0), (NOW_MS + AHEAD_MS + 1, 0), (NOW_MS + 1, NOW_MS + 1)):
        came = arrival(Found(timestamp=at_ms), KafkaSource("orders"), NOW_MS)
        assert came.at_ms == counts, at_ms
