"""Hash slots of a cluster that move from one master to another, as operators move them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.support.servers import ClusterSet, Node, wait_until

__all__ = ["MOVES", "Mover", "filled", "owned"]

#: How many keys ``redis-cli --cluster reshard`` moves in one command; how long (ms) that may take.
KEYS_AT_ONCE = 10
MIGRATE_MS = 5000


def owned(node: Node) -> list[int]:
    """The slots that a master says are its own."""
    found: list[int] = []
    ask = node.ask()
    own = ask.execute_command("CLUSTER MYID")
    for told in ask.execute_command("CLUSTER NODES").values():
        if told["node_id"] == own:
            for first, *rest in told["slots"]:
                # what is on the move stands behind, in brackets
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


class Mover:
    """Moves slots from one master of a cluster to another."""

    def __init__(self, cluster: ClusterSet, source: Node, target: Node) -> None:
        self.target = target
        self._from, self._to = source.ask(), target.ask()
        self._from_id, self._to_id = (
            ask.execute_command("CLUSTER MYID") for ask in (self._from, self._to)
        )
        others = [node.ask() for node in cluster.masters() if node not in (source, target)]
        # the one that takes a slot first: nobody may be told of an owner that does not know it
        self._masters = [self._to, self._from, *others]

    def begin(self, slot: int) -> None:
        """It is on the move from here on: what is not at its source is looked for at its target."""
        self._to.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self._from_id)
        self._from.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self._to_id)

    def carry(self, *names: str) -> None:
        """Move some keys of a slot that is on the move."""
        self._from.execute_command(
            "MIGRATE", "127.0.0.1", self.target.port, "", 0, MIGRATE_MS, "KEYS", *names
        )

    def carry_all(self, slot: int) -> None:
        """Move what is left of it."""
        while names := self._from.execute_command("CLUSTER GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            self.carry(*names)

    def end(self, slot: int) -> None:
        """It is its target's."""
        for ask in self._masters:
            ask.execute_command("CLUSTER SETSLOT", slot, "NODE", self._to_id)

    def by_keys(self, slots: Iterable[int]) -> None:
        """Move slots one by one, key by key: as ``redis-cli --cluster reshard`` does, on any Redis.

        While a slot moves a command on what has gone is sent on (ASK), and one on several keys of
        which some are not at its source is refused (TRYAGAIN).
        """
        for slot in slots:
            self.begin(slot)
            self.carry_all(slot)
            self.end(slot)

    def whole(self, slots: Sequence[int]) -> None:
        """Move slots together, each whole (Valkey 9): who asks is told when it is done (MOVED)."""
        ranges = [number for slot in slots for number in (slot, slot)]
        self._from.execute_command(
            "CLUSTER MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", self._to_id
        )
        wait_until(self._has_moved, "slots have moved")

    def _has_moved(self) -> bool:
        state = self._from.execute_command("CLUSTER GETSLOTMIGRATIONS")[0]["state"]
        # an error of Redis's would count as "not yet"
        assert state not in ("failed", "cancelled", "canceled"), f"slots did not move: {state}"
        return bool(state == "success")


#: Ways to move slots, by what they are called.
MOVES: dict[str, Callable[[Mover, Any], None]] = {
    "key by key": Mover.by_keys,
    "whole": Mover.whole,
}
