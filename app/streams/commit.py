"""Committing: one script that writes, and acknowledges last; then what follows from it here.

All commits of a partition form one sequence, whoever makes them: the stages, the retry scheduler,
the digest flusher. They change state that they share, so a commit whose outcome is unclear (its
reply is lost, it was cancelled, what follows from it failed) leaves nobody here a true snapshot of
the partition: it is given up and claimed anew, which also refuses the unclear commit should it be
carried out later.
"""

import asyncio
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

from hookstream.app import tasks
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit_scripts import Call, Command, script_for
from hookstream.app.streams.partition import Partition

__all__ = ["FAILED_EVENTS", "Commit", "Writes", "commit", "commit_all"]

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


@dataclass(slots=True)
class Commit:
    """What is written of a partition, and the ``entries`` of ``channel`` that are acknowledged.

    With ``trim`` the source loses what is acknowledged.
    """

    partition: Partition
    channel: str
    writes: Writes
    entries: Sequence[Entry] = ()
    trim: bool = False

    def call(self) -> Call:
        """The script that makes it, as far as it follows from what is written."""
        return script_for(self.writes.commands, keys.stream(self.channel, self.partition.number))

    def script(self, call: Call) -> tuple[str, list[str], list[object]]:
        """The script with its keys and arguments, by what the partition has come to."""
        partition = self.partition
        source = keys.stream(self.channel, partition.number)
        return (
            call.name,
            [keys.lease(partition.number), source, *call.keys],
            [
                partition.epoch,
                partition.nonce,
                self.channel,
                partition.sequence,
                keys.GROUP,
                int(self.trim),
                *call.arguments,
                *(entry.entry_id for entry in self.entries),
            ],
        )

    def follow(self, call: Call, reply: Sequence[bytes]) -> list[str]:
        """Take over here what is written; the ids that appends were given."""
        ids = call.ids(reply)
        self.partition.sequence += 1
        self.writes.follow(ids)
        for key in call.keys:
            self.partition.on_append(key)
        return [entry_id.decode() for entry_id in ids]

    def failed(self, error: BaseException) -> None:
        """Let the partition go, unless nothing was written for sure."""
        if not _refused_whole(error):
            self.partition.lose(error)


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
    asked = Commit(partition, channel, writes, entries, trim)
    call = asked.call()
    async with partition.committing:
        partition.check()
        try:
            return asked.follow(call, await scripts.call(*asked.script(call)))
        except BaseException as error:
            asked.failed(error)
            raise


async def commit_all(scripts: Scripts, commits: Sequence[Commit]) -> list[Exception | None]:
    """Commit several partitions' in one round trip, each as :func:`commit` does: fenced by its own
    lease, failing alone.

    Gives what each of them failed with. One whose partition commits something else at the moment
    goes by itself: none waits for another one's partition.
    """
    if not commits:
        return []
    if len(commits) == 1:
        return [await _commit_alone(scripts, commits[0])]
    now: list[int] = []
    later: dict[int, asyncio.Task[Exception | None]] = {}
    for at, each in enumerate(commits):
        if each.partition.committing.free:
            await each.partition.committing.acquire()
            now.append(at)
        else:
            later[at] = tasks.awaited("commit_all", _commit_alone(scripts, each))
    try:
        try:
            found = await _carry_out(scripts, [commits[at] for at in now])
        finally:
            for at in now:
                commits[at].partition.committing.release()
        errors = dict(zip(now, found, strict=True))
        errors |= {at: await task for at, task in later.items()}
    finally:
        await tasks.stop(*later.values())
    return [errors[at] for at in range(len(commits))]


async def _commit_alone(scripts: Scripts, asked: Commit) -> Exception | None:
    try:
        await commit(
            scripts, asked.partition, asked.channel, asked.writes, asked.entries, trim=asked.trim
        )
    except Exception as error:  # noqa: BLE001 whoever asked for it hears it
        return error
    return None


async def _carry_out(scripts: Scripts, commits: Sequence[Commit]) -> list[Exception | None]:
    """Commits whose partitions' locks are held."""
    errors: list[Exception | None] = [None] * len(commits)
    asked: list[tuple[int, Commit, Call]] = []
    for at, each in enumerate(commits):
        try:
            call = each.call()
            each.partition.check()
        except Exception as error:  # noqa: BLE001 see above
            errors[at] = error
        else:
            asked.append((at, each, call))
    if not asked:
        return errors
    try:
        replies = await scripts.call_all([each.script(call) for _, each, call in asked])
    except BaseException as error:
        # cancelled: what is written nobody knows
        for _, each, _ in asked:
            each.failed(error)
        raise
    for (at, each, call), reply in zip(asked, replies, strict=True):
        try:
            if isinstance(reply, Exception):
                raise reply
            each.follow(call, reply)
        except Exception as error:  # noqa: BLE001 see above
            each.failed(error)
            errors[at] = error
    return errors


def _refused_whole(error: BaseException) -> bool:
    """Whether a commit that ended with ``error`` has surely written nothing, and may be repeated.

    FENCED and OUTDATED have written nothing either, but say that the snapshot here is wrong.
    """
    if isinstance(error, _REFUSED_WHOLE):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_REFUSED_WORDS)
