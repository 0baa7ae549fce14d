"""A partition that this worker owns: its fence, its commits, and what rooms keep of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from mode.utils.logging import get_logger

from hookstream.app.errors import FencedError

__all__ = ["CountedLock", "OpenState", "Partition", "PartitionState", "decoded", "open_partition"]

logger = get_logger(__name__)

T = TypeVar("T")
K = TypeVar("K")


class CountedLock(asyncio.Lock):
    """A lock that says whether it can be had without waiting.

    Who holds one of them takes others only where they are free: nobody waits in a ring.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wanted = 0

    @property
    def free(self) -> bool:
        """Whether nobody has it, and nobody waits for it."""
        return self._wanted == 0

    async def acquire(self) -> Literal[True]:
        """Wait for it; where it is free, without giving the event loop to anybody else."""
        self._wanted += 1
        try:
            return await super().acquire()
        except BaseException:
            self._wanted -= 1
            raise

    def release(self) -> None:
        """Give it to whoever has waited longest."""
        super().release()
        self._wanted -= 1


class PartitionState(Protocol):
    """What one room keeps of an owned partition: tables, and its state in Redis as known here."""

    def close(self) -> None:
        """Close tables; another process may open them then."""

    def wipe(self) -> None:
        """Delete what is in tables: it is built anew from the changelogs."""


S = TypeVar("S", bound=PartitionState)


@dataclass(slots=True, eq=False)
class Partition:
    """Its fence, and how many commits it has had; ``partition[FeedState]`` is what a room keeps."""

    number: int
    epoch: int
    nonce: str
    sequence: int = 0
    #: What ``sequence`` was when it was claimed.
    claimed_sequence: int = 0
    #: Who had it before has died: what was in hand may have killed it.
    after_death: bool = False
    #: When it was opened (time.monotonic).
    opened_at: float = 0.0
    #: Called once, when it is lost.
    on_lost: "Callable[[Partition, BaseException], None]" = lambda *_: None
    #: Called with the key of each stream that was appended to for it: whoever reads that here need
    #: not be told by anybody else.
    on_append: Callable[[str], None] = lambda _: None
    #: Held while a commit is in flight.
    committing: CountedLock = field(default_factory=CountedLock)
    #: Set when it is to be handed over: who works on a batch step by step gives back the rest.
    leaving: bool = False
    #: Set when this worker lets the partition go.
    closed: bool = False
    #: Why what is known of it here cannot be trusted any more.
    lost: BaseException | None = None
    _states: dict[type[Any], Any] = field(default_factory=dict)

    def __getitem__(self, kind: type[S]) -> S:
        """The state of that kind. Raises KeyError where no room has opened it."""
        state: S = self._states[kind]
        return state

    def add(self, state: PartitionState) -> None:
        """Keep a room's state, under its class, until the partition is closed."""
        self._states[type(state)] = state

    def check(self) -> None:
        """Raise FencedError where this worker has no business in the partition any more."""
        if self.closed or self.lost is not None:
            why = f": {type(self.lost).__name__}: {self.lost}" if self.lost else ""
            raise FencedError(f"partition {self.number} was revoked here{why}")

    def lose(self, error: BaseException) -> None:
        """Trust nothing that is known of it here: let it go, and claim it anew.

        From now on every commit is refused with FencedError. To be called by whoever cannot say
        whether what is here is what Redis has.
        """
        if self.lost is None:
            self.lost = error
            self.on_lost(self, error)

    def close(self) -> None:
        """Close what every room has opened."""
        self.closed = True
        for state in self._states.values():
            state.close()

    def wipe(self) -> None:
        """Delete every room's tables: they are built anew from the changelogs."""
        for state in self._states.values():
            state.wipe()


class OpenState(Protocol):
    """Adds a room's state to a partition that was claimed; ``lease`` is the hash of its lease."""

    async def __call__(self, partition: Partition, lease: Mapping[bytes, bytes]) -> None:
        """Read what there is in Redis, open tables. What was added is closed if this raises."""


async def open_partition(
    openers: Sequence[OpenState], number: int, nonce: str, claim: Sequence[Any]
) -> Partition:
    """A claimed partition with every room's state; ``claim`` is what claim.lua answered.

    Whatever goes wrong on the way, nothing stays open.

    Raises:
        TableError: a table cannot be opened.
        redis.exceptions.RedisError: what the server said.
    """
    lease = dict(zip(claim[2::2], claim[3::2], strict=True))
    sequence = int(lease.get(b"sequence", 0))
    partition = Partition(number, int(claim[1]), nonce, sequence, claimed_sequence=sequence)
    try:
        for open_state in openers:
            await open_state(partition, lease)
    except BaseException:
        # left open, a table could not be opened again for as long as anything remembers the error
        partition.close()
        raise
    return partition


def decoded(
    key: str, values: Mapping[bytes, bytes], name: Callable[[bytes], K], value: Callable[[bytes], T]
) -> dict[K, T]:
    """A hash's fields and values; what is malformed is left out, and said.

    State that can be derived, or done without, does not keep a partition closed.
    """
    found = {}
    for field_name, content in values.items():
        try:
            found[name(field_name)] = value(content)
        except (ValueError, TypeError, KeyError) as error:
            logger.error("%s: field %r cannot be read and is left out: %s", key, field_name, error)
    return found
