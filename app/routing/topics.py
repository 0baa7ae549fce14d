"""Topics of Kafka that a tool's events come out of, and which source a tool has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hookstream.app.kafka_address import is_topic
from hookstream.app.routing.queues import SqsSource

__all__ = ["KafkaSource", "source_from"]


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """A topic that a tool's events come out of.

    A record's value is the body of a webhook, its headers are the webhook's. ``headers``: of each
    header that its provider's rules look at, which of the record's headers has it.
    """

    topic: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """As the database has it. Raises ValueError, naming what is wrong with it."""
        known = kept["kafka"]
        if not is_topic(known["topic"]):
            raise ValueError("topic: up to 249 letters, digits, ., _ and -")
        headers = known.get("headers") or {}
        for name, where in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name) or not isinstance(where, str):
                raise ValueError(f"headers: {name!r:.100} is no name of a header")
        lower = {name.lower(): where for name, where in headers.items()}
        return cls(known["topic"], lower)


def source_from(kept: Mapping[str, Any]) -> SqsSource | KafkaSource:
    """A source as the database has it. Raises ValueError, naming what is wrong with it."""
    return KafkaSource.from_dict(kept) if kept.get("kafka") else SqsSource.from_dict(kept)
