"""Which script makes a commit: the leanest that can write what there is to write."""

import pytest

from hookstream.app.streams.commit import Writes
from hookstream.app.streams.commit_scripts import script_for

SOURCE = "{hs:0}:updates"


def ids_of(writes: Writes, *made: bytes) -> list[bytes]:
    return list(script_for(writes.commands, SOURCE).ids(made))


def test_a_batch_that_only_appends_takes_arguments_by_their_places() -> None:
    writes = Writes()
    writes.append("log", b"one")
    writes.append("audit", b"two")
    call = script_for(writes.commands, SOURCE)
    assert (call.name, call.keys, call.arguments) == (
        "commit_appends",
        ["log", "audit"],
        [b"one", b"two"],
    )
    assert ids_of(writes, b"5-0", b"6-0") == [b"5-0", b"6-0"]


def test_nothing_to_write_is_an_acknowledgement_alone() -> None:
    call = script_for((), SOURCE)
    assert (call.name, call.keys, call.arguments) == ("commit_appends", [], [])


def test_updates_are_grouped_by_feed_and_counts_by_hash() -> None:
    writes = Writes()
    writes.add("XADD", "feed:a", "1-0", "d", b"a1")
    writes.add("XADD", "feed:b", "7-0", "d", b"b7")
    writes.append("audit", b"record")
    writes.add("XADD", "feed:a", "2-0", "d", b"a2")
    writes.add("HSET", "seqs", "a", 2)
    writes.add("HSET", "positions", 3, "1-1")
    writes.add("HSET", "seqs", "b", 7)
    writes.publish("channel", 2)
    call = script_for(writes.commands, SOURCE)
    assert call.name == "commit_feeds"
    assert call.keys == ["audit", "seqs", "positions", "feed:a", "feed:b"]
    assert call.arguments == [
        *(1, 2, 1, b"record"),
        *(4, "a", 2, "b", 7, 2, 3, "1-1"),
        *(4, "1-0", b"a1", "2-0", b"a2", 2, "7-0", b"b7"),
        *("channel", 2),
    ]
    # as many ids as there are appends, in the order in which they were asked for
    assert ids_of(writes, b"9-3") == [b"1-0", b"7-0", b"9-3", b"2-0"]


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("ZADD", (1, "x")),
        ("HDEL", ("x",)),
        ("XTRIM", ("MINID", "1-0")),
        ("XADD", ("*", "d", b"x", "r", "name")),
    ],
)
def test_anything_else_is_carried_out_command_by_command(
    command: str, args: tuple[object, ...]
) -> None:
    writes = Writes()
    writes.append("audit", b"record")
    writes.add(command, SOURCE, *args)
    call = script_for(writes.commands, SOURCE)
    assert (call.name, call.keys) == ("commit", ["audit"])
    # the source is the second key of every commit
    assert call.arguments == [2, "XADD", 3, 3, "*", "d", b"record", command, 2, len(args), *args]
