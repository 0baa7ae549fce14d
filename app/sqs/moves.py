"""What still waits of tools whose events go to old workers: keys that are handed over, copies."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hookstream.app.ids import partition_of_event
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.paths import confirmed_field, sent_field
from hookstream.app.sqs.outbox import Line
from hookstream.codecs.envelope import is_event_id

__all__ = ["HandOver", "Moves", "NotSentError", "drop_outbox"]

#: Fields of a partition that are looked through for hand-overs, and how many at a time.
LOOKED_AT: Final = 10_000
SCAN: Final = 1000
#: How long it is waited for a queue's word that it has a mark which somebody has taken out of it.
SENT_SECONDS: Final = 5.0
ASK_SECONDS: Final = 0.1


class NotSentError(Exception):
    """A mark, which is its text, is not in its queue yet, as far as anybody here knows."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """A key that waits for old workers; its mark is in their queue once it is ``sent``."""

    partition: int
    mark: str
    key: str
    since_ms: int
    sent: bool


async def drop_outbox(
    redis: Any, number: int, tool_id: str, first: int = 1
) -> tuple[int, list[Line]]:
    """Drop what waits of a tool in a partition: how much that was, and the ``first`` lines of it.

    Raises RedisError.
    """
    outbox = keys.outbox(number, tool_id)
    pipe = redis.pipeline(transaction=True)
    pipe.xlen(outbox)
    pipe.xrange(outbox, count=first)
    pipe.unlink(outbox)
    pipe.hdel(keys.outboxes(number), tool_id)
    lines, page, *_ = await pipe.execute()
    return int(lines), [Line.decode(fields[b"d"]) for _, fields in page]


class Moves:
    """Looks at hand-overs and outboxes, and confirms. Every method raises RedisError."""

    def __init__(self, redis: Any, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions

    async def copies(self, tool_id: str) -> int:
        """How many events, and marks, are still to be sent into a tool's queue."""
        pipe = self._redis.pipeline(transaction=False)
        for number in range(self._partitions):
            pipe.xlen(keys.outbox(number, tool_id))
        return int(sum(await pipe.execute()))

    async def give_up(self, tool_id: str) -> int:
        """Send none of that any more; returns how many events, and marks, it was."""
        given_up = 0
        for number in range(self._partitions):
            lines, _ = await drop_outbox(self._redis, number, tool_id)
            given_up += lines
        return given_up

    async def workers_behind(self, catalog: Catalog) -> int:
        """How many living workers have an older catalog, or do not say which."""
        seconds, micros = await self._redis.time()
        pipe = self._redis.pipeline(transaction=False)
        pipe.zrangebyscore(keys.WORKERS, seconds * 1000 + micros // 1000, "+inf")
        pipe.hgetall(keys.WORKER_CATALOGS)
        workers, said = await pipe.execute()
        behind = 0
        for worker in workers:
            version, token = map(int, said.get(worker, b"0 0").split())
            behind += not catalog.is_known_by(version, token)
        return behind

    async def hand_overs(self, tool_id: str) -> AsyncIterator[HandOver | None]:
        """A tool's hand-overs that nobody has confirmed; None: of a partition there are more."""
        for number in range(self._partitions):
            fields: dict[str, bytes] = {}
            cursor = 0
            while True:
                cursor, found = await self._redis.hscan(keys.hand_overs(number), cursor, count=SCAN)
                fields |= {name.decode(): value for name, value in found.items()}
                if not cursor or len(fields) >= LOOKED_AT:
                    break
            for name, value in fields.items():
                if ":" in name or confirmed_field(name) in fields:
                    continue
                record = orjson.loads(value)
                if record["tool_id"] == tool_id:
                    sent = sent_field(name) in fields
                    yield HandOver(number, name, record["key"], record["since_ms"], sent)
            if cursor:
                yield None

    async def known(
        self, tool_id: str, marks: Iterable[str]
    ) -> tuple[list[tuple[int, str]], list[str]]:
        """Which of ``marks`` are under way, with their partitions, and which are not.

        A worker may have a mark before its queue's answer has come here: that is waited for.

        Raises:
            NotSentError: a mark's queue has not said that it has it, for some seconds.
        """
        deadline = asyncio.get_running_loop().time() + SENT_SECONDS
        while True:
            found, unknown, unsent = await self._look(tool_id, marks)
            if not unsent:
                return found, unknown
            if asyncio.get_running_loop().time() >= deadline:
                raise NotSentError(unsent[0])
            await asyncio.sleep(ASK_SECONDS)

    async def _look(
        self, tool_id: str, marks: Iterable[str]
    ) -> tuple[list[tuple[int, str]], list[str], list[str]]:
        unknown, asked = [], []
        for mark in marks:
            number = partition_of_event(mark) if is_event_id(mark) else -1
            if 0 <= number < self._partitions:
                asked.append((number, mark))
            else:
                unknown.append(mark)
        pipe = self._redis.pipeline(transaction=False)
        for number, mark in asked:
            pipe.hmget(keys.hand_overs(number), mark, sent_field(mark))
        found, unsent = [], []
        answers = await pipe.execute() if asked else []
        for (number, mark), (record, sent) in zip(asked, answers, strict=True):
            if record is None or orjson.loads(record)["tool_id"] != tool_id:
                unknown.append(mark)
            elif sent is None:
                unsent.append(mark)
            else:
                found.append((number, mark))
        return found, unknown, unsent

    async def confirm(self, marks: Sequence[tuple[int, str]], now_ms: int) -> None:
        """Say that old workers have come to marks, each with its partition."""
        if not marks:
            return
        pipe = self._redis.pipeline(transaction=False)
        for number, mark in marks:
            pipe.hset(keys.hand_overs(number), confirmed_field(mark), now_ms)
            pipe.hexists(keys.hand_overs(number), mark)
        there = (await pipe.execute())[1::2]
        # some have ended meanwhile
        over = [one for one, is_there in zip(marks, there, strict=True) if not is_there]
        pipe = self._redis.pipeline(transaction=False)
        for number, mark in over:
            pipe.hdel(keys.hand_overs(number), confirmed_field(mark))
        if over:
            await pipe.execute()

    async def forget(self, tool_id: str) -> None:
        """Forget in which path a tool's keys are."""
        for number in range(self._partitions):
            name, cursor = keys.paths(number), 0
            while True:
                cursor, found = await self._redis.hscan(name, cursor, count=SCAN)
                mine = [one for one in found if one.decode().partition(" ")[2] == tool_id]
                if mine:
                    await self._redis.hdel(name, *mine)
                if not cursor:
                    break
