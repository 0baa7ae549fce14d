"""The steps of an erasure, in their order; what a receipt says. All of it is pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hookstream.app.stores.erasures import CONTEXT, Erasure, Tally

__all__ = ["AUDIT", "is_open", "next_steps", "phases", "receipt", "sum_up"]

#: What is found there stays: it is evidence, and ends with its own time.
AUDIT: Final = "audit trail (kept for its time)"


def phases(erasure: Erasure, partitions: int) -> list[list[str]]:
    """Steps that may be done at the same time, and behind them those that need them all.

    First the places that events are in: what was made of them is found by their ids, too.
    """
    derived = [f"derived:{number}" for number in range(partitions)]
    if erasure.kind == CONTEXT:
        return [derived, ["log"], ["files"]]
    keys = bool(erasure.data_keys)
    return [
        ["log-find"],
        [f"events:{number}" for number in range(partitions)],
        ["archive"],
        # then every process has a new key, and what was sealed by an old one meanwhile is found
        *([["spools"]] if keys else []),
        derived,
        ["log", "refusals", *([] if keys else ["spools"])],
        ["files"],
        # these may take long, or wait for somebody
        ["dictionaries", "settings"],
        *([["data-keys"]] if keys else []),
    ]


def next_steps(erasure: Erasure, partitions: int, done: Iterable[str]) -> list[str]:
    """Steps that can be done now; none where all are done."""
    known = set(done)
    for phase in phases(erasure, partitions):
        left = [step for step in phase if step not in known]
        if left:
            return left
    return []


def is_open(places: Mapping[str, Tally]) -> list[str]:
    """Sentences about what is left, that keep an erasure from being done; none where it is."""
    return [
        tally.detail or f"{tally.left} in {place}"
        for place, tally in sorted(places.items())
        if tally.left and place != AUDIT
    ]


def receipt(places: Mapping[str, Tally], *, steps: int, of: int) -> dict[str, Any]:
    """What was found where, as it is shown and kept."""
    rows = [
        {
            "place": place,
            "found": tally.found,
            "erased": tally.erased,
            "left": tally.left,
            "detail": tally.detail,
        }
        for place, tally in sorted(places.items())
    ]
    return {"places": rows, "steps": steps, "of": of}


def sum_up(troubles: Sequence[str], most: int = 1000) -> str:
    """What is in the way, as one text."""
    return "; ".join(dict.fromkeys(troubles))[:most]
