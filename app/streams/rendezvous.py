"""Assignment: whose a partition is, by who lives and what each of them cannot open."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import orjson
from xxhash import xxh3_64_intdigest

__all__ = ["WorkerNote", "assignees", "rendezvous"]


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """What a worker says of itself beside that it lives.

    ``why``: it takes no partitions at all, for this reason; ``cannot``: partitions that it cannot
    open and others may, each with the reason; ``waits``: partitions that nobody could open from
    here, and that it goes on trying.
    """

    why: str = ""
    cannot: Mapping[int, str] = field(default_factory=dict)
    waits: Mapping[int, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """It as JSON values."""
        return {
            "why": self.why,
            "cannot": {str(number): why for number, why in self.cannot.items()},
            "waits": {str(number): why for number, why in self.waits.items()},
        }

    def encode(self) -> str:
        """As it is kept in Redis; "" where there is nothing to say."""
        if not (self.why or self.cannot or self.waits):
            return ""
        return orjson.dumps(self.values()).decode()

    @classmethod
    def decode(cls, text: str) -> "WorkerNote":
        """The note in a Redis value; an empty one where that cannot be read."""
        try:
            kept = orjson.loads(text) if text else {}
            return cls(
                str(kept.get("why", "")),
                {int(number): str(why) for number, why in kept.get("cannot", {}).items()},
                {int(number): str(why) for number, why in kept.get("waits", {}).items()},
            )
        except (ValueError, AttributeError):
            return cls()


def assignees(partitions: int, workers: Mapping[str, Set[int]]) -> list[str]:
    """The worker that each partition belongs to; "" without workers.

    ``workers``: those that live, with the partitions that each cannot open. Such a one is not
    counted there, unless there is no other.
    """
    everybody = sorted(workers)
    return [
        rendezvous(number, [name for name in everybody if number not in workers[name]] or everybody)
        for number in range(partitions)
    ]


def rendezvous(number: int, workers: Sequence[str]) -> str:
    """The worker that partition ``number`` belongs to; "" without workers.

    Highest random weight (D. Thaler, C. Ravishankar, 1998): a join or a leave moves only the
    partitions of the one that came or went.
    """
    return max(
        workers,
        key=lambda worker: (xxh3_64_intdigest(f"{worker}\0{number}".encode()), worker),
        default="",
    )
