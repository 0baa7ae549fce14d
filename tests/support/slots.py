"""Hash slots of a cluster that move from one master to another, as operators move them."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from tests.support.servers import ClusterSet, Node, wait_until

__all__ = [
    "MOVES",
    "begin",
    "carry",
    "end",
    "filled",
    "move_by_keys",
    "move_whole",
    "own_id",
    "owned",
]

#: How many keys ``redis-cli --cluster reshard`` moves in one command; how long (ms) that may take.
KEYS_AT_ONCE = 10
MIGRATE_MS = 5000


def own_id(node: Node) -> str:
    """The name that a node has in its cluster."""
    return str(node.ask().execute_command("CLUSTER MYID"))


def owned(node: Node) -> list[int]:
    """The slots that a master says are its own."""
    found: list[int] = []
    own = own_id(node)
    for address, told in node.ask().execute_command("CLUSTER NODES").items():
        if told["node_id"] == own:
            assert address.endswith(str(node.port))
            for first, *rest in told["slots"]:
                if str(first).isdigit():
                    found += range(int(first), int(rest[0] if rest else first) + 1)
    return found


def filled(node: Node) -> list[int]:
    """The slots of a master that have keys: the others move in no time."""
    pipe = node.ask().pipeline(transaction=False)
    slots = owned(node)
    for slot in slots:
        pipe.execute_command("CLUSTER COUNTKEYSINSLOT", slot)
    return [slot for slot, count in zip(slots, pipe.execute(), strict=True) if count]


def begin(source: Node, target: Node, slot: int) -> None:
    """A slot is on the move from here on: what is not at its source is looked for at its target."""
    from_id, to_id = own_id(source), own_id(target)
    target.ask().execute_command("CLUSTER SETSLOT", slot, "IMPORTING", from_id)
    source.ask().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", to_id)


def carry(source: Node, target: Node, *names: str) -> None:
    """Move some keys of a slot that is on the move."""
    source.ask().execute_command(
        "MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_MS, "KEYS", *names
    )


def end(cluster: ClusterSet, target: Node, slot: int) -> None:
    """The slot is its target's."""
    name = own_id(target)
    # the one that takes it first: nobody else may be told of an owner that does not know it
    for node in sorted(cluster.masters(), key=lambda node: node is not target):
        node.ask().execute_command("CLUSTER SETSLOT", slot, "NODE", name)


def move_by_keys(cluster: ClusterSet, source: Node, target: Node, slots: Iterable[int]) -> None:
    """Move slots one by one, key by key: what ``redis-cli --cluster reshard`` does, on any Redis.

    While a slot moves a command on what has gone is sent on (ASK), and one on several keys of which
    some have gone is refused (TRYAGAIN).
    """
    ask = source.ask()
    for slot in slots:
        begin(source, target, slot)
        while names := ask.execute_command("CLUSTER GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            carry(source, target, *names)
        end(cluster, target, slot)


def move_whole(cluster: ClusterSet, source: Node, target: Node, slots: Sequence[int]) -> None:
    """Move slots together, each whole (Valkey 9): clients are told when it is done (MOVED)."""
    to_id = own_id(target)
    ranges = [number for slot in slots for number in (slot, slot)]
    ask = source.ask()
    ask.execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", to_id)

    def ended() -> bool:
        state = ask.execute_command("CLUSTER GETSLOTMIGRATIONS")[0]["state"]
        if state in ("failed", "cancelled", "canceled"):
            raise ResponseError(f"slots did not move: {state}")
        return bool(state == "success")

    deadline = time.monotonic() + 30
    while not ended():
        if time.monotonic() > deadline:
            raise AssertionError("slots did not move in time")
        time.sleep(0.01)
    # the others hear of it by gossip
    wait_until(lambda: set(slots) <= set(owned(target)), "the target has them")


#: Ways to move slots, by what they are called.
MOVES: dict[str, Callable[[ClusterSet, Node, Node, Any], None]] = {
    "key by key": move_by_keys,
    "whole": move_whole,
}
