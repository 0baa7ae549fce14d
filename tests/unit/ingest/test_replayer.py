"""When replays wait."""

import asyncio
from typing import Any

import pytest

from hookstream.app.ingest import replayer as module
from hookstream.app.ingest.replayer import Replayer
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog


class Replays:
    """One replay of many events, none of which can be found any more."""

    def __init__(self) -> None:
        self.pages = 0
        self.taken = asyncio.Event()

    async def finish_sent(self) -> None:
        pass

    async def take(self, owner: str, lease_seconds: float) -> dict[str, Any]:
        return {"rate": 10_000, "tenant": "t", "at_ms": 0, "at_seq": 0, "at_event": None}

    async def page(self, replay: Any, limit: int) -> list[dict[str, Any]]:
        self.pages += 1
        self.taken.set()
        row = {"tool_id": "a", "partition": 0, "entry_id": "1-0", "replayed": False}
        return [{**row, "entry_ms": 1, "entry_seq": 0, "event_id": None}] * limit

    async def advance(self, *_: Any, **__: Any) -> bool:
        return True


class Events:
    async def readable_envelopes(self, places: Any) -> list[None]:
        return [None] * len(places)


class Durability:
    async def confirm(self, *_: Any) -> None:
        pass


async def test_replays_wait_while_receivers_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "append_groups", lambda *_: asyncio.sleep(0))
    pressure, replays = Pressure.SPOOL, Replays()
    replayer = Replayer(
        Durability(),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        replays,  # type: ignore[arg-type]
        Events(),  # type: ignore[arg-type]
        catalog=lambda: Catalog(1),
        pressure=lambda: pressure,
        resealed=None,  # type: ignore[arg-type]
    )
    async with replayer:
        await asyncio.sleep(0.1)
        assert replays.pages == 0
        pressure = Pressure.STRAIGHT
        await asyncio.wait_for(replays.taken.wait(), 5)
        # one that has begun waits, too, and goes on
        pressure = Pressure.SPOOL
        await asyncio.sleep(0.1)
        pages = replays.pages
        await asyncio.sleep(0.1)
        assert replays.pages == pages
        replays.taken.clear()
        pressure = Pressure.NONE
        await asyncio.wait_for(replays.taken.wait(), 5)
