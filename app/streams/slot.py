"""What the reader knows of one partition, and which of its entries go next."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from hookstream.app.redis import keys
from hookstream.app.streams.batch import Batch, Entry, event_of
from hookstream.app.streams.channel import RedisStreamChannel
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.suspects import Suspects
from hookstream.codecs.envelope import Event
from hookstream.codecs.json_payload import limits
from hookstream.codecs.routed import Finished

__all__ = ["BATCH_MAX_PAYLOAD_BYTES", "Reader", "Slot", "payload_size"]

#: Most bytes of memory of one batch's payloads, unpacked and parsed, if it is more than one event.
BATCH_MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
#: What a byte of JSON may parse to: ``{},`` is an object of 64 bytes and its place.
PARSED_BYTES_A_BYTE = 24


class Reader(Protocol):
    """The reader of a slot's channel, as far as turns ask it."""

    channel: RedisStreamChannel
    #: Most entries of one read, and of those that wait here.
    page: int
    buffer_max: int

    def drains(self, number: int) -> bool:
        """Whether nothing more of a partition is to be read."""

    async def receive(self, slot: "Slot", entries: list[Any], *, asked: int) -> None:
        """Take what was read, of which there might have been as many as were ``asked`` for."""

    def lost(self, slot: "Slot", error: BaseException) -> None:
        """The partition is not this worker's any more, or not as it is known here."""

    def go_on(self, slot: "Slot") -> None:
        """What it waited for is over."""


@dataclass(eq=False)
class Slot:
    """What the reader knows of one partition: prefetched, in flight, and how far it has read."""

    reader: Reader
    partition: Partition
    suspects: Suspects
    buffer: deque[Entry] = field(default_factory=deque)
    in_flight: Batch | None = None
    #: When that batch was sent on its way (the loop's clock).
    sent_at: float = 0.0
    last_id: str = "0-0"
    #: This consumer's own pending entries are read before new ones.
    recovering: bool = True
    #: Counts how often what is pending was read anew; reads of an earlier round are refused.
    read_generation: int = 0
    #: Where to go on reading when what is pending has been read.
    delivered_id: str = "0-0"
    #: Slots of which there may be more to read, without waiting for a wake-up: this one, too?
    hungry: "set[Slot]" = field(default_factory=set)
    #: The step in which it was last read, and when (the loop's clock).
    read_at: int = 0
    looked_at: float = 0.0
    #: When something was last found in it (the loop's clock).
    came_at: float = 0.0
    #: The last read gave as much as was asked for.
    large: bool = True
    #: What waits for the server to say that it has something new.
    wakeup: "asyncio.Task[None] | None" = None
    #: It was left out of the last reads because its buffer was full.
    full: bool = False
    attempt: int = 0
    #: Most entries in the next batch: smaller after a failure, so that a poison event ends alone.
    limit: int = 1
    waiting: asyncio.TimerHandle | None = None
    #: What was read last is being decoded: it is not read again before that.
    receiving: bool = False
    #: It is not read until ``waiting`` is over.
    lingering: bool = False
    #: The next batch is being put together.
    dispatching: bool = False
    #: Batches of what waited for its turn that went one after the other.
    released: int = 0
    #: Kind of what a server said when this was last read, or its batch tried; "" when it went well.
    trouble: str = ""

    @cached_property
    def lease(self) -> str:
        """The key of the lease that its reads are fenced by."""
        return keys.lease(self.partition.number)

    @cached_property
    def stream(self) -> str:
        """The key of the stream that it reads."""
        return keys.stream(self.reader.channel.name, self.partition.number)

    def reads(self) -> bool:
        """Whether it may be read now: there is room, and it waits for nothing else."""
        self.full = len(self.buffer) >= self.reader.buffer_max
        waits = self.full or self.lingering or self.receiving
        return not (waits or self.reader.drains(self.partition.number))

    def recover(self) -> None:
        """Read what is pending once more: what a read brought may be lost."""
        if not self.recovering:
            self.recovering = True
            self.read_generation += 1
            self.delivered_id = self.last_id
        self.hungry.add(self)

    def take(self) -> list[Entry]:
        """The next batch's entries: no more than its limit, nor than fits into memory.

        What is suspected goes apart from what is not, and what waited from what was read.
        """
        entries: list[Entry] = []
        size = 0
        suspected = self.suspects.any()
        most = self.suspects.most(self.buffer[0]) if suspected else None
        limit = self.limit if most is None else min(most, self.limit)
        while self.buffer and len(entries) < limit:
            if suspected and self.suspects.most(self.buffer[0]) != most:
                break
            if entries and entries[0].released != self.buffer[0].released:
                break
            event = event_of(self.buffer[0].value)
            size += payload_size(event) if event else 0
            if entries and size > BATCH_MAX_PAYLOAD_BYTES:
                break
            entries.append(self.buffer.popleft())
        return entries


def payload_size(event: Event | Finished) -> int:
    """Bytes of memory that a payload takes at most, without unpacking it."""
    size = event.payload_bytes
    if isinstance(event, Finished):
        return size
    # three bytes an element at the least; what has more of them is not parsed
    return size + PARSED_BYTES_A_BYTE * min(size, 3 * limits.elements)
