"""The ledger: what senders were told and what clients saw, and whether the two agree."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.tenants import tenant_of

__all__ = ["Figures", "Ledger"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run comes to; all but ``sent`` and ``refused`` have to be 0.

    ``foreign``: updates about another tenant's events.
    """

    sent: int = 0
    refused: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    gaps: int = 0
    foreign: int = 0

    @property
    def broken(self) -> int:
        """How many promises were broken."""
        return self.lost + self.doubled + self.out_of_order + self.gaps + self.foreign


@dataclass(slots=True)
class Ledger:
    """Kept for each source: one sender of numbers 0, 1, 2, … and one client of its context."""

    #: source → the event id that each number got with its 202
    accepted: dict[str, dict[int, str]] = field(default_factory=dict)
    refused: int = 0
    #: source → every frame that its client saw, as it came: (seq, event id)
    seen: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def accept(self, source: str, number: int, event_id: str) -> None:
        """A sender was told 202."""
        self.accepted.setdefault(source, {})[number] = event_id

    def frame(self, source: str, text: str) -> None:
        """A client saw a frame."""
        update = json.loads(text)
        self.seen.setdefault(source, []).append((update["seq"], update["event_id"]))

    def last_seq(self, source: str) -> int:
        """Where a client has got to."""
        seen = self.seen.get(source)
        return seen[-1][0] if seen else 0

    async def check(self, number_of: Callable[[str, str], Awaitable[int | None]]) -> Figures:
        """Compare. ``number_of`` says which number an event carries, where the ledger cannot.

        It is given the source that it was shown to, and the event's id; None: the source's tenant
        has no such event. (A post whose answer was lost is sent again: what is delivered then is
        the first one, and the sender has the id of its duplicate.)
        """
        lost = doubled = out_of_order = gaps = foreign = 0
        whose = {
            event_id: tenant_of(source)
            for source, accepted in self.accepted.items()
            for event_id in accepted.values()
        }
        for source, accepted in self.accepted.items():
            numbers = {event_id: number for number, event_id in accepted.items()}
            seen = self.seen.get(source, [])
            delivered = []
            for _, event_id in seen:
                number = numbers.get(event_id)
                if number is None and whose.get(event_id, tenant_of(source)) == tenant_of(source):
                    number = await number_of(source, event_id)
                if number is None:
                    foreign += 1
                else:
                    delivered.append(number)
            lost += len(set(accepted) - set(delivered))
            doubled += len(delivered) - len(set(delivered))
            out_of_order += sum(b < a for a, b in pairwise(delivered))
            seqs = [seq for seq, _ in seen]
            gaps += sum(seq != at + 1 for at, seq in enumerate(seqs))
        sent = sum(len(accepted) for accepted in self.accepted.values())
        return Figures(sent, self.refused, lost, doubled, out_of_order, gaps, foreign)
