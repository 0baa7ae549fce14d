"""Who may write the event log of a partition: the claim whose nonce stands in its row.

Another claim is let only while its lease is the one in Redis, and only if the row is still the one
that was read before Redis was asked; that waits for what the one before it is just writing. Each
transaction holds the rows of its partitions. So an owner who does not know yet that he is none any
more writes all of a transaction before the next owner writes anything, or nothing.

No epoch is compared: it may go back with Redis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from hookstream.app.errors import FencedError, HookstreamError, UnavailableError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.stores.audit import Context
from hookstream.app.streams.partition import Partition

__all__ = ["ClaimLostError", "LogClaims"]


class ClaimLostError(HookstreamError):
    """The event log of a partition is written by another claim."""


@dataclass(slots=True)
class Held:
    """A claim that writes the event log, and how far that has come of some of its contexts."""

    partition: Partition
    tops: dict[Context, int] = field(default_factory=dict)


class LogClaims:
    """The claims of this process that write the event log."""

    def __init__(self, redis: Any, postgres: Postgres) -> None:
        self._redis = redis
        self._postgres = postgres
        self._held: dict[int, Held] = {}

    def tops(self, partition: Partition) -> dict[Context, int]:
        """How far the event log has come of contexts of a partition, since it was taken."""
        return self._held[partition.number].tops

    async def take(self, partitions: Sequence[Partition]) -> dict[Partition, Exception]:
        """Have the claims of ``partitions`` write the event log; those that do not, and why.

        Raises:
            UnavailableError: PostgreSQL is away.
            redis.exceptions.RedisError: Redis is.
        """
        new = [partition for partition in partitions if not self._holds(partition)]
        if not new:
            return {}
        self._forget([n for n, held in self._held.items() if held.partition.closed])
        rows = await self._postgres.fetch(statement("log_claims"), [one.number for one in new])
        seen = {row["partition"]: row["nonce"] for row in rows}
        refused = await self._not_owned(new)
        owned = [partition for partition in new if partition not in refused]
        taken = await self._write(owned, seen)
        for partition in owned:
            if partition.number in taken:
                self._held[partition.number] = Held(partition)
            else:
                refused[partition] = UnavailableError(
                    f"another owner writes the event log of partition {partition.number} just now"
                )
        return refused

    def _holds(self, partition: Partition) -> bool:
        held = self._held.get(partition.number)
        return held is not None and held.partition is partition

    async def _not_owned(self, partitions: Sequence[Partition]) -> dict[Partition, Exception]:
        """Those that are another's by Redis, or of which it does not say whose they are."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in partitions:
            pipe.hmget(keys.lease(partition.number), "epoch", "nonce")
        replies = await pipe.execute(raise_on_error=False)
        refused: dict[Partition, Exception] = {}
        for partition, reply in zip(partitions, replies, strict=True):
            if isinstance(reply, Exception):
                refused[partition] = reply
            elif reply != [str(partition.epoch).encode(), partition.nonce.encode()]:
                refused[partition] = FencedError(
                    f"the lease of partition {partition.number} is another's"
                )
        return refused

    async def _write(self, partitions: Sequence[Partition], seen: Mapping[int, str]) -> set[int]:
        """Numbers of those whose claim stands in its row now, or did already."""
        new = [one for one in partitions if seen.get(one.number) != one.nonce]
        taken = {partition.number for partition in partitions} - {one.number for one in new}
        if new:
            rows = await self._postgres.fetch(
                statement("take_log"),
                [partition.number for partition in new],
                [partition.nonce for partition in new],
                [seen.get(partition.number, "") for partition in new],
            )
            taken |= {row["partition"] for row in rows}
        return taken

    async def hold(self, connection: asyncpg.Connection, partitions: Sequence[Partition]) -> None:
        """Let nobody else write the event log of these until the end of a transaction.

        Raises:
            ClaimLostError: somebody else does; :meth:`take` says of which.
        """
        found = await connection.fetch(
            statement("hold_log"),
            [partition.number for partition in partitions],
            [partition.nonce for partition in partitions],
        )
        held = {row["partition"] for row in found}
        if lost := [one.number for one in partitions if one.number not in held]:
            self._forget(lost)
            raise ClaimLostError(f"another owner writes the event log of {lost}")

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._held.pop(number, None)
