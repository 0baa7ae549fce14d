"""Whether conditions hold, within bounds of time and size, and what goes wrong with them.

Whatever goes wrong with a condition concerns its subscription alone: it does not hold for that
event, is counted, and its owner can see it. What is estimated to be cheap, and that is nearly all,
is evaluated where it stands; the rest in a child process, since the engine holds the GIL and cannot
be interrupted. A condition that is over its bounds again and again is switched off.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import OverBudgetError
from hookstream.app.routing.condition_cost import INLINE_SECONDS, NOTHING, Size
from hookstream.app.routing.matching import (
    Condition,
    Facts,
    compile_condition,
    error_kind,
)

__all__ = ["BREACHES", "ConditionJudge", "Name", "Trouble"]

logger = get_logger(__name__)

#: Tenant, context and name of a subscription.
Name = tuple[str, str, str]

#: One evaluation in a child, and what a subscription may use of it in a row; it gets back so much
#: each second.
CHILD_SECONDS: Final = 0.25
ALLOWANCE_SECONDS: Final = 2.0
ALLOWANCE_PER_SECOND: Final = 0.05
#: What a condition sees of an event: values, and bytes of text.
MAX_ELEMENTS: Final = 100_000
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
#: So many times over the time or memory within an hour, and it is switched off.
BREACHES: Final = 5
BREACHES_SECONDS: Final = 3600.0
#: Kinds of error that are breaches. What is too large, or finds no child free, is no fault of the
#: condition's own.
BREACH_KINDS: Final = frozenset(("time", "memory", "crash", "allowance"))
#: Errors of a subscription are logged once in so long.
SAID_SECONDS: Final = 300.0
#: For how long ``/health`` names it.
TOLD_SECONDS: Final = 600.0
MAX_TROUBLES: Final = 1024


@dataclass(slots=True)
class Trouble:
    """What went wrong with a subscription's condition in this process.

    ``errors``: how often since it was last stored; ``at``: when last (seconds of the epoch).
    """

    condition: str
    errors: int = 0
    kind: str = ""
    error: str = ""
    at: float = 0.0
    said_at: float = -SAID_SECONDS
    breaches: int = 0
    breached_at: float = 0.0
    allowance: float = ALLOWANCE_SECONDS
    used_at: float = 0.0
    off: str = ""
    #: The switching off is not in the database yet.
    unsaved: bool = False


class ConditionJudge:
    """Asked of each event by each subscription whose type and key fit."""

    def __init__(self, pool: BoundedPool, *, quiet: bool = False) -> None:
        """``quiet``: nothing is logged or counted in metrics, since it is only a trial."""
        self._pool = pool
        self._quiet = quiet
        #: How many errors of each kind there were.
        self._kinds: Counter[str] = Counter()
        self._troubles: OrderedDict[Name, Trouble] = OrderedDict()

    def at_once(self, name: Name, condition: Condition, facts: Facts) -> bool | None:
        """Whether it holds; None where that may be expensive: ask :meth:`in_child`.

        For nearly all conditions and events this is the whole cost: a comparison and the
        evaluation.
        """
        known = self._troubles.get(name)
        if known is not None and known.off and known.condition == condition.source:
            return False
        if facts.payload_bytes > condition.cheap_bytes:
            try:
                size = measured(facts.seen(condition.parts))
                reached = measured(facts.seen(condition.reached)) if condition.reached else NOTHING
            except Exception as error:  # noqa: BLE001 it concerns this subscription alone
                self._note(name, condition, error_kind(error), str(error))
                return False
            if size.elements > MAX_ELEMENTS or size.text > MAX_TEXT_BYTES:
                self._note(
                    name,
                    condition,
                    "too-large",
                    f"it looks at more than {MAX_ELEMENTS} values or {MAX_TEXT_BYTES} bytes of "
                    "text: name single fields of the payload",
                )
                return False
            if condition.cost.seconds(size, reached) > INLINE_SECONDS:
                return None
        holds, kind, error_text = condition.judge(facts)
        if kind:
            self._note(name, condition, kind, error_text)
        return holds

    async def in_child(self, name: Name, condition: Condition, facts: Facts) -> bool:
        """Whether it holds, found out in a child process within its time and memory."""
        trouble = self._of(name, condition)
        if trouble.off:
            return False
        now = time.monotonic()
        regained = (now - trouble.used_at) * ALLOWANCE_PER_SECOND if trouble.used_at else 0.0
        trouble.allowance = min(ALLOWANCE_SECONDS, trouble.allowance + regained)
        trouble.used_at = now
        if trouble.allowance <= 0:
            self._note(name, condition, "allowance", "too many events cost it too much in a row")
            return False
        try:
            holds, kind, text = await self._pool.run(
                "condition",
                evaluate,
                condition.source,
                facts.seen(condition.parts),
                seconds=CHILD_SECONDS,
            )
        except OverBudgetError as error:
            holds, kind, text = False, error.reason, str(error)
        except Exception as error:  # noqa: BLE001 it concerns this subscription alone
            holds, kind, text = False, error_kind(error), str(error)
        # the start of a child is nobody's fault
        trouble.allowance -= min(time.monotonic() - now, CHILD_SECONDS)
        if kind:
            self._note(name, condition, kind, text)
        return holds

    async def holds(self, name: Name, condition: Condition, facts: Facts) -> bool:
        """Whether it holds, wherever that has to be found out."""
        found = self.at_once(name, condition, facts)
        return await self.in_child(name, condition, facts) if found is None else found

    def troubles(self) -> Mapping[Name, Trouble]:
        """Subscriptions in trouble here, of late or switched off."""
        since = time.time() - TOLD_SECONDS
        return {n: t for n, t in self._troubles.items() if t.errors or t.off or t.at > since}

    def unsaved(self) -> dict[Name, Trouble]:
        """What the database has not been told of yet."""
        return {n: t for n, t in self._troubles.items() if t.errors or t.unsaved}

    def kinds(self) -> dict[str, int]:
        """How many errors of each kind there were."""
        return dict(self._kinds)

    def forget(self, names: Iterable[Name]) -> None:
        """Begin anew with subscriptions that were set anew or deleted."""
        for name in names:
            self._troubles.pop(name, None)

    def _of(self, name: Name, condition: Condition) -> Trouble:
        known = self._troubles.get(name)
        if known is None or known.condition != condition.source:
            known = self._troubles[name] = Trouble(condition.source)
            if len(self._troubles) > MAX_TROUBLES:
                self._troubles.popitem(last=False)
        return known

    def _note(self, name: Name, condition: Condition, kind: str, text: str) -> None:
        self._kinds[kind] += 1
        trouble = self._of(name, condition)
        self._troubles.move_to_end(name)
        now = time.monotonic()
        trouble.errors += 1
        trouble.kind, trouble.error, trouble.at = kind, text[:300], time.time()
        if kind in BREACH_KINDS:
            if now - trouble.breached_at > BREACHES_SECONDS:
                trouble.breaches = 0
            trouble.breaches, trouble.breached_at = trouble.breaches + 1, now
            if trouble.breaches >= BREACHES and not trouble.off:
                trouble.off = f"{BREACHES} times over its bounds, the last time: {text}"[:300]
                trouble.unsaved = True
                self._say_off(name, text)
        if self._quiet:
            return
        metrics.CONDITION_ERRORS.labels(kind=kind).inc()
        if now - trouble.said_at >= SAID_SECONDS:
            trouble.said_at = now
            logger.warning(
                "subscription %s of context %s does not hold for an event (%s): %s",
                name[2],
                name[1],
                kind,
                text,
            )

    def _say_off(self, name: Name, text: str) -> None:
        if not self._quiet:
            metrics.CONDITIONS_SWITCHED_OFF.inc()
            logger.error(
                "subscription %s of context %s is switched off: %s", name[2], name[1], text
            )


def evaluate(source: str, seen: Mapping[str, Any]) -> tuple[bool, str, str]:
    """In a child: whether a condition holds for what it sees, the kind of error, and its text."""
    return compile_condition(source).judge(Facts(seen))


def measured(value: Any) -> Size:
    """How much there is in a value; not much past what is allowed."""
    elements = text = longest = 0
    waiting = [value]
    while waiting and elements <= MAX_ELEMENTS and text <= MAX_TEXT_BYTES:
        one = waiting.pop()
        elements += 1
        if isinstance(one, str):
            text += len(one)
        elif isinstance(one, Mapping):
            text += sum(map(len, one))
            longest = max(longest, len(one))
            waiting.extend(one.values())
        elif isinstance(one, list):
            longest = max(longest, len(one))
            waiting.extend(one)
    return Size(elements, text, longest)
