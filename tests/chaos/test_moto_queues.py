"""The queues that a move is tried with do what SQS's do."""

import itertools
import random
import time
from typing import Any

from moto.sqs.models import Message

from tests.support.moto_queues import Held

NUMBERS = itertools.count()


def queue(*, fifo: bool = True, twice: float = 0.0) -> Held:
    return Held(fifo=fifo, twice=twice, most_hidden=43_200.0, rng=random.Random(1))


def add(held: Held, name: str, group: str = "g") -> None:
    message: Any = Message(name, name)
    message.group_id, message.deduplication_id, message.order = group, name, next(NUMBERS)
    held.add(message)


def take(held: Held, count: int = 10, hidden_seconds: int = 60) -> list[Any]:
    return held.receive(count, 0, hidden_seconds)


def names(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_nothing_of_a_group_is_given_while_somebody_has_some_of_it() -> None:
    held = queue()
    for name in "abc":
        add(held, name)
    add(held, "other", "h")
    first = take(held, 2)
    assert names(first) == ["a", "b"]
    assert names(take(held)) == ["other"]
    held.delete(first[0].receipt_handle)
    assert take(held) == []
    held.delete(first[1].receipt_handle)
    assert names(take(held)) == ["c"]
    assert held.counts() == (0, 2)


def test_what_is_not_deleted_comes_again_in_its_order() -> None:
    held = queue()
    for name in "abc":
        add(held, name)
    taken = take(held, 2, hidden_seconds=1)
    held.hide(taken[0].receipt_handle, 2)
    time.sleep(1.2)
    # b is visible again, and a is not
    assert take(held) == []
    assert names(held.receive(10, 2, 60)) == ["a", "b", "c"]


def test_what_was_sent_is_known_after_it_was_deleted() -> None:
    held = queue()
    add(held, "a")
    held.delete(take(held)[0].receipt_handle)
    add(held, "a")
    assert take(held) == []


def test_a_standard_queue_gives_twice_what_was_deleted() -> None:
    held = queue(fifo=False, twice=0.5)
    for number in range(20):
        add(held, f"m{number}")
    found: list[str] = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and len(found) < 25:
        for message in take(held):
            found.append(message.id)
            held.delete(message.receipt_handle)
        time.sleep(0.02)
    assert len(set(found)) == 20
    assert held.given_twice >= 5
