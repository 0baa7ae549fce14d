"""What both paths of a tool have made of the same events, compared: pure functions.

An event is in one class. Differences are told by what kind they are and why that is likely; all of
them are counted, and the first of each cause are named. Nothing here grows with the number of
events but what is known of ordering keys, of two hours.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hookstream.app.routing.paths import OLD
from hookstream.app.status import Status

__all__ = ["Attempt", "Compared", "Comparison", "Known", "latency_bucket", "latency_ms"]

#: For how long (ms) an event may be under way in one path before that is a difference.
GRACE_MS: Final = 300_000
#: Causes that are told apart; what comes after them is counted together.
CAUSES: Final = 200
OTHER: Final = "other causes: narrow the time down to see them"
NOT_SAID: Final = "they have not said: it is in their queue still, or they lost it, or do not tell"
#: Latencies are counted in steps of 5 %.
_STEP: Final = math.log(1.05)
#: What SQS counts as a request of its own, of what is sent and received.
_REQUEST_BYTES: Final = 64 * 1024

#: The stage of events that old workers work on, as the event log has it.
OLD_PATH: Final = "old-path"
_KIND: Final = re.compile(r"[A-Za-z_.]{1,100}")
#: Contexts that are named of an example.
NAMED: Final = 20

Kind = Literal["only-old", "only-ours", "neither", "contexts", "order", "old-twice"]
_ABSENT: Final = (Status.DUPLICATE, Status.ERASED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What old workers say: when (ms), for which contexts (None: not said), what went wrong."""

    at_ms: int
    contexts: frozenset[str] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """An event as both paths have it.

    ``status`` and ``stage`` are those of the event log. ``place``: where it is in the order of
    its ``partition``. ``copied``: whether old workers were given it. ``contexts``: that the stages
    here found for it, None where they have not decided; ``at_ms``: when they had, or when the last
    update of it was delivered. ``attempts``: of old workers, in their order.
    """

    event_id: str
    received_ms: int
    status: str
    stage: str = ""
    error: str = ""
    duplicate_of: str = ""
    payload_bytes: int = 0
    partition: int = 0
    place: tuple[int, int] = (0, 0)
    path: str = OLD
    copied: bool = True
    key: str = ""
    contexts: frozenset[str] | None = None
    delivered: bool = False
    dropped_by: str = ""
    at_ms: int | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def old(self) -> Attempt | None:
        """What old workers did first without an error."""
        return next((one for one in self.attempts if not one.error), None)

    @property
    def failed_here(self) -> bool:
        """Whether it went wrong here, if only for now."""
        return (
            self.status == Status.DEAD
            or self.stage.startswith(f"{OLD_PATH}:")
            or (self.status == Status.RETRYING and bool(self.error))
        )

    @property
    def nothing_here(self) -> bool:
        """Whether no stage has decided about it, since old workers have it alone."""
        return self.path == OLD and self.stage == OLD_PATH and self.contexts is None

    @property
    def done_here(self) -> bool:
        """Whether it has come here as far as its path lets it."""
        if self.failed_here or self.status in (*_ABSENT, Status.RETRYING):
            return False
        if self.path == OLD:
            return self.contexts is not None
        return self.delivered or self.status == Status.UNROUTED


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the events.

    ``now_ms``; ``not_copied``: events that could not be copied, and why; ``waiting``: of each
    partition that has copies to be sent still, since when (ms) its oldest one waits; ``fifo``:
    whether old workers' queue keeps the order of a key.
    """

    now_ms: int
    not_copied: dict[str, str] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)
    fifo: bool = True


@dataclass(slots=True)
class Hour:
    """Counts of an hour: each event is in one of the first nine.

    ``sqs_requests``: of ``events_old``, were each sent, received and deleted by itself.
    """

    both: int = 0
    only_old: int = 0
    only_ours: int = 0
    neither: int = 0
    ours_alone: int = 0
    old_alone: int = 0
    nobody: int = 0
    under_way: int = 0
    not_reported: int = 0
    contexts_equal: int = 0
    contexts_other: int = 0
    contexts_unknown: int = 0
    out_of_order: int = 0
    old_twice: int = 0
    errors_old: int = 0
    errors_ours: int = 0
    events_old: int = 0
    sqs_requests: int = 0
    events_here: int = 0
    contexts_here: int = 0
    latencies_old: Counter[int] = field(default_factory=Counter)
    latencies_ours: Counter[int] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """All of them."""
        return (
            self.both
            + self.only_old
            + self.only_ours
            + self.neither
            + self.ours_alone
            + self.old_alone
            + self.nobody
            + self.under_way
            + self.not_reported
        )

    def as_dict(self) -> dict[str, Any]:
        """As the API has it, latencies in ms."""
        kept = {
            name: getattr(self, name) for name in self.__slots__ if not name.startswith("latencies")
        }
        return {
            "events": self.events,
            **kept,
            "p50_old_ms": latency_ms(self.latencies_old, 0.5),
            "p99_old_ms": latency_ms(self.latencies_old, 0.99),
            "p50_ours_ms": latency_ms(self.latencies_ours, 0.5),
            "p99_ours_ms": latency_ms(self.latencies_ours, 0.99),
        }


def latency_bucket(ms: int) -> int:
    """The step that a latency is counted in."""
    return round(math.log(max(1, ms)) / _STEP)


def latency_ms(counts: Counter[int], share: float) -> int | None:
    """What ``share`` of all took at most, within 5 %; None of none."""
    wanted = math.ceil(sum(counts.values()) * share)
    for bucket in sorted(counts):
        wanted -= counts[bucket]
        if wanted <= 0:
            return round(math.exp(bucket * _STEP))
    return None


class Comparison:
    """Takes events in the order of their ids, hour by hour, and says how the paths differ."""

    def __init__(self, known: Known, *, examples: int) -> None:
        """``examples``: how many differences of each cause are named."""
        self._known = known
        self._examples = examples
        self._hours: dict[int, Hour] = {}
        self._causes: dict[tuple[str, str], tuple[int, list[dict[str, Any]]]] = {}
        #: By ordering key the place of what old workers were done with last, when, and its id: of
        #: this hour, and of the one before.
        self._last: dict[str, tuple[tuple[int, int], int, str]] = {}
        self._before: dict[str, tuple[tuple[int, int], int, str]] = {}
        self._at = -1

    def add(self, hour_ms: int, events: Iterable[Compared]) -> None:
        """Events of an hour, which began at ``hour_ms``."""
        if hour_ms != self._at:
            self._before, self._last, self._at = self._last, {}, hour_ms
        hour = self._hours.setdefault(hour_ms, Hour())
        for event in events:
            self._add(hour, event)

    def add_alone(self, hour_ms: int, events: int, failed: int, refs: Sequence[str]) -> None:
        """What old workers say of events that are not here: how many, and some of their ids."""
        hour = self._hours.setdefault(hour_ms, Hour())
        hour.only_old += events
        hour.errors_old += failed
        cause = "not received here: look at the tool's refusals, and at what its door is sent"
        self._tell("only-old", cause, [_named(ref) for ref in refs], events)

    def hours(self) -> list[tuple[int, dict[str, Any]]]:
        """When each hour began (ms), and its counts, in order."""
        return [(at, self._hours[at].as_dict()) for at in sorted(self._hours)]

    def causes(self) -> list[dict[str, Any]]:
        """Kinds of differences with their likely causes, the most frequent ones first."""
        found = sorted(self._causes.items(), key=lambda one: (-one[1][0], one[0]))
        return [
            {"kind": kind, "cause": cause, "count": count, "events": events}
            for (kind, cause), (count, events) in found
        ]

    def _tell(
        self, kind: Kind, cause: str, examples: Sequence[dict[str, Any]], count: int = 1
    ) -> None:
        if (kind, cause) not in self._causes and len(self._causes) >= CAUSES:
            cause = OTHER
        before, kept = self._causes.get((kind, cause), (0, []))
        kept.extend(examples[: max(0, self._examples - len(kept))])
        self._causes[kind, cause] = (before + count, kept)

    def _add(self, hour: Hour, event: Compared) -> None:
        if event.status in _ABSENT and not event.attempts:
            # it is no event of its own, or nothing is left of it
            return
        old = event.old
        self._measure(hour, event, old)
        if event.attempts and old is None:
            hour.errors_old += 1
        if event.failed_here:
            hour.errors_ours += 1
        if old is not None:
            if sum(1 for one in event.attempts if not one.error) > 1:
                hour.old_twice += 1
                self._tell(
                    "old-twice",
                    "old workers were given it again: it became visible before they deleted it, "
                    "or SQS had it twice",
                    [_example(event)],
                )
            self._order(hour, event, old)
        self._class(hour, event, old)

    def _measure(self, hour: Hour, event: Compared, old: Attempt | None) -> None:
        if event.copied or event.attempts:
            pieces = max(1, math.ceil(event.payload_bytes / _REQUEST_BYTES))
            # sent and received, by its size, and deleted
            hour.events_old += 1
            hour.sqs_requests += 2 * pieces + 1
        if old is not None:
            hour.latencies_old[latency_bucket(old.at_ms - event.received_ms)] += 1
        if event.done_here:
            hour.events_here += 1
            hour.contexts_here += len(event.contexts or ())
            if event.at_ms is not None:
                hour.latencies_ours[latency_bucket(event.at_ms - event.received_ms)] += 1

    def _order(self, hour: Hour, event: Compared, old: Attempt) -> None:
        if not event.key:
            return
        last = self._last.get(event.key) or self._before.get(event.key)
        if last is None or old.at_ms >= last[1]:
            if last is not None and event.place < last[0] and old.at_ms > last[1]:
                self._out_of_order(hour, event.event_id, last[2])
            self._last[event.key] = (event.place, old.at_ms, event.event_id)
            return
        if event.place > last[0]:
            self._out_of_order(hour, last[2], event.event_id)

    def _out_of_order(self, hour: Hour, event_id: str, before: str) -> None:
        """``before`` was done before ``event_id``, which came first."""
        hour.out_of_order += 1
        cause = (
            "old workers did not work on its group one after the other"
            if self._known.fifo
            else "their queue is none of FIFO: it keeps no order"
        )
        self._tell("order", cause, [_named(event_id, before)])

    def _class(self, hour: Hour, event: Compared, old: Attempt | None) -> None:
        if old is not None and event.done_here:
            self._both(hour, event, old)
        elif old is not None and event.nothing_here:
            hour.old_alone += 1
        elif old is not None:
            hour.only_old += 1
            self._tell("only-old", self._why_not_here(event), [_example(event)])
        elif event.done_here:
            self._not_old(hour, event)
        elif self._may_come(event) and not (event.attempts or event.failed_here):
            hour.under_way += 1
        elif event.nothing_here and self._why_not_old(event) == NOT_SAID:
            # nothing was to be done here, and what was done there nobody knows
            hour.not_reported += 1
        else:
            hour.neither += 1
            cause = f"here: {self._why_not_here(event)}; old workers: {self._why_not_old(event)}"
            self._tell("neither", cause, [_example(event)])

    def _both(self, hour: Hour, event: Compared, old: Attempt) -> None:
        ours, theirs = event.contexts, old.contexts
        if ours is None or theirs is None:
            hour.both += 1
            hour.contexts_unknown += 1
        elif ours == theirs:
            hour.both += 1
            hour.contexts_equal += 1
        elif not ours:
            hour.only_old += 1
            by = event.dropped_by
            cause = f"dropped by the stage {by}" if by else "no subscription here wants it"
            self._tell("only-old", cause, [_example(event, missing=sorted(theirs))])
        elif not theirs:
            hour.only_ours += 1
            cause = "old workers say that it is for no context"
            self._tell("only-ours", cause, [_example(event, additional=sorted(ours))])
        else:
            hour.both += 1
            hour.contexts_other += 1
            missing, additional = sorted(theirs - ours), sorted(ours - theirs)
            cause = "subscriptions here are " + " and ".join(
                ["narrower"] * bool(missing) + ["wider"] * bool(additional)
            )
            self._tell("contexts", cause, [_example(event, missing=missing, additional=additional)])

    def _not_old(self, hour: Hour, event: Compared) -> None:
        if not event.attempts and not event.copied:
            hour.ours_alone += 1
        elif not event.attempts and self._may_come(event):
            hour.under_way += 1
        elif not event.attempts and event.contexts == frozenset():
            hour.nobody += 1
        else:
            hour.only_ours += 1
            self._tell("only-ours", self._why_not_old(event), [_example(event)])

    def _may_come(self, event: Compared) -> bool:
        return (
            event.event_id not in self._known.not_copied
            and self._known.now_ms - event.received_ms < GRACE_MS
        )

    def _why_not_here(self, event: Compared) -> str:
        if event.status == Status.DUPLICATE:
            return "taken for a duplicate of an earlier event: compare the tool's `dedup`"
        if event.status == Status.ERASED:
            return "erased"
        if event.failed_here:
            stage = event.stage.removeprefix(f"{OLD_PATH}:") or "unknown"
            end = "dead letter" if event.status == Status.DEAD else "fails"
            return f"{end} in stage {stage}: {_kind_of(event.error)}"
        if event.status == Status.RETRYING:
            return f"still under way: it waits ({event.stage})"
        if event.nothing_here:
            return "nothing is done here in mode `sqs`"
        return "still under way: no update of it is in a feed"

    def _why_not_old(self, event: Compared) -> str:
        if event.attempts:
            return f"error {event.attempts[-1].error}"
        if not event.copied:
            return "not given to them"
        if why := self._known.not_copied.get(event.event_id):
            return f"not copied: {why}"
        since = self._known.waiting.get(event.partition)
        if since is not None and (event.at_ms or event.received_ms) >= since - 1000:
            return "its copy waits to be sent into their queue"
        return NOT_SAID


def _kind_of(error: str) -> str:
    """The kind of an error: what it says beside may quote a payload, and is not the same twice."""
    found = _KIND.match(error)
    return found[0] if found else "no reason is kept"


def _example(
    event: Compared, missing: Sequence[str] = (), additional: Sequence[str] = ()
) -> dict[str, Any]:
    return _named(event.event_id, event.duplicate_of or None, missing, additional)


def _named(
    event_id: str,
    other: str | None = None,
    missing: Sequence[str] = (),
    additional: Sequence[str] = (),
) -> dict[str, Any]:
    """An event as an example of a difference."""
    return {
        "event_id": event_id,
        "other": other,
        "missing": list(missing[:NAMED]),
        "additional": list(additional[:NAMED]),
    }
