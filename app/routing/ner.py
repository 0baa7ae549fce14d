"""The model of ``HOOKSTREAM_NER``: asked in a child process, bounded in time and memory.

Not in a thread: such a model computes for long, and what hangs there could not be ended. What it
does not say in its time, or where it fails, is an error: nothing passes that was not looked at.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, TypeVar

from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import NerError, OverBudgetError, SettingsError
from hookstream.app.privacy.ner import Answers, AskedDetector, Found, Model, kinds_of

__all__ = ["START_SECONDS", "Ner"]

T = TypeVar("T")

#: For the import of a model, which may read gigabytes.
START_SECONDS: Final = 120.0
#: The kind of work in metrics.
WHAT: Final = "ner"
#: After so many failures in a row it is not asked for a while: each may have taken all its time.
MAX_FAILURES: Final = 3
REST_SECONDS: Final = 10.0


class Ner:
    """Asks the model what is in texts."""

    def __init__(self, name: str, pool: BoundedPool, seconds: float) -> None:
        """``name``: ``module:function``; ``seconds``: most of them for the texts of one event."""
        self._name = name
        self._pool = pool
        self._seconds = seconds
        #: What it finds, once it has started.
        self.kinds: frozenset[str] = frozenset()
        self.detector = AskedDetector(())
        self._failures = 0
        self._rests_until = -math.inf

    async def start(self) -> None:
        """Have the model loaded, and hear what it finds.

        Raises:
            SettingsError: it cannot be.
        """
        try:
            found = await self._pool.run(WHAT, kinds_of, self._name, seconds=START_SECONDS)
        except (NerError, OverBudgetError, OSError) as error:
            raise SettingsError(f"HOOKSTREAM_NER: {error}") from error
        self.kinds = frozenset(found)
        self.detector = AskedDetector(found)

    async def settled(self, work: Callable[[], T], *, aside: bool) -> T:
        """What ``work`` gives, which masks something, once the model was asked of its texts.

        ``aside``: it may be long, and is done in a thread.

        Raises:
            NerError: the model fails, takes too long, or too many wait for it.
            Exception: what ``work`` raises.
        """
        answers = Answers()
        done = await _called(lambda: answers.collect(work), aside=aside)
        texts = answers.texts
        if not texts:
            assert done is not None
            return done
        answers.take(await self._ask(texts))
        return await _called(lambda: answers.give(work), aside=aside)

    async def _ask(self, texts: list[str]) -> list[list[Found]]:
        if time.monotonic() < self._rests_until:
            raise NerError("the model of HOOKSTREAM_NER has failed several times: it rests")
        try:
            said = await self._pool.run(WHAT, Model(self._name), texts, seconds=self._seconds)
        except Exception as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                self._rests_until = time.monotonic() + REST_SECONDS
            if isinstance(error, NerError):
                raise
            # what it says may quote a text
            told = str(error) if isinstance(error, OverBudgetError) else type(error).__name__
            raise NerError(f"the model of HOOKSTREAM_NER cannot be asked: {told}") from None
        self._failures = 0
        return said


async def _called(work: Callable[[], T], *, aside: bool) -> T:
    return await asyncio.to_thread(work) if aside else work()
