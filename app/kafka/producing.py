"""Sends records so that those of one key keep their order, whatever fails.

A batch of records is in its partition as a whole, or not. One goes after the other, and none behind
one that failed: what is sent again comes in the same order.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from hookstream.app.kafka.client import (
    KAFKA_ERRORS,
    BrokerError,
    broker_error,
    client_options,
    found_error,
)
from hookstream.app.settings import Settings

__all__ = ["Record", "RecordProducer", "Sent"]

#: Of a batch: less than what brokers take of any topic, unless they were told to take less.
BATCH_BYTES: Final = 256 * 1024
STOP_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``at_ms``: its time (Unix ms), None for now. ``line``: what it was made for."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    at_ms: int | None
    line: Any


@dataclass(slots=True)
class Sent:
    """What came of records: those that brokers have, those that they never take, and an error."""

    took: list[Record]
    too_large: list[Record]
    error: BrokerError | None = None


class RecordProducer:
    """Puts records into one topic. Everything raises BrokerError."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Any = None
        self._partitioner = DefaultPartitioner()

    async def close(self) -> None:
        """Let go of the connections, and of what was not sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), STOP_SECONDS)
            except KAFKA_ERRORS:
                return

    async def send(self, records: Sequence[Record]) -> Sent:
        """Send records; those of one key in their order, until one of them fails.

        Raises:
            BrokerError: nothing of it could be sent.
        """
        try:
            await self._begin()
            partitions = sorted(await self._producer.partitions_for(self._topic))
        except KAFKA_ERRORS as error:
            raise await found_error(self._settings, error) from error
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            partition = self._partitioner(record.key, partitions, None)
            by_partition.setdefault(partition, []).append(record)
        sent = Sent([], [])
        ends = await asyncio.gather(
            *(self._send_to(partition, own, sent) for partition, own in by_partition.items()),
            return_exceptions=True,
        )
        for end in ends:
            if isinstance(end, BrokerError):
                sent.error = await found_error(self._settings, end)
            elif isinstance(end, BaseException):
                raise end
        return sent

    async def _begin(self) -> None:
        if self._producer is not None:
            return
        producer = AIOKafkaProducer(
            **client_options(self._settings), acks="all", max_batch_size=BATCH_BYTES
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def _send_to(self, partition: int, records: Sequence[Record], sent: Sent) -> None:
        """Send records of one partition, batch after batch."""
        for batch in self._batches(records):
            try:
                await self._send_batch(partition, batch)
            except (BrokerError, *KAFKA_ERRORS) as error:
                failed = broker_error(error)
                if failed.kind != "too-large":
                    raise failed from error
                if len(batch) > 1:
                    # one of them is, or all together
                    await self._one_by_one(partition, batch, sent)
                else:
                    sent.too_large += batch
            else:
                sent.took += batch

    async def _one_by_one(self, partition: int, batch: Sequence[Record], sent: Sent) -> None:
        for record in batch:
            try:
                await self._send_batch(partition, [record])
            except (BrokerError, *KAFKA_ERRORS) as error:
                failed = broker_error(error)
                if failed.kind != "too-large":
                    raise failed from error
                sent.too_large.append(record)
            else:
                sent.took.append(record)

    def _batches(self, records: Sequence[Record]) -> list[list[Record]]:
        """Records in batches, in order; one that is larger goes alone."""
        made: list[list[Record]] = []
        size = BATCH_BYTES
        for record in records:
            bytes_of_it = len(record.key) + len(record.value) + 512
            if size + bytes_of_it > BATCH_BYTES:
                made.append([])
                size = 0
            made[-1].append(record)
            size += bytes_of_it
        return made

    async def _send_batch(self, partition: int, batch: Sequence[Record]) -> None:
        builder = self._producer.create_batch()
        for record in batch:
            if not builder.append(
                timestamp=record.at_ms,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
            ):
                raise BrokerError("too-large", "records are larger than a batch")
        # the answer, or that there is none: brokers may have it all the same
        await (await self._producer.send_batch(builder, self._topic, partition=partition))
