"""So many sessions of older clients a key: a new one ends the same key's idlest, no other key's."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

__all__ = ["SessionRoom"]


class SessionRoom:
    """Knows when each session was used last, and which is to go."""

    def __init__(self, most: int, end: Callable[[str], None]) -> None:
        """``most`` sessions a key; ``end`` ends the one of an id."""
        self._most = most
        self._end = end
        #: Requests in flight by session; one that listens on its stream is not idle.
        self._busy: Counter[str] = Counter()
        self._used_at: dict[str, float] = {}
        self._owners: dict[str, str] = {}

    @contextmanager
    def in_use(self, session_id: str) -> Iterator[None]:
        """A request of a session, from its beginning to its end."""
        self._busy[session_id] += 1
        try:
            yield
        finally:
            self._busy[session_id] -= 1
            if not self._busy[session_id]:
                del self._busy[session_id]
            if session_id in self._used_at:
                self._used_at[session_id] = time.monotonic()

    def opened(self, session_id: str, owner: str, manager: StreamableHTTPSessionManager) -> None:
        """A session has been opened by ``owner``: end what its key has too many of."""
        self._used_at[session_id] = time.monotonic()
        self._owners[session_id] = owner
        known = manager._server_instances  # the SDK does not tell of them
        self._owners = {one: whose for one, whose in self._owners.items() if one in known}
        self._used_at = {one: self._used_at[one] for one in self._owners}
        mine = [
            one
            for one, whose in self._owners.items()
            if whose == owner and not known[one].is_terminated
        ]
        mine.sort(key=lambda one: (self._busy[one] > 0, self._used_at[one]))
        for one in mine[: max(0, len(mine) - self._most)]:
            self._end(one)
