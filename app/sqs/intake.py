"""Events that come out of queues: each receiver asks the queues of all tools that have one.

SQS gives a message to one asker at a time, and of a FIFO queue nothing behind it of its group: so
any number of receivers may ask, and none has to lead. A message is hidden from the others for as
long as it is in hand, and deleted once its event is in Redis: while that is away it waits in its
queue, or hidden while the spool has its event. Whoever dies meanwhile leaves it to the next one,
and its event comes again under the same id, which follows from the message.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

import orjson
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import HookstreamError
from hookstream.app.ids import own_tool_id
from hookstream.app.ingest.refusals import IN_QUEUE
from hookstream.app.queues.door import Arrival, QueueDoors, bits_of
from hookstream.app.queues.intake import Intake
from hookstream.app.queues.queue_tasks import QueueWork, Unlisted
from hookstream.app.queues.states import QueueState
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.queues import Queue, SqsSource
from hookstream.app.sqs.client import Message, SqsClient, SqsError
from hookstream.app.sqs.messages import unpack

__all__ = ["SqsIntake", "message_bits"]

logger = get_logger(__name__)

#: SQS's longest poll: the fewest requests that say the same.
WAIT_SECONDS: Final = 20
#: How long a message is hidden unless that is prolonged, which is done at a third of it.
HIDDEN_SECONDS: Final = 60
#: How often it is asked whether a queue has a redrive policy.
POLICY_SECONDS: Final = 300.0


def message_bits(queue: Queue, message: Message) -> int:
    """What tells a message's events from others of its millisecond: the same each time it comes."""
    return bits_of(f"{queue.url}\0{message.message_id}")


class SqsIntake(Intake[SqsSource]):
    """Asks the queues of all tools."""

    def __init__(self, doors: QueueDoors) -> None:
        super().__init__(doors, "SqsIntake.consumer")

    def source_of(self, tool: Tool) -> SqsSource | None:
        """See :class:`Intake`."""
        return tool.source if isinstance(tool.source, SqsSource) else None

    def reader(self, tool_id: str, source: SqsSource) -> QueueWork:
        """See :class:`Intake`."""
        if not self.doors.settings.may_ask_queue(source.queue.url):
            return Unlisted(QueueState(tool_id, source.queue.name), "HOOKSTREAM_SQS_QUEUES")
        return Consumer(self, tool_id, source)


class Consumer:
    """Takes what comes out of one tool's queue."""

    def __init__(self, intake: SqsIntake, tool_id: str, source: SqsSource) -> None:
        self.tool_id = tool_id
        self.source = source
        self.state = QueueState(tool_id, source.queue.name)
        self._door = intake.doors.of(tool_id, self.state)
        self._client = SqsClient(source.queue, profile=intake.doors.settings.sqs_profile)
        #: Whether what cannot be read is given to another queue by SQS itself; None: not known.
        self._redrives_known: bool | None = None
        self._asked_policy = -POLICY_SECONDS

    async def run(self) -> None:
        """Take messages until cancelled. What is in hand then comes again."""
        logger.info("tool %s: asking the queue %s", self.tool_id, self.source.queue.name)
        try:
            while True:
                if waits := self._door.waits():
                    self.state.troubled(*waits)
                    await self._door.wait()
                    continue
                try:
                    messages = await self._client.receive(
                        # of a queue in trouble an answer is wanted, not a message
                        wait_seconds=0 if self.state.trouble else WAIT_SECONDS,
                        hidden_seconds=HIDDEN_SECONDS,
                    )
                except SqsError as error:
                    await self._failed(error)
                    continue
                self.state.well()
                if messages:
                    metrics.SQS_RECEIVED.labels(tool=self.tool_id).inc(len(messages))
                    await self._take(messages)
        finally:
            await self._client.close()

    async def _failed(self, error: SqsError) -> None:
        """Tell that SQS does not do what it is asked for, and wait a while."""
        self.state.failed(error)
        await asyncio.sleep(backoff_seconds(self.state.failures))

    async def _take(self, messages: Sequence[Message]) -> None:
        """Take what was received: a group's messages one by one in their order, groups together."""
        groups: dict[str, list[Message]] = {}
        for message in messages:
            # of a queue that keeps no order each is by itself
            groups.setdefault(message.group or message.message_id, []).append(message)
        in_hand = {message.handle for message in messages}
        hiding = tasks.awaited("SqsIntake.hide", self._keep_hidden(in_hand))
        taking = [
            tasks.awaited("SqsIntake.take", self._take_group(group, in_hand))
            for group in groups.values()
        ]
        try:
            await asyncio.gather(*taking)
        finally:
            await tasks.stop(hiding, *taking)

    async def _keep_hidden(self, in_hand: set[str]) -> None:
        while True:
            await asyncio.sleep(HIDDEN_SECONDS / 3)
            if not in_hand:
                continue
            try:
                await self._client.hide(list(in_hand), HIDDEN_SECONDS)
            except SqsError as error:
                # at worst it comes again, and is recognised
                metrics.SQS_ERRORS.labels(tool=self.tool_id, kind=error.kind).inc()

    async def _take_group(self, messages: Iterable[Message], in_hand: set[str]) -> None:
        done: list[str] = []
        try:
            for message in messages:
                if not await self._taken(message):
                    # what is behind it of its group waits for it, in the queue
                    break
                done.append(message.handle)
        finally:
            in_hand -= {message.handle for message in messages} - set(done)
            await self._delete(done)
            in_hand -= set(done)

    async def _delete(self, handles: Sequence[str]) -> None:
        """Delete what is durable here. What SQS does not delete comes again, and is recognised."""
        if not handles:
            return
        for attempt in range(1, 6):
            try:
                left = await self._client.delete(handles)
            except SqsError as error:
                metrics.SQS_ERRORS.labels(tool=self.tool_id, kind=error.kind).inc()
                self.state.troubled(error.kind, f"messages are not deleted: {error}")
                await asyncio.sleep(backoff_seconds(attempt))
                continue
            metrics.SQS_DELETED.labels(tool=self.tool_id).inc(len(handles) - left)
            return

    async def _taken(self, message: Message) -> bool:
        """Have a message's events in Redis; whether the message may go.

        Waits for as long as what is needed for that is not there.
        """
        arrival = Arrival(
            name=f"message {message.message_id}",
            method=IN_QUEUE,
            place=self.source.queue.url,
            source="queue",
            body=message.body,
            at_ms=message.sent_ms,
            bits=message_bits(self.source.queue, message),
            headers={name.lower(): value for name, value in message.attributes.items()},
        )
        try:
            await self._door.take(arrival, lambda: unpack(message, self.source))
        except HookstreamError as error:
            return await self._refuse(message, arrival, error)
        return True

    async def _refuse(self, message: Message, arrival: Arrival, error: HookstreamError) -> bool:
        """Keep what can be no event as a refusal of its tool; whether it may go from its queue.

        Where SQS gives what was received several times to another queue it is left to that.
        """
        redrives = await self._redrives()
        self._tell_refused(message, error, redrives=redrives)
        kept = await self._door.refuse(
            arrival, error, metrics.SQS_REFUSED, again=redrives and message.receives > 1
        )
        return kept and not redrives

    def _tell_refused(self, message: Message, error: HookstreamError, *, redrives: bool) -> None:
        logger.warning(
            "the queue %s of tool %s: message %s can be no event (%s): it is %s, and GET "
            "/api/v1/tools/%s/refusals has it",
            self.state.queue,
            self.tool_id,
            message.message_id[:100],
            error,
            "left to its queue's redrive policy" if redrives else "deleted",
            own_tool_id(self.tool_id),
        )

    async def _redrives(self) -> bool:
        """Whether the queue has a redrive policy; where that cannot be asked, none."""
        if time.monotonic() - self._asked_policy >= POLICY_SECONDS:
            self._asked_policy = time.monotonic()
            try:
                found = await self._client.attributes("RedrivePolicy")
                policy = orjson.loads(found.get("RedrivePolicy") or b"null")
                self._redrives_known = bool(policy)
            except (SqsError, ValueError) as error:
                if not isinstance(error, SqsError) or error.kind != "denied":
                    # what cannot be asked now is asked again with the next one
                    self._asked_policy = -POLICY_SECONDS
                    return True
                self._redrives_known = None
                logger.warning(
                    "the queue %s of tool %s: whether it has a redrive policy may not be asked "
                    "(sqs:GetQueueAttributes): taken for none",
                    self.state.queue,
                    self.tool_id,
                )
        return bool(self._redrives_known)
