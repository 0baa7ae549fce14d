"""What was in hand when workers died: counted before work begins, tried alone, in the end given up.

A killed process counts no attempt. So whoever takes a partition over that was not given back counts
a death for all that is pending there, in one hash a partition and channel. Plain batches cost
nothing. After two deaths entries go in small groups with nothing beside them in the whole worker,
and Redis is told first which; after three each goes alone. What was alone in hand when the worker
died three times more is a dead letter.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from hookstream.app.streams.batch import Entry

__all__ = ["ALONE", "BESIDE", "CRASHED", "Deaths", "Trials"]

#: After so many deaths with an entry in hand it goes in a group, and after so many alone.
GROUPED_AFTER, ALONE_AFTER = 2, 3
#: After so many deaths with nothing else in hand it is not tried any more.
GIVEN_UP_AFTER = 3
#: Most entries of a group.
GROUP = 32
#: How long other work is waited for, and waits: a stage that hangs holds up its partition alone.
ALONE_SECONDS = 10.0
#: How a batch is in hand, as Redis is told: with nothing beside it in the worker, or with it.
ALONE, BESIDE = "alone", "beside"
#: The stage of a dead letter that has killed workers.
CRASHED = "crashed"
_ALONE_FIELD = b"alone:"


class CrashedError(Exception):
    """An entry that killed whoever worked on it."""


@dataclass(slots=True)
class Deaths:
    """Of one partition's entries of one channel, by :meth:`name`: deaths, and those of it alone."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    @classmethod
    def decode(cls, fields: Sequence[bytes]) -> "Deaths":
        """From the hash as take_over.lua gives it."""
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        return cls(
            {
                name.decode(): (int(count), int(found.get(_ALONE_FIELD + name, 0)))
                for name, count in found.items()
                if not name.startswith(_ALONE_FIELD)
            }
        )

    @staticmethod
    def name(entry: Entry) -> str:
        """What an entry is counted under: what comes from a list of blocked ones is not pending."""
        return entry.failed_event_id if entry.released else entry.entry_id

    def most(self, name: str) -> int | None:
        """How many entries a batch with this one may have; None: it is not suspected."""
        deaths, alone = self.counts.get(name, (0, 0))
        if alone or deaths >= ALONE_AFTER:
            return 1
        return GROUP if deaths >= GROUPED_AFTER else None

    def judge(self, entry: Entry) -> None:
        """Give an entry up that has killed whoever had it alone."""
        deaths, alone = self.counts.get(self.name(entry), (0, 0))
        if alone < GIVEN_UP_AFTER:
            return
        if alone > GIVEN_UP_AFTER:
            # not even to be written down can it be looked into
            entry.value = None
        error = CrashedError(
            f"{deaths} times the worker died with this in hand, {alone} times with nothing else: "
            "killed, out of memory, or crashed; its log and the system's say more. Retry it when "
            "what killed it is mended"
        )
        entry.fail(CRASHED, error, final=True)

    def over(self, entries: Sequence[Entry]) -> bool:
        """Forget entries that are committed; whether none is left now."""
        for entry in entries:
            self.counts.pop(self.name(entry), None)
        return not self.counts

    def keep(self, names: Collection[str]) -> bool:
        """Forget entries that are not pending any more; whether none is left now."""
        self.counts = {name: count for name, count in self.counts.items() if name in names}
        return not self.counts


class Trials:
    """Sees to it that what is suspected is worked on with nothing beside it in this worker."""

    def __init__(self) -> None:
        self._working: set[object] = set()
        self._holder: object | None = None
        self._hurried: set[object] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._resumes: list[Callable[[], None]] = []

    def join(self, resume: Callable[[], None]) -> None:
        """Have ``resume`` called when somebody may go on who could not."""
        self._resumes.append(resume)

    def may_begin(self, who: object) -> bool:
        """Whether ``who`` may begin a batch."""
        return self._holder is None or self._holder is who

    def ask(self, who: object) -> str:
        """How ``who`` may try what is suspected: ALONE, BESIDE other work that does not end, or ""
        where it has to wait. Nobody else begins anything from now on.
        """
        if who in self._hurried:
            return BESIDE
        if self._holder is None:
            self._holder = who
            self._timer = asyncio.get_running_loop().call_later(ALONE_SECONDS, self._hurry, who)
        return ALONE if self._holder is who and not self._working - {who} else ""

    def _hurry(self, who: object) -> None:
        if who not in self._working:
            self._hurried.add(who)
        self.release(who)

    def begun(self, who: object) -> None:
        """A batch of ``who`` is on its way."""
        self._working.add(who)

    def ended(self, who: object) -> None:
        """It is over."""
        self._working.discard(who)
        if (
            self._holder is not None
            and self._holder is not who
            and not self._working - {self._holder}
        ):
            self._resume()

    def release(self, who: object) -> None:
        """``who`` has nothing suspected on its way any more: others may go on."""
        if self._holder is not who:
            return
        self._holder = None
        if self._timer is not None:
            self._timer.cancel()
        self._resume()

    def forget(self, who: object) -> None:
        """``who`` is no more."""
        self._hurried.discard(who)
        self.ended(who)
        self.release(who)

    def _resume(self) -> None:
        for resume in self._resumes:
            resume()
