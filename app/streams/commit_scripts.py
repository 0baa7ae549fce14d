"""Which script makes a commit, and with what: the leanest that can write what there is.

Nearly all commits append entries, count what they appended, and wake who waits for that. Scripts
made for that alone take arguments by their places and look at each key once; ``commit.lua`` carries
out any list of commands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["COMMITS", "Call", "Command", "script_for"]

#: The scripts that commit. The first six arguments of all of them are the same.
COMMITS = ("commit", "commit_appends", "commit_feeds")
#: A command that is written, its key, its other arguments.
Command = tuple[str, str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Call:
    """A script's name, its keys behind the first two, its arguments behind the first six, and what
    makes the ids of all appends of what it returns."""

    name: str
    keys: list[str]
    arguments: list[object]
    ids: Callable[[Sequence[bytes]], Sequence[bytes]]


def script_for(commands: Sequence[Command], source: str) -> Call:
    """The script that writes ``commands``; ``source`` is the stream whose batch is committed."""
    appends: list[tuple[str, object]] = []
    hashes: dict[str, list[object]] = {}
    feeds: dict[str, list[object]] = {}
    wakeups: list[object] = []
    # of each append: which of those that Redis numbers it is, or the id that it has already
    order: list[int | bytes] = []
    for command, key, args in commands:
        if command == "XADD" and len(args) == 3:
            if args[0] == "*":
                order.append(len(appends))
                appends.append((key, args[2]))
            else:
                order.append(str(args[0]).encode())
                feeds.setdefault(key, []).extend((args[0], args[2]))
        elif command == "HSET":
            hashes.setdefault(key, []).extend(args)
        elif command == "PUBLISH":
            wakeups += args
        else:
            return _any(commands, source)
    keys = [key for key, _ in appends]
    values = [value for _, value in appends]
    if not (hashes or feeds or wakeups):
        return Call("commit_appends", keys, values, lambda ids: ids)
    counts = (len(appends), len(hashes), len(wakeups) // 2)
    arguments: list[object] = [*counts, *values]
    for group in (hashes, feeds):
        for key, given in group.items():
            keys.append(key)
            arguments += (len(given), *given)
    arguments += wakeups
    return Call(
        "commit_feeds",
        keys,
        arguments,
        lambda ids: [ids[each] if isinstance(each, int) else each for each in order],
    )


def _any(commands: Sequence[Command], source: str) -> Call:
    """The script that carries out commands one by one."""
    keys: list[str] = []
    index = {source: 2, "": 1}
    arguments: list[object] = [len(commands)]
    for command, key, args in commands:
        if key not in index:
            keys.append(key)
            index[key] = len(keys) + 2
        arguments += (command, index[key], len(args), *args)
    return Call("commit", keys, arguments, lambda ids: ids)
