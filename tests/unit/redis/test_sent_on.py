"""What a cluster refused because its slot has moved, and what of it may be sent on."""

from redis.exceptions import AskError, MovedError, ResponseError, TimeoutError

from hookstream.app.redis.durability import sent_on

MOVED = MovedError("7 127.0.0.1:7000")
ASK = AskError("7 127.0.0.1:7000")


def test_what_was_refused_for_its_place_is_sent_on_in_order() -> None:
    assert sent_on(["a", "b", "a"], [MOVED, b"1-0", ASK]) == [0, 2]
    assert sent_on(["a", "b"], [b"1-0", b"1-0"]) == []


def test_nothing_is_sent_on_behind_what_was_taken_or_may_have_been() -> None:
    assert sent_on(["a", "a"], [MOVED, b"1-0"]) == []
    assert sent_on(["a", "a"], [MOVED, TimeoutError("no answer")]) == []
    assert sent_on(["a", "a", "a"], [MOVED, b"1-0", MOVED]) == [2]
    assert sent_on(["a"], [ResponseError("OOM command not allowed")]) == []
