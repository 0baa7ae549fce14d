"""Many updates are folded one at a time, whoever asks, in turns by key."""

import asyncio
from typing import Any, cast

import pytest

from hookstream.app.errors import LimitError
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.resets import Resets
from hookstream.app.feeds.turns import FairTurns
from hookstream.app.web.access import Caller
from hookstream.app.web.feeds import MAX_WAITING_DIGESTS, read_digest
from hookstream.app.web.frames import FeedFrames


class Waiting:
    """A feed of a million updates that nobody has read yet: it counts who reads it at a time."""

    def __init__(self) -> None:
        self.digesting = FairTurns(1)
        self.now = self.most = 0
        self.go = asyncio.Event()

    async def last_seq(self, *who: str) -> int:
        return 1_000_000

    async def newest(self, *given: Any, **more: Any) -> list[Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
            await asyncio.sleep(0)
        finally:
            self.now -= 1
        return []

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)  # nothing else is asked of it before it is read


async def test_one_digest_is_made_at_a_time_and_a_key_waits_for_so_many() -> None:
    feeds = Waiting()

    def ask(key: bytes) -> asyncio.Task[Any]:
        caller = Caller("default", frozenset({"c"}), key)
        return asyncio.create_task(
            read_digest(cast(Feeds, feeds), cast(Resets, None), caller, "c", 1000, 0)
        )

    asked = [ask(b"many") for _ in range(MAX_WAITING_DIGESTS + 5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    refused = [one for one in asked if one.done()]
    # one has its turn, and the others wait
    assert len(refused) == 4
    for one in refused:
        with pytest.raises(LimitError, match="waits for 32 digests"):
            one.result()
    other = ask(b"other")
    await asyncio.sleep(0)
    assert not other.done(), "another key waits for its turn, and is not refused"
    feeds.go.set()
    await asyncio.gather(*asked, other, return_exceptions=True)
    assert feeds.most == 1


async def test_who_will_fold_waits_before_it_has_a_turn_to_read() -> None:
    feeds = Waiting()
    frames = [
        FeedFrames(
            ("default", "c"),
            settings=cast(Any, type("Settings", (), {"feed_read_max_updates": 100})),
            catalog=cast(Any, None),
            feeds=cast(Feeds, feeds),
            resets=cast(Any, None),
            fold=fold,
            generation=None,
        )
        for fold in (1, 1, None)
    ]
    async with frames[0].room_to_fold(0):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), frames[1].room_to_fold(0):
                raise AssertionError("there is one turn")
        async with frames[2].room_to_fold(0), frames[1].room_to_fold(999_999):
            pass  # those who get their updates one by one do not wait
