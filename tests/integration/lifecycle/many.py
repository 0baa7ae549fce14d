"""Events by the hundred thousand through all tiers, by a clock of the test's own.

``python -m tests.integration.lifecycle.many --events 1000000``. Nothing but the way from tier to
tier is tried here: events are appended to one partition, acknowledged, and moved as workers
move them, on a real Redis, PostgreSQL and archive. Each event is read back with its payload in
every tier when it must be there, and some of all ages at every step.
"""

import argparse
import asyncio
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import redis.asyncio

from hookstream.app import embedded
from hookstream.app.archive.rows import Place
from hookstream.app.durations import DAY_MS
from hookstream.app.ids import new_event_id
from hookstream.app.lifecycle.rules import gather_ms
from hookstream.app.redis import keys
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Ttl
from hookstream.app.stores.tiers import COLD, GONE, HOT, WARM
from hookstream.codecs.envelope import decode_event
from hookstream.testing import make_event
from tests.integration.lifecycle.test_cold import HOUR, ColdHouse, cold_house
from tests.integration.lifecycle.test_warm import MINUTE, NOW, NUMBER, tool
from tests.support.stack import copy_cluster

__all__ = ["Many"]

STEP_MS = 10 * MINUTE
#: Steps in which events come; after them the clock goes on by hours.
STEPS = 6 * 36
TOOLS = {
    f"t{n}": Ttl((10 + 7 * n) * MINUTE, (1 + n % 3) * HOUR, (6 + 2 * n) * HOUR) for n in range(6)
}
BATCH = 500
#: Objects go as a whole: of an hour each, or of a day that were put together.
GONE_MS = 26 * HOUR
#: Of all ages, at every step.
SAMPLE = 100


class Many:
    """All about an event follows from its number: nothing of a million is remembered."""

    def __init__(self, house: ColdHouse, count: int, steps: int = STEPS) -> None:
        self.house = house
        self.steps = steps
        self.a_step = max(len(TOOLS), count // steps)
        self.found: Counter[str] = Counter()
        #: Up to which of a tool's events each tier was looked at.
        self._seen = {name: dict.fromkeys((HOT, WARM, COLD, GONE), 0) for name in TOOLS}
        self._names = list(TOOLS)
        self._random = random.Random(count)
        house.tools.clear()
        house.tools.update({name: tool(name, ttl) for name, ttl in TOOLS.items()})

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self.steps * self.a_step

    async def through(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """All come, and go on until the last is gone."""
        for step in range(self.steps):
            await self.add(range(step * self.a_step, (step + 1) * self.a_step))
            self.house.now_ms = NOW + (step + 1) * STEP_MS
            await self.look((step + 1) * self.a_step)
            if step % 20 == 19:
                tell(f"step {step + 1} of {self.steps}: {dict(self.found)}")
        hours = (max(ttl.whole_ms for ttl in TOOLS.values()) + GONE_MS) // HOUR + 1
        for hour in range(hours):
            self.house.now_ms += HOUR
            await self.look(self.count)
            if hour % 10 == 9:
                tell(f"hour {hour + 1} of {hours} after them: {dict(self.found)}")
        assert self.found[GONE] == self.count
        # an event that was warm or cold for a moment only may not have been looked at there
        assert set(self.found) == {HOT, WARM, COLD, GONE}

    def at_ms(self, number: int) -> int:
        """When an event came."""
        step, place = divmod(number, self.a_step)
        return NOW + step * STEP_MS + place * STEP_MS // self.a_step

    def place(self, number: int) -> Place:
        """Where it is asked for."""
        name = self._names[number % len(TOOLS)]
        return Place("default", name, NUMBER, f"{self.at_ms(number)}-{number}")

    @staticmethod
    def payload(number: int) -> bytes:
        """What it carries: some of it like that of others."""
        noise = hashlib.blake2b(number.to_bytes(8, "big")).hexdigest()
        return b'{"number":%d,"action":"opened","text":"%s","noise":"%s"}' % (
            number,
            b"lorem ipsum dolor " * (number % 9),
            noise.encode(),
        )

    async def add(self, numbers: Sequence[int]) -> None:
        """These come, and are worked off."""
        house = self.house
        for at in range(0, len(numbers), BATCH):
            pipe = house.redis.pipeline(transaction=False)
            for number in numbers[at : at + BATCH]:
                place = self.place(number)
                event = make_event(
                    self.payload(number),
                    number=number,
                    tool_id=place.tool_id,
                    event_id=new_event_id(self.at_ms(number), NUMBER, number),
                    received_at_ms=self.at_ms(number),
                )
                data = house.payloads.encode(event)
                pipe.xadd(keys.events(NUMBER), {"d": data}, id=place.entry_id)
            await pipe.execute()
            await house.work_off()

    async def look(self, known: int) -> None:
        """What is due moves, and what must be somewhere is there; so many have come."""
        house = self.house
        while await house.move():
            pass
        await house.archived()
        await house.cold.expire(lambda *_: True)
        if house.now_ms % DAY_MS < HOUR:
            await house.cold.compact()
        for at, name in enumerate(self._names):
            await self._check_tool(at, name, known)
        await self._check(self._random.sample(range(known), min(known, SAMPLE)), None)

    async def _check_tool(self, at: int, name: str, known: int) -> None:
        """Those that have come into a tier since the last step, and must be there by now."""
        ttl, seen, now_ms = TOOLS[name], self._seen[name], self.house.now_ms
        # the first time is when it can have gone on, the second when it must have come
        warm_by = ttl.hot_ms + gather_ms(ttl, Pressure.NONE) + STEP_MS
        cold_by = warm_by + ttl.warm_ms + HOUR + STEP_MS
        reached = {
            HOT: (0, ttl.hot_ms),
            WARM: (warm_by, ttl.hot_ms + ttl.warm_ms),
            COLD: (cold_by, ttl.whole_ms),
            GONE: (ttl.whole_ms + GONE_MS, 1 << 60),
        }
        for tier, (since_ms, until_ms) in reached.items():
            numbers = []
            number = max(seen[tier], at)
            while number < known and self.at_ms(number) + since_ms <= now_ms:
                # what may have gone on already is seen in the next tier, and counted there
                if now_ms < self.at_ms(number) + until_ms:
                    numbers.append(number)
                number += len(TOOLS)
            seen[tier] = number
            await self._check(numbers, tier)

    async def _check(self, numbers: Iterable[int], tier: str | None) -> None:
        tiers = self.house.tiers
        wanted = list(numbers)
        for at in range(0, len(wanted), BATCH):
            some = wanted[at : at + BATCH]
            places = [self.place(number) for number in some]
            if tier is not None:
                wrong = [
                    (place, where)
                    for place, where in zip(places, await tiers.tiers(places), strict=True)
                    if where != tier
                ]
                assert not wrong, f"not {tier}: {wrong[:3]} and {len(wrong)} in all"
                self.found[tier] += len(some)
            for number, place, data in zip(
                some, places, await tiers.envelopes(places), strict=True
            ):
                if data is None:
                    ttl = TOOLS[place.tool_id]
                    assert self.house.now_ms >= self.at_ms(number) + ttl.whole_ms, place
                    continue
                assert tier != GONE, place
                [event] = await self.house.payloads.open([decode_event(data)])
                assert event is not None, place
                assert event.payload == self.payload(number), place


async def run(count: int, folder: Path) -> None:
    """All of it on servers of its own, with progress and a last line."""
    copy_cluster(folder)
    postgres, valkey = embedded.start_postgres(folder), embedded.start_valkey(folder)
    client = redis.asyncio.Redis.from_url(valkey.url, protocol=2)
    begun = time.monotonic()
    try:
        async with cold_house(client, postgres.url, folder / "archive") as house:
            many = Many(house, count)
            await many.through(lambda line: print(line, file=sys.stderr, flush=True))
            took = time.monotonic() - begun
            print(f"{many.count} events in {took:.0f} s; found {dict(many.found)}")
    finally:
        await client.aclose()
        valkey.stop()
        postgres.stop()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    folder = Path(tempfile.mkdtemp(prefix="hookstream-many-"))
    try:
        asyncio.run(run(parser.parse_args().events, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
