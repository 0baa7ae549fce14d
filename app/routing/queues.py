"""Queues of SQS that a tool's events come out of, and that they are copied into."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

__all__ = ["PREDECESSOR", "RAW", "Queue", "SqsSource", "SqsTarget"]

#: What stands in a message's body: a webhook's own body, or the JSON of Hookstream's predecessor.
RAW, PREDECESSOR = "raw", "predecessor"

#: Amazon's own: ``sqs.eu-west-1.amazonaws.com``, and as older ones are called.
_REGION: Final = re.compile(r"^https?://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.")
_QUEUE: Final = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:/[A-Za-z0-9_-]+)*/[A-Za-z0-9_-]+(?:\.fifo)?"
)


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: its URL; ``region`` where that does not follow from it."""

    url: str
    region: str = ""

    @property
    def name(self) -> str:
        """The last part of its URL."""
        return self.url.rpartition("/")[2]

    @property
    def fifo(self) -> bool:
        """Whether it keeps the order within message groups."""
        return self.url.endswith(".fifo")

    @property
    def region_in_url(self) -> str:
        """The region that is set, or that Amazon's own URLs name; "" where neither says."""
        found = _REGION.match(self.url)
        return self.region or (found.group(1) or found.group(2) if found else "")

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """As the database has it. Raises ValueError, naming what is wrong with it."""
        url, region = kept["queue_url"], kept.get("region") or ""
        if not _QUEUE.fullmatch(url):
            raise ValueError(
                "queue_url: the whole URL of a queue, such as "
                "https://sqs.eu-west-1.amazonaws.com/123456789012/webhooks"
            )
        if not re.fullmatch(r"[a-z0-9-]{0,32}", region):
            raise ValueError("region: such as eu-west-1")
        return cls(url, region)


@dataclass(frozen=True, slots=True)
class SqsSource:
    """A queue that a tool's events come out of.

    ``headers``: of each header that its provider's rules look at, where a message has it: the name
    of one of its attributes, and in the predecessor's format a dotted path into its JSON, too.
    """

    queue: Queue
    format: str = RAW
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """As the database has it. Raises ValueError, naming what is wrong with it."""
        known = kept["sqs"]
        if known["format"] not in (RAW, PREDECESSOR):
            raise ValueError(f"format: {RAW} or {PREDECESSOR}")
        headers = known.get("headers") or {}
        for name, where in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name) or not isinstance(where, str):
                raise ValueError(f"headers: {name!r:.100} is no name of a header")
        lower = {name.lower(): where for name, where in headers.items()}
        return cls(Queue.from_dict(known), known["format"], lower)


@dataclass(frozen=True, slots=True)
class SqsTarget:
    """A queue that a tool's events are copied into, in the predecessor's format.

    ``auth_context``: what its messages say of whom they are. ``shadow``: while the tool moves, what
    is delivered here goes there, too, and says so: old workers must not work on that.
    """

    queue: Queue
    auth_context: Mapping[str, Any] = field(default_factory=dict)
    shadow: bool = False

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """As the database has it. Raises ValueError, naming what is wrong with it."""
        known = kept["sqs"]
        context = known.get("auth_context") or {}
        if not isinstance(context, dict):
            raise ValueError("auth_context: an object")
        return cls(Queue.from_dict(known), context, bool(known.get("shadow", False)))
