"""How far erasures are: what has been looked through, of how much, and for how much longer.

A hint, kept in Redis while an erasure goes on: by step, how many rows, events or updates there were
when it began, how many were looked at, and since when. An erasure does not need it.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from hookstream.app.archive.archive import Archive
from hookstream.app.errors import UnavailableError
from hookstream.app.lifecycle.status import warm_of
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.stores.erasures import CONTEXT, SUBJECT, Erasure
from hookstream.app.stores.tiers import warm_entry

__all__ = ["Looked", "Progress", "Saw", "StepProgress", "Summary", "nobody_counts", "summed_up"]

#: How often a step says how far it is.
NOTE_SECONDS: Final = 2.0
#: A hint of an erasure of which nothing was heard for so long is nothing.
KEPT_SECONDS: Final = 7 * 24 * 3600
#: Steps of one kind go through the same kind of thing.
SCAN: Final = 1000

#: Told how many things were looked at.
Saw = Callable[[int], Awaitable[None]]


async def nobody_counts(count: int) -> None:
    """For who looks through something and tells nobody."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a step has to look through, and has; ``begun_ms``, ``noted_ms``: 0 before it begins."""

    of: int
    looked: int = 0
    begun_ms: int = 0
    noted_ms: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all steps together; ``seconds_left`` is None as long as nothing is known."""

    looked: int
    of: int
    seconds_left: float | None


def summed_up(steps: Mapping[str, Looked]) -> Summary:
    """How far an erasure is, and how long it takes still.

    Each kind of step goes on as fast as it went so far, those that have not begun as fast as all
    of the others. Several workers at a time count as they are: what passed by the clock counts.
    """
    kinds: dict[str, list[Looked]] = defaultdict(list)
    for step, one in steps.items():
        kinds[step.partition(":")[0]].append(one)
    rates: dict[str, float] = {}
    looked_all = seconds_all = 0.0
    for kind, some in kinds.items():
        begun = [one for one in some if one.begun_ms and one.looked]
        if not begun:
            continue
        looked = sum(one.looked for one in begun)
        first, last = min(one.begun_ms for one in begun), max(one.noted_ms for one in begun)
        seconds = max(0.001, (last - first) / 1000)
        rates[kind] = looked / seconds
        looked_all, seconds_all = looked_all + looked, seconds_all + seconds
    left = {kind: sum(max(0, one.of - one.looked) for one in some) for kind, some in kinds.items()}
    total = sum(max(one.of, one.looked) for some in kinds.values() for one in some)
    if not rates:
        return Summary(0, total, None)
    overall = looked_all / seconds_all
    seconds = sum(count / rates.get(kind, overall) for kind, count in left.items())
    return Summary(int(looked_all), total, round(seconds, 1))


class StepProgress:
    """Of one step: counts what is looked at, and says so every two seconds."""

    def __init__(self, write: Callable[[Looked], Awaitable[None]], of: int) -> None:
        self._write = write
        self._of = of
        self._looked = 0
        self._begun_ms = _now_ms()
        self._noted = float("-inf")

    async def saw(self, count: int) -> None:
        """So many more were looked at."""
        self._looked += count
        if time.monotonic() - self._noted > NOTE_SECONDS:
            await self._note(self._of)

    async def finish(self) -> None:
        """It is through: whatever there was."""
        await self._note(self._looked)

    async def _note(self, of: int) -> None:
        self._noted = time.monotonic()
        await self._write(Looked(of, self._looked, self._begun_ms, _now_ms()))


class Progress:
    """Plans, notes and reads how far erasures are."""

    def __init__(self, redis: Any, postgres: Postgres, archive: Archive, partitions: int) -> None:
        self._redis = redis
        self._postgres = postgres
        self._archive = archive
        self._partitions = partitions

    async def plan(self, erasure: Erasure) -> None:
        """Say how much there is to be looked through, unless that was said.

        Raises:
            UnavailableError: the archive's manifest cannot be asked.
            redis.exceptions.RedisError: Redis does not answer.
        """
        name = keys.erasure_progress(erasure.erasure_id)
        if await self._redis.exists(name):
            return
        counts = await self._counts(erasure)
        said = {step: orjson.dumps(asdict(Looked(count))) for step, count in counts.items()}
        await self._redis.hset(name, mapping=said)
        await self._redis.expire(name, KEPT_SECONDS)

    async def _counts(self, erasure: Erasure) -> dict[str, int]:
        """By step: rows, events or updates that it goes through."""
        tenant, tool = erasure.tenant, str(erasure.target.get("tool", ""))
        found = await self._feeds(erasure)
        if erasure.kind == CONTEXT:
            return found
        for number in range(self._partitions):
            events = int(await self._redis.xlen(keys.events(number)))
            for (owner, tool_id), members in (await warm_of(self._redis, number)).items():
                if owner == tenant and tool in ("", tool_id):
                    events += sum(warm_entry(member).events for member in members)
            found[f"events:{number}"] = events
        objects = await self._archive.objects_of(tenant, tool or None)
        found["archive"] = sum(one["events"] for one in objects)
        if erasure.kind == SUBJECT:
            found["log-find"] = found["log"] = await self._rows(tenant)
        return found

    async def _feeds(self, erasure: Erasure) -> dict[str, int]:
        found = {f"derived:{number}": 0 for number in range(self._partitions)}
        context = str(erasure.target.get("context", "")) or "*"
        pattern = f"{{hs:*}}:feed:{erasure.tenant}/{context}"
        async for name in self._redis.scan_iter(match=pattern, count=SCAN):
            number = name.decode().partition("{hs:")[2].partition("}")[0]
            found[f"derived:{number}"] += int(await self._redis.xlen(name))
        return found

    async def _rows(self, tenant: str) -> int:
        """Rows of the event log; 0 where it takes too long to count them."""
        try:
            row = await self._postgres.fetchrow(statement("count_event_texts"), tenant)
        except UnavailableError:
            return 0
        return int(row["count"]) if row else 0

    async def step(self, erasure_id: str, step: str) -> StepProgress:
        """The progress of a step that begins now.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        name = keys.erasure_progress(erasure_id)
        said = _read(await self._redis.hget(name, step) or b"")

        async def write(looked: Looked) -> None:
            # nothing comes back once the erasure is done
            if said is not None and await self._redis.exists(name):
                await self._redis.hset(name, step, orjson.dumps(asdict(looked)))

        return StepProgress(write, said.of if said else 0)

    async def forget(self, erasure_id: str) -> None:
        """It is done. Raises redis.exceptions.RedisError."""
        await self._redis.unlink(keys.erasure_progress(erasure_id))

    async def read(self, erasure_id: str) -> Summary | None:
        """How far an erasure is; None where nobody has said.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        found = await self._redis.hgetall(keys.erasure_progress(erasure_id))
        steps = {step.decode(): looked for step, data in found.items() if (looked := _read(data))}
        return summed_up(steps) if steps else None


def _read(data: bytes) -> Looked | None:
    try:
        return Looked(**orjson.loads(data))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
