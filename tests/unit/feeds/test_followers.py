"""Followers of feeds: who is stalled, and how long a feed that cannot be read is waited for."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from hookstream.app.errors import UnavailableError
from hookstream.app.feeds.followers import STALLED_CHECKS, Follower
from hookstream.app.feeds.wakeups import Moved


def follower(seq: int = 0) -> Follower:
    return Follower("websocket", "t", "c", Moved(), lambda: None, seq)


def test_who_is_behind_and_gets_nothing_is_stalled_after_some_checks() -> None:
    deaf = follower(seq=3)
    assert [deaf.check(5) for _ in range(STALLED_CHECKS)] == [False] * (STALLED_CHECKS - 1) + [True]


def test_who_is_at_the_end_is_not_behind_however_long() -> None:
    well = follower(seq=5)
    assert not any(well.check(end) for end in [5, None, 4] * STALLED_CHECKS)


def test_who_gets_something_is_not_stalled_though_it_never_catches_up() -> None:
    slow = follower()
    for seq in range(STALLED_CHECKS * 3):
        slow.seq = seq
        assert not slow.check(1000)


def test_who_waits_for_its_client_is_left_to_the_limit_of_that() -> None:
    waiting = follower(seq=3)
    waiting.sending = True
    assert not any(waiting.check(5) for _ in range(STALLED_CHECKS * 2))
    waiting.sending = False
    assert not waiting.check(5), "it is counted anew"


async def test_what_redis_refuses_is_waited_for_and_then_given_up() -> None:
    patient = follower()
    with patient.trying(60.0):
        raise ResponseError("BUSY a script runs")
    assert patient.failing_since is not None
    with patient.trying(60.0):
        pass
    assert patient.failing_since is None
    with patient.trying(0.0):
        raise ResponseError("NOPERM")
    await asyncio.sleep(0.001)
    with pytest.raises(UnavailableError, match="t/c cannot be read: NOPERM"), patient.trying(0.0):
        raise ResponseError("NOPERM")


async def test_an_error_of_our_own_is_not_waited_for() -> None:
    with pytest.raises(TypeError), follower().trying(60.0):
        raise TypeError("a fault of this version")
