"""The replayer: sends what replays ask for, in the order of the streams and at their rate.

Any worker may send a replay; a lease in PostgreSQL says which one does. Its place is noted behind
each page: after a crash a page is sent again, and dedup recognises its copies.
"""

import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import UnavailableError, UnconfirmedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.redis.durability import Durability, append_groups
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.events import EventStore, place_of
from hookstream.app.stores.replays import ReplayStore
from hookstream.codecs.envelope import with_replay
from hookstream.codecs.errors import CodecError

__all__ = ["Replayer"]

logger = get_logger(__name__)

LOOK_SECONDS = 0.5
#: How long a replay waits for another worker where its own was killed; a page at the lowest rate
#: takes ten seconds.
LEASE_SECONDS = 15.0
#: How often it is looked for replays that are through and that nobody has ended.
FINISH_SECONDS = 10.0
#: The same trouble again is a line in the log every so many times.
SAID_EVERY = 20
#: Most events of one page.
PAGE = 256
#: A page is this much of a second of the replay's rate.
PAGE_SHARE = 0.25


class Replayer(Service):
    """Looks for replays that nobody is sending, and sends them one at a time."""

    mundane_level = "debug"

    def __init__(
        self,
        durability: Durability,
        scripts: Scripts,
        replays: ReplayStore,
        events: EventStore,
        *,
        catalog: Callable[[], Catalog],
        pressure: Callable[[], Pressure],
        resealed: Callable[[bytes], Awaitable[bytes]],
        **kwargs: Any,
    ) -> None:
        """``pressure``: Redis's; above the mark from which receivers spool, replays wait.

        ``resealed``: an envelope from the archive with its payload sealed, where payloads are.
        """
        super().__init__(**kwargs)
        self._durability = durability
        self._scripts = scripts
        self._replays = replays
        self._events = events
        self._catalog = catalog
        self._pressure = pressure
        self._resealed = resealed
        self._told_waiting = False
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    @tasks.loop
    async def _send_forever(self) -> None:
        failures, finish_at = 0, 0.0
        while not self.should_stop:
            await self.sleep(LOOK_SECONDS)
            try:
                if time.monotonic() >= finish_at:
                    finish_at = time.monotonic() + FINISH_SECONDS
                    await self._replays.finish_sent()
                await self._send()
                failures = 0
            except (UnavailableError, UnconfirmedError, *REDIS_ERRORS) as error:
                if self.should_stop:
                    return
                failures += 1
                if failures == 1 or failures % SAID_EVERY == 0:
                    logger.warning("replays wait, where there are any: %s", error)
                await self.sleep(1.0)

    async def _send(self) -> None:
        """Send one replay to its end, or until this process stops or Redis has no room for it."""
        if self._waits():
            return
        replay = await self._replays.take(self.owner, LEASE_SECONDS)
        while replay is not None and not self.should_stop and not self._waits():
            replay = await self._send_page(replay)

    def _waits(self) -> bool:
        """Whether what can wait has to: receivers spool what is new, so this is not to fill up
        what they leave.
        """
        waits = self._pressure() >= Pressure.SPOOL
        if waits is not self._told_waiting:
            self._told_waiting = waits
            what = "wait: Redis is nearly full" if waits else "go on: Redis has room again"
            logger.info("replays %s", what)
        return waits

    async def _send_page(self, replay: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Send one page; the replay at its new place, None when it is through."""
        begun = time.monotonic()
        limit = max(1, min(PAGE, int(replay["rate"] * PAGE_SHARE)))
        rows = await self._replays.page(replay, limit)
        found = await self._events.readable_envelopes(
            [place_of(replay["tenant"], row) for row in rows]
        )
        pairs = list(zip(rows, found, strict=True))
        fresh = [(row, data) for row, data in pairs if data and not row["replayed"]]
        await self._append(replay, fresh)
        metrics.REPLAY_SENT.inc(len(fresh))
        place = (replay["at_ms"], replay["at_seq"], replay["at_event"])
        if rows:
            place = (rows[-1]["entry_ms"], rows[-1]["entry_seq"], rows[-1]["event_id"])
        missing = sum(data is None and not row["replayed"] for row, data in pairs)
        through = len(rows) < limit
        running = await self._replays.advance(
            replay,
            place,
            sent=len(rows) - missing,
            missing=missing,
            all_sent=through,
            lease_seconds=LEASE_SECONDS,
        )
        if through or not running:
            return None
        await self.sleep(max(0.0, len(rows) / replay["rate"] - (time.monotonic() - begun)))
        return {**replay, "at_ms": place[0], "at_seq": place[1], "at_event": place[2]}

    async def _append(
        self, replay: Mapping[str, Any], found: Sequence[tuple[Mapping[str, Any], bytes]]
    ) -> None:
        groups: dict[int, list[bytes]] = {}
        catalog = self._catalog()
        for row, data in found:
            try:
                sealed = await self._resealed(data)
            except CodecError as error:
                # its copy meets the same, and becomes a dead letter that says so
                logger.warning("the payload of %s cannot be read: %s", row["event_id"], error)
                sealed = data
            again = with_replay(
                sealed,
                replay_id=str(replay["replay_id"]),
                replay_context_id=replay["context_id"],
                registry_version=catalog.version,
                registry_token=catalog.token,
            )
            groups.setdefault(row["partition"], []).append(again)
        await append_groups(
            self._durability,
            self._scripts,
            [(keys.events(partition), values) for partition, values in groups.items()],
        )
