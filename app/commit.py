"""Committing a batch: one script that writes, and acknowledges last."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hookstream.app import keys
from hookstream.app.batch import Entry, Partition
from hookstream.app.redis_client import Scripts

__all__ = ["Writes", "commit"]

#: The channel of commits that belong to no batch: letters that fall due, holds, breakers.
LETTERS = "letters"


@dataclass(slots=True)
class Writes:
    """What a commit writes, in order; every key belongs to the partition that commits."""

    commands: list[tuple[str, str, tuple[object, ...]]] = field(default_factory=list)

    def add(self, command: str, key: str, *args: object) -> None:
        """One of the commands that ``commit.lua`` knows, on a key."""
        self.commands.append((command, key, args))

    def append(self, key: str, value: bytes, **more: object) -> None:
        """An entry for a stream, in the field ``d``."""
        rest = [part for pair in more.items() for part in pair]
        self.add("XADD", key, "*", "d", value, *rest)

    def publish(self, channel: str, message: object) -> None:
        """A cue by pub/sub."""
        self.add("PUBLISH", "", channel, message)


async def commit(
    scripts: Scripts,
    partition: Partition,
    channel: str,
    writes: Writes,
    entries: Sequence[Entry] = (),
    *,
    trim: bool = False,
) -> list[str]:
    """Run ``commit.lua``: write, acknowledge ``entries``, count the channel's revision up.

    With ``trim`` the source loses what is acknowledged. Returns the ids that appends were given.

    Raises:
        FencedError: the partition has another owner; nothing was written.
        OutdatedError: Redis has not what this worker takes for granted; nothing was written.
    """
    source = keys.stream(channel, partition.number)
    names = [keys.lease(partition.number), source]
    index = {source: 2, "": 1}
    arguments: list[object] = []
    for command, key, args in writes.commands:
        if key not in index:
            names.append(key)
            index[key] = len(names)
        arguments += (command, index[key], len(args), *args)
    revision = partition.revisions.get(channel, 0)
    ids: list[bytes] = await scripts.call(
        "commit",
        names,
        [
            partition.epoch,
            partition.nonce,
            channel,
            revision,
            keys.GROUP,
            len(writes.commands),
            *arguments,
            int(trim),
            *(entry.entry_id for entry in entries),
        ],
    )
    partition.revisions[channel] = revision + 1
    return [entry_id.decode() for entry_id in ids]
