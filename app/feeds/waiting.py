"""What waits in a stream of deferred updates, as the owner of its partition remembers it.

By context and by thing (correlation key), so that it can say at once whether an update may pass,
and what it would have to take along.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, TypeVar

from hookstream.app.ids import entry_order

__all__ = ["END", "Deferred", "Keys", "Position", "Waiting"]

#: What stands for every correlation key of a context.
ANY_KEY: Final = ""
#: Contexts and keys that are remembered one by one; past them all keys of a context count as one.
MAX_REMEMBERED = 200_000
#: Places of one thing that are kept until half of them have been delivered.
FEW_PLACES = 32

Position = tuple[int, int]
NOWHERE: Position = (0, 0)
#: Behind every position that a stream gives.
END: Position = (2**64, 0)
#: What an update is about: nothing (None: not asked, so it may be about anything) or its keys.
Keys = Sequence[str] | None
Thing = TypeVar("Thing", str, tuple[str, str])


@dataclass(slots=True, eq=False)
class Waiting:
    """An entry that waits: where, and what it is about, by context. ``taken``: it went before."""

    at: Position
    names: Mapping[str, Keys]
    taken: bool = False

    @property
    def entry_id(self) -> str:
        """Its id in its stream."""
        return f"{self.at[0]}-{self.at[1]}"


@dataclass(slots=True)
class Deferred:
    """What waits in one stream of deferred updates: how far it goes, and what it is about.

    Positions are stream ids. The stream is first in, first out: what is at or before ``done`` has
    been delivered; and before its turn what was taken along by something more urgent.
    """

    done: Position = NOWHERE
    last: Position = NOWHERE
    #: Up to here anything of anyone may wait: there were too many contexts to remember.
    unknown: Position = NOWHERE
    #: Up to here not each place is remembered, but only the last one about a thing.
    sparse: Position = NOWHERE
    #: By context, and by context and key: what waits, in its order; at least the last one.
    contexts: dict[str, list[Waiting]] = field(default_factory=dict)
    about: dict[tuple[str, str], list[Waiting]] = field(default_factory=dict)
    #: Behind ``done``: what was taken along, for whoever has read it from the stream already.
    taken: set[Position] = field(default_factory=set)
    #: How many need it as it is: meanwhile nothing is taken along.
    kept_whole: int = 0
    #: All of which the keys are known, in its order, and how many places that makes above.
    _queue: deque[Waiting] = field(default_factory=deque)
    _places: int = 0
    #: The last one that is not among them.
    _plain: Position = NOWHERE

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self.last <= self.done

    @property
    def exact(self) -> bool:
        """Whether each entry that waits is remembered."""
        return max(self.unknown, self.sparse) <= self.done

    @property
    def gives(self) -> bool:
        """Whether anything may be taken along from here."""
        return self.exact and not self.kept_whole and len(self.taken) <= MAX_REMEMBERED

    def holds(self, name: str) -> bool:
        """Whether anything of a context waits here."""
        return not self.empty and max(_last(self.contexts, name), self.unknown) > self.done

    def holds_about(self, name: str, keys: Keys) -> bool:
        """Whether anything waits here that an update of ``name`` about ``keys`` must not pass."""
        if not self.holds(name):
            return False
        if keys is None or self.unknown > self.done:
            return True
        return any(_last(self.about, (name, key)) > self.done for key in (*keys, ANY_KEY))

    def earlier(
        self, name: str, keys: Keys, before: Position, limit: int
    ) -> "list[Waiting] | None":
        """What waits before a place that an update of ``name`` about ``keys`` must not pass.

        A few more than ``limit`` at most a key. None where that is not known one by one.
        """
        if keys is None or not self.gives or _last(self.about, (name, ANY_KEY)) > self.done:
            return None
        found: dict[Waiting, None] = {}
        for key in keys:
            places = self.about.get((name, key), [])
            first = bisect_right(places, self.done, key=_at)
            behind = takewhile(lambda each: each.at < before, islice(places, first, None))
            live = (each for each in behind if not each.taken)
            found |= dict.fromkeys(islice(live, limit + 1))
        return list(found)

    def add(self, entry_id: str, names: Mapping[str, Keys]) -> Waiting:
        """An entry was appended for these contexts."""
        at = self.last = max(self.last, entry_order(entry_id))
        if self._places + len(self.contexts) + len(self.about) > MAX_REMEMBERED:
            self._shrink()
        new = Waiting(at, names)
        if any(keys is not None for keys in names.values()):
            self._queue.append(new)
            self._places += _places(names)
        else:
            self._plain = at
        for name, keys in names.items():
            if keys is None:
                self.contexts[name] = [new]
                self.about[name, ANY_KEY] = [new]
                continue
            self._place(self.contexts, name, new)
            for key in keys:
                self._place(self.about, (name, key), new)
        return new

    def _place(self, index: dict[Thing, list[Waiting]], thing: Thing, new: Waiting) -> None:
        places = index.get(thing)
        if places is None:
            index[thing] = [new]
            return
        if len(places) > FEW_PLACES and places[len(places) // 2].at <= self.done:
            del places[: len(places) // 2 + 1]
        places.append(new)

    def _shrink(self) -> None:
        """Remember less: not what has been delivered, then not each, then no keys, in the end no
        contexts.
        """
        self._forget_delivered()
        if self._places + len(self.contexts) + len(self.about) > MAX_REMEMBERED // 2:
            self.sparse = self.last
            self.contexts = {name: places[-1:] for name, places in self.contexts.items()}
            self.about = {thing: places[-1:] for thing, places in self.about.items()}
            self._queue.clear()
            self._places = 0
        if len(self.contexts) + len(self.about) > MAX_REMEMBERED // 2:
            self.about = {(name, ANY_KEY): places for name, places in self.contexts.items()}
        if len(self.contexts) > MAX_REMEMBERED // 2:
            self.forget()

    def _forget_delivered(self) -> None:
        self.contexts = {
            name: places
            for name, places in self.contexts.items()
            if _last(self.contexts, name) > self.done
        }
        self.about = {
            thing: places
            for thing, places in self.about.items()
            if _last(self.about, thing) > self.done
        }

    def forget(self) -> None:
        """Remember only that something waits."""
        self.unknown = self.last
        self._clear()

    def _clear(self) -> None:
        self.contexts.clear()
        self.about.clear()
        self._queue.clear()
        self._places = 0

    def delivered(self, entry_id: str) -> None:
        """Everything up to an entry has left the stream."""
        self.done = max(self.done, entry_order(entry_id))
        if self.taken:
            self.taken = {at for at in self.taken if at > self.done}
        if self.empty:
            self._clear()
        while self._queue and self._queue[0].at <= self.done:
            self._drop(self._queue.popleft())

    def _drop(self, gone: Waiting) -> None:
        """Forget what was remembered of an entry alone."""
        self._places -= _places(gone.names)
        for name, keys in gone.names.items():
            if _last(self.contexts, name) <= self.done:
                self.contexts.pop(name, None)
            for key in (ANY_KEY,) if keys is None else keys:
                if _last(self.about, (name, key)) <= self.done:
                    self.about.pop((name, key), None)

    def take(self, taken: Iterable[Waiting]) -> None:
        """These have been delivered before their turn."""
        exact = self.exact
        for each in taken:
            self.taken.add(each.at)
            # where not each is remembered, one stands for those before it
            each.taken = exact
        if not exact:
            return
        while self._queue and self._queue[-1].taken:
            self._drop(self._queue.pop())
        self.last = max(self.done, self._plain, self._queue[-1].at if self._queue else NOWHERE)

    def still_hold(self, those: Iterable[Waiting]) -> bool:
        """Whether all of those wait, as they did when they were found, and may be taken along."""
        waits = (each.at > self.done and each.at not in self.taken for each in those)
        return not self.kept_whole and all(waits)


def _at(waiting: Waiting) -> Position:
    return waiting.at


def _last(index: Mapping[Thing, list[Waiting]], thing: Thing) -> Position:
    """The last place of a thing that was not taken along."""
    places = index.get(thing)
    while places and places[-1].taken:
        places.pop()
    return places[-1].at if places else NOWHERE


def _places(names: Mapping[str, Keys]) -> int:
    return sum(1 + len(keys) for keys in names.values() if keys is not None)
