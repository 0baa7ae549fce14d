"""How what may have killed workers is tried: the reader asks before each batch, and says when it is
over.

:mod:`hookstream.app.streams.deaths` has the rules: what was counted, and what goes beside what.
Here they are applied to one partition of one channel, and Redis is told in the right order: before
what is suspected is looked into, and before anything else begins when it is over (decision 171).
"""

from collections.abc import Callable, Iterable, Sequence

from mode.utils.logging import get_logger

from hookstream.app.errors import FencedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.deaths import BESIDE, Deaths, Trials
from hookstream.app.streams.partition import Partition

__all__ = ["Suspects"]

logger = get_logger(__name__)


class Suspects:
    """The entries of one partition and channel that were in hand when workers died."""

    def __init__(
        self,
        scripts: Scripts,
        partition: Partition,
        channel: str,
        trials: Trials,
        deaths: Deaths | None = None,
    ) -> None:
        """``trials`` are the worker's, ``deaths`` what take_over.lua has counted."""
        self._scripts = scripts
        self._partition = partition
        self._channel = channel
        self._trials = trials
        self._deaths = deaths or Deaths()
        #: Redis has been told what is in flight, for it may kill the worker.
        self._told = False

    def any(self) -> bool:
        """Whether deaths are counted of anything here."""
        return bool(self._deaths)

    def most(self, entry: Entry) -> int | None:
        """How many entries a batch with this one may have; None: it is not suspected."""
        return self._deaths.most(Deaths.name(entry)) if self._deaths else None

    def may_begin(self) -> bool:
        """Whether a batch may begin: none does where another partition tries what it suspects."""
        return self._trials.may_begin(self)

    def ask(self, first: Entry) -> str | None:
        """How a batch that begins with ``first`` may go, for :meth:`begin`; None: not now.

        Where it has to wait nobody else begins anything from now on, and the reader is called when
        it may go (:meth:`Trials.join`).
        """
        how = BESIDE if first.released else ""
        if self.most(first) is not None and not (how := self._trials.ask(self)):
            return None
        return how if self._trials.may_begin(self) else None

    async def begin(
        self, how: str, entries: Sequence[Entry], decode: Callable[[Entry], object]
    ) -> None:
        """A batch is on its way. What is suspected in it is decoded now that Redis knows of it, or
        given up.

        Raises:
            FencedError: the partition has another owner; what Redis says besides.
        """
        self._trials.begun(self)
        suspected = self.most(entries[0]) is not None
        if how:
            await self._tell(f"{how} {' '.join(map(Deaths.name, entries))}")
            self._told = True
        if not suspected:
            return
        for entry in entries:
            if entry.failure is None:
                decode(entry)
                self._deaths.judge(entry)

    def over(self, entries: Sequence[Entry], *, committed: bool) -> bool:
        """Whether Redis is to be told first (:meth:`tell_over`) that a batch is over."""
        cleared = committed and self.any() and self._deaths.over(entries)
        return self._told or cleared

    async def tell_over(self) -> None:
        """Tell it; until then nothing else begins beside a batch that was tried alone."""
        self._told = False
        await self.clear()
        # what has waited for it goes before the next one
        self.release()

    def ended(self) -> None:
        """No batch is on its way any more."""
        self._trials.ended(self)

    def release(self) -> None:
        """Nothing that is suspected is tried here for now: others may go on."""
        self._trials.release(self)

    def forget(self) -> None:
        """The partition is read here no more."""
        self._trials.forget(self)

    def keep(self, pending: Iterable[Entry]) -> bool:
        """Forget what is not pending any more: it was committed, or deleted.

        Returns whether that was the last of it: then Redis is to be told (:meth:`clear`).
        """
        if not self._deaths:
            return False
        names = {Deaths.name(entry) for entry in pending}
        # what waits elsewhere has the name of a failed event, and comes from there
        names |= {name for name in self._deaths.counts if not name[:1].isdigit()}
        return self._deaths.keep(names)

    async def clear(self) -> None:
        """Tell Redis that what was in hand is over."""
        try:
            await self._tell("" if self._deaths else "-")
        except (*REDIS_ERRORS, FencedError) as error:
            # what stays there counts deaths of entries that never come again
            logger.debug("%s: %s", keys.deaths(self._partition.number, self._channel), error)

    async def _tell(self, what: str) -> None:
        number = self._partition.number
        await self._scripts.call(
            "in_hand",
            [keys.lease(number), keys.deaths(number, self._channel)],
            [self._partition.epoch, self._partition.nonce, what],
        )
