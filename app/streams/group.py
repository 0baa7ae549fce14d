"""Groups: batches of different partitions that go through a stage in one pass.

A batch stays what it is: of one partition, with an outcome and a commit of its own. What a group
shares is what a pass costs: a task, a slot, a round trip.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from hookstream.app import tasks
from hookstream.app.streams.batch import Batch

__all__ = ["Group", "Together"]


class Group:
    """Batches in a stage. Iterating gives those that are still to be done.

    What goes wrong with one of them is its own trouble, :meth:`alone` sees to that. One that would
    have to wait for something else is left (:meth:`leave`): it is done by itself, beside the
    others.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.all = batches
        self.left: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        return iter([b for b in self.all if not (b.ended or b in self.left)])

    def __len__(self) -> int:
        """Events of the batches that are still to be done."""
        return sum(len(batch) for batch in self)

    def leave(self, batch: Batch) -> None:
        """Have it done by itself, from the stage's beginning."""
        self.left.append(batch)

    @contextmanager
    def alone(self, batch: Batch) -> Iterator[None]:
        """Within this, what is raised fails one batch."""
        try:
            yield
        except BaseException as error:  # its reader decides by its kind
            if tasks.ends_task(error):
                raise
            batch.fail(error)

    def through(self) -> list[Batch]:
        """Those that go on to the next stage."""
        return list(self)


#: A stage's pass over a group.
Together = Callable[[Group], Awaitable[None]]
