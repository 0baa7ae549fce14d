"""Committing: one script that writes, and acknowledges last; then what follows from it here.

All commits of a partition form one sequence, whoever makes them: the stages, the retry scheduler,
the digest flusher. They change state that they share, so a commit whose outcome is unclear (its
reply is lost, it was cancelled, what follows from it failed) leaves nobody here a true snapshot of
the partition: it is given up and claimed anew, which also refuses the unclear commit should it be
carried out later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit_scripts import Command, script_for
from hookstream.app.streams.partition import Partition

__all__ = ["FAILED_EVENTS", "Writes", "commit"]

#: The channel of commits that belong to no batch: failed events that fall due, holds, breakers.
FAILED_EVENTS = "letters"

#: Replies that a script is given before its first write.
_REFUSED_WHOLE = (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_REFUSED_WORDS = ("BUSY ", "MISCONF", "NOREPLICAS", "NOSCRIPT", "NOTALLOWED", "WRONGKIND")


@dataclass(slots=True)
class Writes:
    """What a commit writes, in order, and what follows from it here.

    Every key belongs to the partition that commits.
    """

    commands: list[Command] = field(default_factory=list)
    #: Called in order once the commit is through; with the number of the append whose entry id
    #: they are told, or without.
    _consequences: list[tuple[int | None, Callable[..., object]]] = field(default_factory=list)
    _appends: int = 0

    def add(self, command: str, key: str, *args: object) -> None:
        """One of the commands that ``commit.lua`` knows, on a key."""
        self.commands.append((command, key, args))
        self._appends += command == "XADD"

    def append(
        self,
        key: str,
        value: bytes,
        *,
        then: Callable[[str], object] | None = None,
        **more: object,
    ) -> None:
        """An entry for a stream, in the field ``d``; ``then`` is told its id."""
        rest = [part for pair in more.items() for part in pair]
        if then is not None:
            self._consequences.append((self._appends, then))
        self.add("XADD", key, "*", "d", value, *rest)

    def publish(self, channel: str, message: object) -> None:
        """A wake-up by pub/sub."""
        self.add("PUBLISH", "", channel, message)

    def then(self, consequence: Callable[[], object]) -> None:
        """Have ``consequence`` called when, and only when, all of this is written."""
        self._consequences.append((None, consequence))

    def merge(self, other: "Writes") -> None:
        """Add what another one writes, and what follows from it."""
        self._consequences += [
            (at if at is None else at + self._appends, then) for at, then in other._consequences
        ]
        self.commands += other.commands
        self._appends += other._appends

    def follow(self, ids: Sequence[bytes]) -> None:
        """Call what follows; ``ids`` are what the appends were given."""
        for at, then in self._consequences:
            if at is None:
                then()
            else:
                then(ids[at].decode())


async def commit(
    scripts: Scripts,
    partition: Partition,
    channel: str,
    writes: Writes,
    entries: Sequence[Entry] = (),
    *,
    trim: bool = False,
) -> list[str]:
    """Write, acknowledge ``entries``, count the commit sequence up; then call what follows.

    With ``trim`` the source loses what is acknowledged. Returns the ids that appends were given.
    Whatever else than a plain refusal comes out of it, the partition is lost here: see
    :meth:`Partition.lose`.

    Raises:
        FencedError: the partition has another owner, or is lost here; nothing was written.
        OutdatedError: Redis has not what this worker takes for granted; nothing was written.
        redis.exceptions.RedisError: what the server said; nothing was written if the partition
            is not lost.
        TableError: it is written, and the table here could not follow; the partition is lost.
    """
    source = keys.stream(channel, partition.number)
    call = script_for(writes.commands, source)
    async with partition.committing:
        partition.check()
        try:
            reply = await scripts.call(
                call.name,
                [keys.lease(partition.number), source, *call.keys],
                [
                    partition.epoch,
                    partition.nonce,
                    channel,
                    partition.sequence,
                    keys.GROUP,
                    int(trim),
                    *call.arguments,
                    *(entry.entry_id for entry in entries),
                ],
            )
            ids = call.ids(reply)
            partition.sequence += 1
            writes.follow(ids)
            for key in call.keys:
                partition.on_append(key)
        except BaseException as error:
            if not _refused_whole(error):
                partition.lose(error)
            raise
    return [entry_id.decode() for entry_id in ids]


def _refused_whole(error: BaseException) -> bool:
    """Whether a commit that ended with ``error`` has surely written nothing, and may be repeated.

    FENCED and OUTDATED have written nothing either, but say that the snapshot here is wrong.
    """
    if isinstance(error, _REFUSED_WHOLE):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_REFUSED_WORDS)
