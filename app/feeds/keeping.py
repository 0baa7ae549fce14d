"""What goes from a feed, and when: by age, by count, by acknowledgement. All of it is pure.

An entry of a feed does not say when it was written, and its event may be much older (a replay). So
the owner of a feed notes from time to time how far it had come, and how far it was acknowledged:
what a mark has is at least as old as the mark. Whatever is not known is taken to be younger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from hookstream.app.routing.keeping import Keeping
from hookstream.app.settings import Settings

__all__ = ["FeedMark", "FeedMarks", "going", "installed", "known_age_ms"]

#: So many marks to the shorter time that is looked back, and to the longer one; none are closer
#: than a minute.
NEAR_MARKS = 16
FAR_MARKS = 64
LEAST_MS = 60_000


@dataclass(frozen=True, slots=True)
class FeedMark:
    """That at a time (Unix ms) a feed had come to ``seq``, and was acknowledged to ``ack``."""

    at_ms: int
    seq: int
    ack: int


@dataclass(frozen=True, slots=True)
class FeedMarks:
    """Those of one feed, the oldest first."""

    marks: tuple[FeedMark, ...] = ()

    def reached(self, at_ms: int) -> FeedMark:
        """The newest one that is not younger than ``at_ms``; one of nothing where there is none."""
        return next((m for m in reversed(self.marks) if m.at_ms <= at_ms), FeedMark(0, 0, 0))

    def then(self, now_ms: int, seq: int, ack: int, rule: Keeping) -> "FeedMarks":
        """These and one of now, where that says something new; without those nobody looks back to.

        They are close together for as long as the shorter time of ``rule`` looks back, and further
        apart before. A mark from a future (a clock has gone back) says nothing any more.
        """
        assert rule.age_ms is not None
        assert rule.acknowledged_ms is not None
        near_ms, far_ms = sorted((rule.age_ms, rule.acknowledged_ms))
        marks = [mark for mark in self.marks if mark.at_ms <= now_ms]
        last = marks[-1] if marks else FeedMark(0, 0, 0)
        apart_ms = max(LEAST_MS, near_ms // NEAR_MARKS)
        if (seq, ack) != (last.seq, last.ack) and now_ms - last.at_ms >= apart_ms:
            marks.append(FeedMark(now_ms, seq, ack))
        old = [mark for mark in marks if mark.at_ms <= now_ms - near_ms]
        # what lies beyond all is known by its newest mark as well as by each
        beyond = sum(mark.at_ms <= now_ms - far_ms for mark in old)
        kept: list[FeedMark] = []
        for mark in old[max(0, beyond - 1) : -1]:
            if not kept or mark.at_ms - kept[-1].at_ms >= far_ms // FAR_MARKS:
                kept.append(mark)
        return FeedMarks((*kept, *old[-1:], *marks[len(old) :]))

    def encode(self) -> str:
        """As they are kept in Redis."""
        return " ".join(f"{mark.at_ms}:{mark.seq}:{mark.ack}" for mark in self.marks)

    @classmethod
    def decode(cls, text: str) -> Self:
        """What is kept. Raises ValueError."""
        parts = [part.split(":") for part in text.split()]
        return cls(tuple(FeedMark(int(at), int(seq), int(ack)) for at, seq, ack in parts))


def installed(settings: Settings) -> Keeping:
    """What feeds keep whose contexts say nothing."""
    day_ms = 86_400_000
    return Keeping(
        int(settings.feed_max_days * day_ms),
        settings.feed_max_updates,
        int(settings.feed_acknowledged_days * day_ms),
    )


def going(
    oldest: Sequence[int],
    length: int,
    last: int,
    marks: FeedMarks,
    rule: Keeping,
    now_ms: int,
    *,
    untold: int | None = None,
) -> dict[str, int]:
    """How many of the ``oldest`` numbers of a feed go, by the rule that lets them go first.

    ``length``: updates in the feed; ``last``: its highest number, which always stays: it is where
    the feed ends. ``untold``: a day's summary has still to tell of what is above; only a feed that
    has too much does not wait for that.
    """
    assert rule.age_ms is not None
    assert rule.updates is not None
    assert rule.acknowledged_ms is not None
    ceiling = last if untold is None else min(last, untold + 1)
    aged = min(marks.reached(now_ms - rule.age_ms).seq, ceiling - 1)
    read = min(marks.reached(now_ms - rule.acknowledged_ms).ack, ceiling - 1)
    excess = max(0, length - rule.updates)
    found = {"age": 0, "acknowledged": 0, "updates": 0}
    for place, seq in enumerate(oldest):
        if seq >= last:
            break
        if seq <= aged:
            found["age"] += 1
        elif seq <= read:
            found["acknowledged"] += 1
        elif place < excess:
            found["updates"] += 1
        else:
            break
    return found


def known_age_ms(first: int, marks: FeedMarks, now_ms: int) -> int:
    """How old the update ``first`` is at least."""
    return max((now_ms - mark.at_ms for mark in marks.marks if mark.seq >= first), default=0)
