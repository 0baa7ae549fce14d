"""Batches of events through judging and commit, on real servers and without the stages between."""

import secrets
from functools import partial
from pathlib import Path
from typing import Any

from hookstream.agents.dedupe import judge
from hookstream.app.deduplication.first_events import EventLog
from hookstream.app.deduplication.lookup import HistoryLookup
from hookstream.app.deduplication.state import DedupState, opens_dedup
from hookstream.app.failures.state import opens_failures
from hookstream.app.feeds.state import opens_feeds
from hookstream.app.ids import new_event_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.stores.recorder import Recorder
from hookstream.app.stores.tiers import Tiers
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.event_log import audit
from hookstream.app.streams.partition import OpenState, Partition, open_partition
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.routed import encode_changes
from hookstream.tables.dedup import DAY_MS

__all__ = ["HOUR_MS", "NUMBER", "Flow", "Owner", "event", "openers"]

#: The partition that all of it is in.
NUMBER = 5
HOUR_MS = 3_600_000


def openers(redis: Any, scripts: Any, settings: Settings) -> list[OpenState]:
    """What a worker's rooms keep of a partition, as the application has it, without marks."""
    return [
        opens_dedup(redis, settings.state_path / "tables"),
        opens_failures(redis, settings),
        opens_feeds(redis, scripts),
    ]


class Owner:
    """Whoever has the partition now; :meth:`claim` makes it another one, with an empty memory."""

    def __init__(self, redis: Any, folder: Path) -> None:
        self.redis = redis
        self.folder = folder
        self.scripts = Scripts(redis)
        self.partition: Any = None

    async def claim(self, worker: str = "w0") -> Partition:
        self.leave()
        await self.redis.hset(keys.lease(NUMBER), "expires_ms", "0")
        nonce = secrets.token_hex(4)
        reply = await self.scripts.call("claim", [keys.lease(NUMBER)], [worker, nonce, 3_600_000])
        settings = Settings(state_dir=self.folder / worker)
        opened = await open_partition(
            openers(self.redis, self.scripts, settings), NUMBER, nonce, reply
        )
        self.partition = opened
        return self.partition  # type: ignore[no-any-return]

    def leave(self) -> None:
        if self.partition is not None:
            self.partition.close()
        self.partition = None


def event(n: int, message: str, at_ms: int, **more: Any) -> Event:
    values: dict[str, Any] = {
        "event_id": new_event_id(at_ms, NUMBER, n),
        "tenant": "default",
        "tool_id": "tool",
        "provider": "none",
        "type": "t",
        "message_id": f"tool:t:{message}",
        "received_at_ms": at_ms,
        "dedup_window_ms": HOUR_MS,
        "dedup_history_ms": 2 * DAY_MS,
    }
    return Event(**{**values, **more})


class Flow:
    """Batches through judging and commit, with the event log written at once or later."""

    def __init__(self, owner: Owner, postgres: Postgres) -> None:
        self.owner = owner
        self.postgres = postgres
        self.recorder = Recorder(owner.redis, postgres)
        settings = Settings(dedup_history_events=1000)
        self.history_lookup = HistoryLookup(
            owner.redis,
            EventLog(owner.redis, postgres, Tiers(owner.redis, owner.scripts)),
            settings,
        )

    async def judged(self, *events: Event, failed_event: str = "") -> Batch:
        entries = [
            Entry(f"{e.received_at_ms}-{n}", encode_event(e), e, failed_event_id=failed_event)
            for n, e in enumerate(events)
        ]
        batch = Batch("events", self.owner.partition, entries, lambda *_: None)
        await judge(batch, self.history_lookup)
        return batch

    async def commit(self, batch: Batch, *, recorded: bool = True) -> list[Entry]:
        """As the commit stage does; the audit stage writes the event log unless told not to."""
        partition, writes = batch.partition, Writes()
        if batch.changes:
            writes.append(
                keys.changelog(NUMBER),
                encode_changes("dedup", batch.changes),
                then=partial(partition[DedupState].table.apply, batch.changes),
            )
        if history := partition[DedupState].history:
            history.write(writes, batch.remembered)
        if not recorded:
            writes.append(keys.audit(NUMBER), audit(batch).SerializeToString())
        await commit(self.owner.scripts, partition, "events", writes, batch.entries)
        if recorded:
            await self.recorder.record(partition, [audit(batch)])
        return batch.entries

    async def passes(
        self, *events: Event, failed_event: str = "", recorded: bool = True
    ) -> list[str]:
        """What became of each event: its layer, with the first one's number where it has one."""
        batch = await self.judged(*events, failed_event=failed_event)
        return [entry.dedup for entry in await self.commit(batch, recorded=recorded)]
