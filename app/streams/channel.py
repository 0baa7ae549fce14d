"""Channels: Redis Streams as ``faust.Channel``, and named in-memory ones between the stages."""

import math
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import faust
from faust.serializers import codecs as faust_codecs
from faust.types import TP, FutureMessage, RecordMetadata

from hookstream.app.redis import keys
from hookstream.app.streams.batch import Batch

__all__ = ["BatchChannel", "RedisStreamChannel"]


class StreamsApp(Protocol):
    """What channels need of their application, which is a ``faust.App`` besides."""

    consumer_generation_id: int
    stream_channels: "dict[str, RedisStreamChannel]"

    def partition_for(self, key: str) -> int:
        """The partition of a key."""

    async def append_entry(self, stream: str, data: bytes) -> bytes:
        """Append to a stream of Redis; returns the entry's id."""


class BatchChannel(faust.Channel):
    """A named in-memory channel whose values are batches; what links one stage to the next."""

    def __init__(self, app: StreamsApp, name: str = "", **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.name = name

    def get_topic_name(self) -> str:
        """The name, as ``hookstream agents`` shows it."""
        return self.name

    def _clone_args(self) -> Mapping[str, Any]:
        return {**super()._clone_args(), "name": self.name}

    def __str__(self) -> str:
        return self.name

    async def put_batch(self, batch: Batch) -> None:
        """Hand a batch to every agent that iterates over this channel."""
        message = faust.types.Message(
            self.name,
            batch.partition.number,
            -1,
            timestamp=None,
            timestamp_type=0,
            headers={},
            key=None,
            value=batch,
            checksum=None,
            tp=TP(self.name, batch.partition.number),
            # Faust skips what it takes for a leftover from before a rebalance
            generation_id=self.app.consumer_generation_id,
        )
        await self.put(self.app.create_event(None, batch, {}, message))


class RedisStreamChannel(BatchChannel):
    """A stream in each of P partitions. Agents iterate over :class:`Batch`; ``send`` appends.

    ``send(key=..., value=...)`` encodes by the channel's codec and picks the partition by the
    key's hash, or takes ``partition``. The consumer group is made when a partition is first read.
    """

    def __init__(
        self,
        app: StreamsApp,
        name: str = "",
        *,
        codec: str = "",
        batch_max: int | None = None,
        linger_seconds: float = 0.0,
        linger_share: float = math.inf,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, name, **kwargs)
        self.codec = codec
        #: Most entries of one batch, where that is less than ``HOOKSTREAM_BATCH_MAX_EVENTS``.
        self.batch_max = batch_max
        #: Time after a batch in which no more of its partition is read, so that what comes then is
        #: one batch more and not several; at most this share of the time that the batch took.
        self.linger_seconds = linger_seconds
        self.linger_share = linger_share
        if not self.is_iterator and self._root is None:
            app.stream_channels[name] = self

    def _clone_args(self) -> Mapping[str, Any]:
        names = ("codec", "batch_max", "linger_seconds", "linger_share")
        return {**super()._clone_args(), **{name: getattr(self, name) for name in names}}

    def decode_value(self, raw: bytes) -> Any:
        """The value in an entry's bytes; raises what the codec raises."""
        return faust_codecs.loads(self.codec, raw)

    async def publish_message(
        self, fut: FutureMessage[Any], wait: bool = True
    ) -> Awaitable[RecordMetadata]:
        """Append to the stream; the event log's offset is the entry id's milliseconds."""
        message = fut.message
        partition = message.partition
        if partition is None:
            partition = self.app.partition_for(str(message.key or ""))
        entry_id = await self.app.append_entry(
            keys.stream(self.name, partition), faust_codecs.dumps(self.codec, message.value)
        )
        tp = TP(self.name, partition)
        result: Awaitable[RecordMetadata] = await self._finalize_message(
            fut,
            RecordMetadata(
                topic=self.name,
                partition=partition,
                topic_partition=tp,
                offset=int(entry_id.partition(b"-")[0]),
                timestamp=message.timestamp,
                timestamp_type=1,
            ),
        )
        return result
