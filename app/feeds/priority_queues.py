"""Deferral: under pressure less urgent updates wait in streams of their own, the others go.

Whatever a context has about one thing (correlation key) stays in order, whatever its priority: an
update waits as long as anything earlier about the same thing waits. Apart from that updates of one
priority stay in order, and under pressure those of a higher one go first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hookstream.app.ids import entry_order
from hookstream.app.priority import DEFERRABLE, rank

__all__ = ["Deferred", "Keys", "Sorter"]

#: What stands for every correlation key of a context.
ANY_KEY: Final = ""
#: Contexts and keys that are remembered one by one; past them all keys of a context count as one.
MAX_REMEMBERED = 200_000

Position = tuple[int, int]
NOWHERE: Position = (0, 0)
#: What an update is about: nothing (None: not asked, so it may be about anything) or its keys.
Keys = Sequence[str] | None


@dataclass(slots=True)
class Deferred:
    """What waits in one stream of deferred updates: how far it goes, and of which contexts.

    Positions are stream ids. The stream is first in, first out: what is at or before ``done`` has
    been delivered.
    """

    done: Position = NOWHERE
    last: Position = NOWHERE
    #: Up to here anything of anyone may wait: there were too many contexts to remember.
    unknown: Position = NOWHERE
    #: Up to here what waits of a context may be about anything: there were too many keys.
    blurred: Position = NOWHERE
    contexts: dict[str, Position] = field(default_factory=dict)
    about: dict[tuple[str, str], Position] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self.last <= self.done

    def holds(self, name: str) -> bool:
        """Whether anything of a context waits here."""
        return not self.empty and max(self.contexts.get(name, NOWHERE), self.unknown) > self.done

    def holds_about(self, name: str, keys: Keys) -> bool:
        """Whether anything waits here that an update of ``name`` about ``keys`` must not pass."""
        if not self.holds(name):
            return False
        if keys is None or max(self.unknown, self.blurred) > self.done:
            return True
        return any(self.about.get((name, key), NOWHERE) > self.done for key in (*keys, ANY_KEY))

    def add(self, entry_id: str, names: Mapping[str, Keys]) -> None:
        """An entry was appended for these contexts."""
        at = self.last = max(self.last, entry_order(entry_id))
        if len(self.contexts) + len(self.about) > MAX_REMEMBERED:
            self._shrink()
        for name, keys in names.items():
            self.contexts[name] = at
            for key in (ANY_KEY,) if keys is None else keys:
                self.about[name, key] = at

    def _shrink(self) -> None:
        """Remember less: not what has been delivered, then no keys, in the end no contexts."""
        self.contexts = {name: at for name, at in self.contexts.items() if at > self.done}
        self.about = {about: at for about, at in self.about.items() if at > self.done}
        if len(self.contexts) + len(self.about) > MAX_REMEMBERED // 2:
            self.blurred = self.last
            self.about.clear()
        if len(self.contexts) > MAX_REMEMBERED // 2:
            self.forget()

    def forget(self) -> None:
        """Remember only that something waits."""
        self.unknown = self.last
        self.contexts.clear()
        self.about.clear()

    def delivered(self, entry_id: str) -> None:
        """Everything up to an entry has left the stream."""
        self.done = max(self.done, entry_order(entry_id))
        if self.empty:
            self.contexts.clear()
            self.about.clear()


class Sorter:
    """Says of each update of one batch whether it goes now or waits, and remembers what it said.

    ``source``: the stream of deferred updates that the batch came from, None for ``updates[q]``.
    ``most_urgent``: the rank that never waits for pressure alone, None where there is no pressure.
    Where several streams hold what an update must not pass it joins the least urgent of them, and
    is asked about the others when it comes out of there.
    """

    def __init__(
        self, deferred: Mapping[str, Deferred], source: str | None, *, most_urgent: int | None
    ) -> None:
        self._views = (deferred, {priority: Deferred() for priority in DEFERRABLE})
        self._source = source
        self._most_urgent = most_urgent
        self._count = 0

    def place(self, priority: str, name: str, keys: Keys) -> str | None:
        """The priority of the stream in which an update waits; None when it goes now."""
        behind = [other for other in DEFERRABLE if self._waits(other, priority, name, keys)]
        if behind:
            return max(behind, key=rank)
        patient = self._most_urgent is not None and rank(priority) > self._most_urgent
        return priority if patient and priority in DEFERRABLE else None

    def put(self, stream: str, names: Mapping[str, Keys]) -> None:
        """An entry of this batch waits in ``stream``: later ones of the batch must know."""
        self._count += 1
        self._views[1][stream].add(f"{self._count}-0", names)

    def _waits(self, stream: str, priority: str, name: str, keys: Keys) -> bool:
        if self._source is not None and rank(stream) >= rank(self._source):
            # what waits behind this batch came later
            return False
        for view in self._views:
            if view[stream].empty:
                continue
            if self._source is None and stream == priority and view[stream].holds(name):
                return True
            if view[stream].holds_about(name, keys):
                return True
        return False
