"""Deferral: under pressure less urgent updates wait in streams of their own, the others go.

Whatever a context has about one thing (correlation key) stays in order, whatever its priority: an
update waits as long as anything earlier about the same thing waits. The most urgent ones take that
along instead (priority inheritance): it goes before them, and they go now. Apart from that updates
of one priority stay in order, and under pressure those of a higher one go first.
"""

from collections.abc import Mapping, Sequence

from hookstream.app.feeds.waiting import END, Deferred, Keys, Position, Waiting
from hookstream.app.priority import DEFERRABLE, rank

__all__ = ["MAX_ALONG", "Sorter", "closure"]

#: Most that the urgent updates of one batch take along: as many as a batch of deferred ones has
#: (``channels.DEFERRED_BATCH_MAX``), which is what the loop does for them at a time anyway.
MAX_ALONG = 64


class Sorter:
    """Says of each update of one batch whether it goes now or waits, and remembers what it said.

    ``source``: the stream of deferred updates that the batch came from, None for ``updates[q]``.
    ``most_urgent``: the rank that never waits for pressure alone, None where there is no pressure.
    ``inherits``: the rank of those that take along what they would wait for, None where none does.
    Where several streams hold what an update must not pass it joins the least urgent of them, and
    is asked about the others when it comes out of there.
    """

    def __init__(
        self,
        deferred: Mapping[str, Deferred],
        source: str | None,
        *,
        most_urgent: int | None,
        inherits: int | None = None,
    ) -> None:
        self._views = (deferred, {priority: Deferred() for priority in DEFERRABLE})
        self._source = source
        self._most_urgent = most_urgent
        self._inherits = inherits
        self._count = 0
        #: What waits in each stream, and is taken along by updates of this batch.
        self.along: dict[str, dict[Waiting, None]] = {}

    def place(self, priority: str, name: str, keys: Keys) -> str | None:
        """The priority of the stream in which an update waits; None when it goes now."""
        behind = [other for other in DEFERRABLE if self._waits(other, priority, name, keys)]
        if behind:
            return max(behind, key=rank)
        patient = self._most_urgent is not None and rank(priority) > self._most_urgent
        return priority if patient and priority in DEFERRABLE else None

    def put(self, stream: str, names: Mapping[str, Keys]) -> Waiting:
        """An entry of this batch waits in ``stream``: later ones of the batch must know."""
        self._count += 1
        return self._views[1][stream].add(f"{self._count}-0", names)

    def take_along(
        self, stream: str, priority: str, name: str, keys: Keys
    ) -> Sequence[Waiting] | None:
        """Have an update that would wait in ``stream`` go now, and before it what it waits for.

        What of that is in ``stream`` is added to :attr:`along`; what was :meth:`put` is returned.
        None where it waits all the same: for more than a few, in more than one stream, or for what
        is not known one by one.
        """
        if self._inherits != rank(priority) or stream == priority:
            return None
        others = [other for other in DEFERRABLE if other != stream]
        if any(self._waits(other, priority, name, keys) for other in others):
            return None
        views = [view[stream] for view in self._views]
        found = closure(views, name, keys, MAX_ALONG)
        if found is None:
            return None
        waiting, put = found
        held = any(
            view[other].holds_about(whose, what)
            for each in (*waiting, *put)
            for whose, what in each.names.items()
            for other in others
            for view in self._views
        )
        along = self.along.get(stream, {}) | dict.fromkeys(waiting)
        if held or len(along) > MAX_ALONG:
            return None
        if along:
            self.along[stream] = along
        views[1].take(put)
        return put

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


def closure(
    views: Sequence[Deferred], name: str, keys: Keys, limit: int
) -> list[list[Waiting]] | None:
    """What has to go before an update of ``name`` about ``keys``, of each view in its order.

    That is what waits about the same, and before each of these what waits about anything that it
    is about, in all of its contexts. All in an earlier view came before all in a later one. None
    where it is more than ``limit``, or not known one by one.
    """
    found: list[dict[Waiting, None]] = [{} for _ in views]
    todo: list[tuple[int, Position, Mapping[str, Keys]]] = [(len(views) - 1, END, {name: keys})]
    while todo:
        last, before, names = todo.pop()
        for at, view in enumerate(views[: last + 1]):
            until = before if at == last else END
            for whose, what in names.items():
                earlier = view.earlier(whose, what, until, limit)
                if earlier is None:
                    return None
                fresh = [each for each in earlier if each not in found[at]]
                found[at] |= dict.fromkeys(fresh)
                todo += [(at, each.at, each.names) for each in fresh]
        if sum(map(len, found)) > limit:
            return None
    return [sorted(each, key=lambda waiting: waiting.at) for each in found]
