"""Who follows feeds in this process, and the watchdog that compares each with its feed.

A follower that is behind its feed and gets nothing is connected and deaf, whatever the reason. It
is closed, so that its client comes back and resumes.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import SealingKeyError, UnavailableError
from hookstream.app.feeds.feed import READS_AT_ONCE, Feeds
from hookstream.app.feeds.turns import FairTurns
from hookstream.app.feeds.wakeups import POLL_SECONDS, Moved
from hookstream.app.redis.client import REDIS_ERRORS

__all__ = ["FAILING_SECONDS", "Follower", "Followers"]

logger = get_logger(__name__)

#: A feed that does not move is read all the same after this time: that it cannot be read any more
#: shows in nothing else.
REREAD_SECONDS = 10.0
#: How often all followers are compared with their feeds.
CHECK_SECONDS = 5.0
#: Checks in a row that find a follower behind and where it was, until it is closed: 15 to 20 s.
#: They are counted, not timed: after a process was stopped its senders have their chance first.
STALLED_CHECKS = 4
#: From so many on it is called behind: less is an update on its way.
BEHIND_CHECKS = 2
#: A feed that cannot be read for so long is given up: another process may have better luck.
FAILING_SECONDS = 30.0
#: Closings are named in /health for so long.
LATELY_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class Follower:
    """A client that is sent a feed, or told when it moves."""

    #: ``websocket`` or ``mcp``.
    kind: str
    tenant: str
    context_id: str
    #: Set when the feed may have moved.
    moved: Moved
    #: Closes it, so that its client comes back.
    close: Callable[[], None]
    #: The number that it has been sent, or told of.
    seq: int = 0
    #: Whose it is: turns to read go round by this.
    key: bytes = b""
    #: When it reads its feed though that has not moved (the loop's clock).
    reread_at: float = 0.0
    #: It waits for its client to take something, which has a limit of its own.
    sending: bool = False
    #: Since when its feed cannot be read (the loop's clock), and with what error.
    failing_since: float | None = None
    error: str = ""
    #: Its feed ends before where it is: it has to look where it stands.
    lost: bool = False
    #: Checks in a row that found it behind, and the number at which they did.
    checks_behind: int = 0
    checked_seq: int = -1

    @contextmanager
    def trying(self, seconds: float | None = None) -> Iterator[None]:
        """Whatever Redis answers to what is done within means "not now", for so many seconds; so
        does a data key that cannot be had.

        Raises:
            UnavailableError: it has meant that for longer (:data:`FAILING_SECONDS`).
        """
        now = asyncio.get_running_loop().time()
        limit = FAILING_SECONDS if seconds is None else seconds
        try:
            yield
        except (SealingKeyError, *REDIS_ERRORS) as error:
            self.error = type(error).__name__
            if self.failing_since is None:
                self.failing_since = now
            if now - self.failing_since > limit:
                raise UnavailableError(
                    f"the feed of {self.tenant}/{self.context_id} cannot be read: {error}"
                ) from error
        else:
            self.failing_since = None

    def check(self, end: int | None) -> bool:
        """Whether it is stalled, where its feed ends at ``end`` (None: no further than it is)."""
        if end is None or end <= self.seq or self.sending:
            self.checks_behind = 0
            return False
        self.checks_behind = self.checks_behind + 1 if self.checked_seq == self.seq else 1
        self.checked_seq = self.seq
        return self.checks_behind >= STALLED_CHECKS


class Followers(Service):
    """All followers of this process; compares them with their feeds from time to time."""

    mundane_level = "debug"

    def __init__(self, feeds: Feeds, *, check_seconds: float = CHECK_SECONDS, **kwargs: Any):
        super().__init__(**kwargs)
        self._feeds = feeds
        self._check_seconds = check_seconds
        self._all: set[Follower] = set()
        self._closed: deque[tuple[float, str]] = deque(maxlen=10_000)
        # the other half is for whoever asks for a page
        self._turns = FairTurns(READS_AT_ONCE // 2)

    @contextmanager
    def follow(
        self,
        kind: str,
        tenant: str,
        context_id: str,
        seq: int,
        close: Callable[[], None],
        *,
        key: bytes = b"",
    ) -> Iterator[Follower]:
        """A follower that stands at ``seq``, and that :meth:`compare` looks after meanwhile.

        ``key``: whose it is, the digest of an agent's key.
        """
        with self._feeds.watch(tenant, context_id) as moved:
            reread_at = self.loop.time() + REREAD_SECONDS
            follower = Follower(kind, tenant, context_id, moved, close, seq, key, reread_at)
            self._all.add(follower)
            try:
                yield follower
            finally:
                self._all.discard(follower)

    def turn(self, follower: Follower) -> AbstractAsyncContextManager[None]:
        """A turn to read its feed; they go round by the keys of all that wait for one."""
        return self._turns.turn(follower.key)

    def closed(self, kind: str, reason: str, *, trouble: bool) -> None:
        """Count a follower that was closed here; ``trouble``: through no wish of anybody."""
        metrics.SOCKETS_CLOSED.labels(kind=kind, reason=reason).inc()
        if trouble:
            self._closed.append((self.loop.time(), reason))

    @tasks.loop
    async def _poll(self) -> None:
        while not self.should_stop:
            await self.sleep(POLL_SECONDS)
            try:
                await self.look()
            except REDIS_ERRORS:
                # each finds out for itself, and gives up where that lasts
                for follower in self._all:
                    follower.moved.tell()

    async def look(self) -> None:
        """Tell whoever is not where its feed ends: a wake-up may have been lost.

        One question for all contexts, however many follow each; who is where its feed ends does
        not read it.
        """
        ends = await self._ends()
        now = self.loop.time()
        for follower in self._all:
            end = ends.get((follower.tenant, follower.context_id))
            fails = follower.failing_since is not None
            if end != follower.seq or fails or now > follower.reread_at:
                follower.reread_at = now + REREAD_SECONDS
                follower.moved.tell()

    async def _ends(self) -> dict[tuple[str, str], int]:
        reached: dict[tuple[str, str], int] = {}
        for follower in self._all:
            name = (follower.tenant, follower.context_id)
            reached[name] = min(follower.seq, reached.get(name, follower.seq))
        return await self._feeds.ends(reached)

    @tasks.loop
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(self._check_seconds)
            try:
                await self.compare()
            except REDIS_ERRORS as error:
                logger.debug("followers cannot be compared with their feeds: %s", error)

    async def compare(self) -> None:
        """Close whoever is behind its feed and has not been sent anything for some checks."""
        stood = {follower: follower.seq for follower in self._all}
        ends = await self._ends()
        for follower in list(self._all):
            end = ends.get((follower.tenant, follower.context_id))
            if end is not None and end < stood.get(follower, 0):
                # Redis has lost data, or a new generation has no update yet
                follower.lost = True
                follower.moved.tell()
            if follower.check(end):
                logger.error(
                    "a %s client of %s/%s stands at %d, its feed at %s, and gets nothing: closed",
                    follower.kind, follower.tenant, follower.context_id, follower.seq, end,
                )  # fmt: skip
                follower.checks_behind = 0
                follower.close()

    def state(self) -> dict[str, Any]:
        """How many there are, how many get nothing, and how many were closed for it lately."""
        kinds = Counter(follower.kind for follower in self._all)
        failing = [follower for follower in self._all if follower.failing_since is not None]
        since = self.loop.time() - LATELY_SECONDS
        return {
            "websockets": kinds["websocket"],
            "mcp": kinds["mcp"],
            "behind": sum(follower.checks_behind >= BEHIND_CHECKS for follower in self._all),
            "failing": len(failing),
            "errors": dict(Counter(follower.error for follower in failing)),
            "closed_lately": dict(Counter(reason for at, reason in self._closed if at > since)),
        }
