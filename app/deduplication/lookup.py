"""Looking back beyond the windows: which events of a batch history suspects, and what is known.

Also which events that came out of a spool were there before. Nothing here decides: what it finds
goes to :func:`hookstream.tables.dedup.decide`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hookstream.app import metrics
from hookstream.app.deduplication.first_events import EventLog, Suspect
from hookstream.app.deduplication.history import PartitionHistory
from hookstream.app.deduplication.state import DedupState
from hookstream.app.errors import UnavailableError
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event
from hookstream.tables.bloom import FilterCache, Shape, suspected, unsettled
from hookstream.tables.dedup import (
    DAY_MS,
    Candidate,
    Mark,
    Record,
    entry_ms,
    is_settled,
    mark_key,
)

__all__ = ["HistoryLookup"]


class HistoryLookup:
    """Asks the filters of a partition's days, and the event log about what they suspect."""

    def __init__(self, redis: Any, records: EventLog, settings: Settings) -> None:
        self._redis = redis
        self._records = records
        self._days = settings.dedup_history_days
        #: How long marks tell copies of one event, by Redis's time.
        self.copy_ms = settings.copy_window_seconds * 1000
        # an event is asked of every day within its history, and of its own
        self._shape = Shape(
            settings.dedup_history_events,
            settings.dedup_history_false_positives / (self._days + 1),
        )
        self.filters = FilterCache(settings.dedup_history_memory_bytes)
        #: Events that whole filters were asked about, and those that were suspected wrongly.
        self.asked = 0
        self.wrong = 0

    @property
    def longest_ms(self) -> int:
        """How far back any event is looked for."""
        return self._days * DAY_MS

    async def copies(
        self,
        number: int,
        entries: Sequence[Entry],
        candidates: Sequence[Candidate],
        known: Mapping[bytes, Mark],
    ) -> dict[bytes, Mark]:
        """Marks, as if they had been kept, of doubted events that the event log has by another
        entry.

        Only those are asked for that no mark tells: none where nothing was lost. Marks are relied
        on for half of the time that they are kept, so that a clock may be wrong by the other half;
        until then an event passes where the event log cannot be asked.

        Raises:
            UnavailableError: the event log cannot be asked, and marks do not reach back far enough.
            RedisError: Redis does not answer.
        """
        asked = [
            at
            for at, entry in enumerate(entries)
            if entry.doubt_ms is not None
            and not entry.failed_event_id
            and not entry.value.replay_id
            and not entry.value.is_note
            and not is_settled(candidates[at], known)
        ]
        if not asked:
            return {}
        ids = {entries[at].value.event_id: entries[at].entry_id for at in asked}
        found, certain = await self._records.elsewhere(number, ids)
        late = [at for at in asked if self._age_ms(entries[at]) * 2 >= self.copy_ms]
        if late and not certain:
            metrics.REDELIVERY_CHECKS.labels(result="waits").inc(len(late))
            raise UnavailableError(
                f"{len(late)} events that lay in a spool may have been delivered before: they wait "
                "until the event log in PostgreSQL can be asked"
            )
        metrics.REDELIVERY_CHECKS.labels(result="copy").inc(len(found))
        result = "fresh" if certain else "unconfirmed"
        metrics.REDELIVERY_CHECKS.labels(result=result).inc(len(asked) - len(found))
        return {
            mark_key(own.name): Mark(first, candidates[at].event_id, 0)
            for at in asked
            if (own := candidates[at].own) and (first := found.get(candidates[at].event_id))
        }

    @staticmethod
    def _age_ms(entry: Entry) -> int:
        """How long ago a doubted event may have come for the first time, by the slower clock."""
        received_ms: int = entry.value.received_at_ms
        return max(entry.doubt_ms or 0, entry_ms(entry.entry_id) - received_ms)

    async def records(
        self,
        partition: Partition,
        events: Sequence[Event],
        candidates: Sequence[Candidate],
        keys: Sequence[bytes],
        known: Mapping[bytes, Mark],
    ) -> dict[bytes, Record | None]:
        """What is on record of those events of a batch that have perhaps come before, by key.

        None where the event log could not be asked. What history has never seen is not in it: that
        costs no I/O while the filters are in memory, and about 3 µs an event over 7 days. A
        candidate costs a round trip to Redis and one to PostgreSQL, whatever their number.

        Raises:
            RedisError: a filter could not be read.
        """
        state = partition[DedupState]
        history = state.history
        if history is None:
            history = state.history = await PartitionHistory.open(
                self._redis, partition, self._shape, self._days, self.filters
            )
        asked = unsettled(candidates, keys, known)
        if not asked:
            return {}
        longest_ms = max(candidates[at].history_ms for at in asked)
        oldest = (entry_ms(candidates[asked[0]].entry_id) - longest_ms) // DAY_MS
        newest = entry_ms(candidates[asked[-1]].entry_id) // DAY_MS
        days = (*history.to_save(oldest, newest), *range(oldest, newest + 1))
        filters = await history.filters(self._redis, days)
        suspects = suspected(candidates, keys, asked, filters)
        metrics.HISTORY_CHECKED.inc(len(asked))
        whole = all(day.readable for day in filters.values())
        self.asked += len(asked) if whole else 0
        if not suspects:
            return {}
        metrics.HISTORY_CANDIDATES.inc(len(suspects))
        wrong, found = await self._confirm(partition.number, events, candidates, keys, suspects)
        self.wrong += wrong if whole else 0
        return found

    async def _confirm(
        self,
        number: int,
        events: Sequence[Event],
        candidates: Sequence[Candidate],
        keys: Sequence[bytes],
        suspects: Sequence[int],
    ) -> tuple[int, dict[bytes, Record | None]]:
        begun = time.perf_counter()
        firsts, certain = await self._records.first(
            number,
            [
                Suspect(
                    events[at].tenant,
                    candidates[at].message_id,
                    candidates[at].event_id,
                    entry_ms(candidates[at].entry_id) - candidates[at].history_ms,
                )
                for at in suspects
            ],
        )
        metrics.CONFIRMATION_SECONDS.observe(time.perf_counter() - begun)
        wrong = 0
        found: dict[bytes, Record | None] = {}
        for at, first, sure in zip(suspects, firsts, certain, strict=True):
            if first is not None:
                metrics.CONFIRMATIONS.labels(result="duplicate").inc()
                found.setdefault(keys[at], first)
            elif sure:
                metrics.CONFIRMATIONS.labels(result="fresh").inc()
                wrong += 1
            else:
                metrics.CONFIRMATIONS.labels(result="unconfirmed").inc()
                found.setdefault(keys[at], None)
        return wrong, found

    def observe(self) -> None:
        """Bring the gauges up to date."""
        metrics.HISTORY_BYTES.set(self.filters.used_bytes)
        fill = estimated = 0.0
        for days in self.filters.by_owner():
            whole = [day for day in days if day.readable]
            fill = max(fill, *(day.fill() for day in whole), 0.0)
            estimated = max(estimated, sum(day.false_positives() for day in whole))
        metrics.HISTORY_FILL.set(fill)
        metrics.HISTORY_FALSE_POSITIVES.labels(kind="estimated").set(min(1.0, estimated))
        observed = self.wrong / self.asked if self.asked else 0.0
        metrics.HISTORY_FALSE_POSITIVES.labels(kind="observed").set(observed)
