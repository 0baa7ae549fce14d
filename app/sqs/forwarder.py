"""Copies events into tools' queues: each worker those of its partitions, in their order.

A line leaves its outbox once SQS has the message. What ends in between sends it again: a FIFO queue
knows it by its event's id for five minutes, another one has it twice. Each queue has a task of its
own, so one that cannot be reached is in nobody's way; its lines wait, some 60 bytes each.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.archive.rows import Place
from hookstream.app.backoff import backoff_seconds
from hookstream.app.durations import DAY_MS
from hookstream.app.errors import UnavailableError
from hookstream.app.queues.queue_tasks import QueueTasks, QueueWork, Unlisted
from hookstream.app.queues.reading import events_at
from hookstream.app.queues.states import QueueState
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import key_name_of
from hookstream.app.routing.paths import sent_field
from hookstream.app.routing.queues import SqsTarget
from hookstream.app.settings import Settings
from hookstream.app.sqs.client import AT_ONCE, Outgoing, SqsClient, SqsError
from hookstream.app.sqs.messages import pack, pack_mark
from hookstream.app.sqs.moves import drop_outbox
from hookstream.app.sqs.outbox import BARRIER, COPY, MARK, SHADOW, Line
from hookstream.app.stores.events import EventStore
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.progress import is_worked_off, last_entry
from hookstream.codecs.envelope import Event

__all__ = ["SqsForwarder", "batches"]

logger = get_logger(__name__)

#: How often it is looked which tools have a queue, and for new lines where there were none.
LOOK_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 0.1
#: Lines of a partition that are read at a time.
PAGE: Final = 50
#: Partitions of a tool whose events are sent at a time.
AT_A_TIME: Final = 8
#: Of a request: what SQS takes of any queue; a message that is larger goes alone.
BATCH_BYTES: Final = 256 * 1024
#: Of a message where the queue does not say.
MESSAGE_BYTES: Final = 256 * 1024
#: How often it is asked how large a message may be.
SIZE_SECONDS: Final = 300.0
#: For how long a tool has to have no queue before what waits for that is dropped: a worker may know
#: of a change later than another one did.
FORGET_SECONDS: Final = 60.0
#: Events that are remembered of each tool because they could not be copied.
NOTED: Final = 10_000
#: SQS's word for a message that it will never take.
NEVER: Final = "InvalidMessageContents"


@dataclass(frozen=True, slots=True)
class Ready:
    """A line's message; None where there is none to send, and why."""

    entry_id: bytes
    line: Line
    message: Outgoing | None
    why: str = ""


def batches(messages: Sequence[Ready], *, fifo: bool) -> list[list[Ready]]:
    """Messages in requests, in order: ten at most, and no more bytes than one request takes.

    Of a FIFO queue each request has one of a group at most: SQS may take a part of a request, and
    what it does not take must not be overtaken.
    """
    made: list[list[Ready]] = []
    groups: dict[str, int] = {}
    sizes: list[int] = []
    for ready in messages:
        assert ready.message is not None
        size, group = ready.message.size, ready.message.group
        at = groups.get(group, -1) + 1 if fifo else max(0, len(made) - 1)
        while at < len(made) and (len(made[at]) >= AT_ONCE or sizes[at] + size > BATCH_BYTES):
            at += 1
        if at == len(made):
            made.append([])
            sizes.append(0)
        made[at].append(ready)
        sizes[at] += size
        groups[group] = at
    return made


class SqsForwarder(Service):
    """Sends what waits in the outboxes of this worker's partitions."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        events: EventStore,
        settings: Settings,
        *,
        catalog: Callable[[], Catalog],
        is_current: Callable[[], bool],
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        """``is_current``: whether the catalog is as PostgreSQL has it now."""
        super().__init__(**kwargs)
        self.redis = redis
        self.events = events
        self.settings = settings
        self.catalog = catalog
        self.owned = owned
        self._is_current = is_current
        self._senders: QueueTasks[SqsTarget] = QueueTasks("SqsForwarder.sender", self._sender)
        #: Since when a tool that has lines has been seen without a queue.
        self._without: dict[str, float] = {}

    def states(self) -> list[QueueState]:
        """How each queue does."""
        return self._senders.states()

    @tasks.loop
    async def _run(self) -> None:
        forget_at = 0.0
        try:
            while not self.should_stop:
                await self._follow()
                if time.monotonic() >= forget_at:
                    forget_at = time.monotonic() + FORGET_SECONDS / 4
                    await self._forget()
                await self.sleep(LOOK_SECONDS)
        finally:
            await self._senders.stop()

    async def _follow(self) -> None:
        await self._senders.follow(
            {tool.tool_id: tool.forward for tool in self.catalog().tools.values() if tool.forward}
        )

    def _sender(self, tool_id: str, target: SqsTarget) -> QueueWork:
        if not self.settings.may_ask_queue(target.queue.url):
            return Unlisted(QueueState(tool_id, target.queue.name), "HOOKSTREAM_SQS_QUEUES")
        return Sender(self, tool_id, target)

    async def _forget(self) -> None:
        """Drop what waits for queues that their tools do not have any more."""
        try:
            await self._forget_in(list(self.owned()))
        except REDIS_ERRORS as error:
            logger.debug("outboxes are looked through later: %s", error)

    async def _forget_in(self, numbers: Sequence[int]) -> None:
        catalog, now = self.catalog(), time.monotonic()
        if not self._is_current():
            self._without.clear()
            return
        pipe = self.redis.pipeline(transaction=False)
        for number in numbers:
            pipe.hkeys(keys.outboxes(number))
        found = await pipe.execute() if numbers else []
        over = set()
        for tool_id in {name.decode() for names in found for name in names}:
            tool = catalog.tools.get(tool_id)
            if tool_id in catalog.unreadable_tools or (tool is not None and tool.forward):
                self._without.pop(tool_id, None)
            elif now - self._without.setdefault(tool_id, now) >= FORGET_SECONDS:
                over.add(tool_id)
        for number, names in zip(numbers, found, strict=True):
            for tool_id in over.intersection(name.decode() for name in names):
                await self._drop(number, tool_id)

    async def _drop(self, number: int, tool_id: str) -> None:
        lines, dropped = await drop_outbox(self.redis, number, tool_id, NOTED)
        if lines:
            await self.note([(line, "forgotten") for line in dropped], tool_id)
            metrics.SQS_NOT_SENT.labels(tool=tool_id, reason="forgotten").inc(lines)
            logger.warning(
                "tool %s has no queue any more: %d events of partition %d that were to be copied "
                "into it are not",
                tool_id,
                lines,
                number,
            )

    async def note(self, lines: Sequence[tuple[Line, str]], tool_id: str) -> None:
        """Keep for the comparison which events are not copied, and why: the last ones."""
        key = keys.not_copied(tool_id)
        pipe = self.redis.pipeline(transaction=False)
        for line, why in lines:
            if line.kind in (COPY, SHADOW):
                fields = {"event_id": line.name, "why": why}
                pipe.xadd(key, fields, maxlen=NOTED, approximate=True)
        pipe.expire(key, int(self.settings.comparison_days * DAY_MS / 1000))
        await pipe.execute()


class Sender:
    """Sends one tool's events into its queue."""

    def __init__(self, forwarder: SqsForwarder, tool_id: str, target: SqsTarget) -> None:
        self._forwarder = forwarder
        self.tool_id = tool_id
        self.target = target
        self.state = QueueState(tool_id, target.queue.name)
        self._client = SqsClient(target.queue, profile=forwarder.settings.sqs_profile)
        self._most_bytes = MESSAGE_BYTES
        self._asked_size = -SIZE_SECONDS
        #: By partition and barrier, the entries of ``updates`` that have to be delivered first.
        self._barriers: dict[tuple[int, bytes], dict[str, str]] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                try:
                    sent = await self._round()
                except (SqsError, UnavailableError, *REDIS_ERRORS) as error:
                    await self._failed(error)
                    continue
                self.state.well()
                if not sent:
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            # what is left of a tool that has no queue any more is nobody's to wait for
            for gauge in (metrics.SQS_WAITING, metrics.SQS_OLDEST_SECONDS):
                gauge.remove(self.tool_id)
            await self._client.close()

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, SqsError):
            self.state.failed(error)
        else:
            self.state.held_up(error)
        await asyncio.sleep(backoff_seconds(self.state.failures))

    async def _round(self) -> int:
        """Send a page of each partition; how many lines are gone. Raises what stops any of them."""
        owned = dict(self._forwarder.owned())
        pipe = self._forwarder.redis.pipeline(transaction=False)
        for number in owned:
            pipe.xrange(keys.outbox(number, self.tool_id), count=PAGE)
            pipe.xlen(keys.outbox(number, self.tool_id))
        found = await pipe.execute() if owned else []
        pages = {number: page for number, page in zip(owned, found[::2], strict=True) if page}
        metrics.SQS_WAITING.labels(tool=self.tool_id).set(sum(found[1::2]))
        oldest = min((page[0][0] for page in pages.values()), key=_ms, default=b"")
        age = time.time() - _ms(oldest) / 1000 if oldest else 0.0
        metrics.SQS_OLDEST_SECONDS.labels(tool=self.tool_id).set(max(0.0, age))
        if not pages:
            return 0
        await self._ask_size()
        room = asyncio.Semaphore(AT_A_TIME)
        ends = await asyncio.gather(
            *(self._send_page(owned[number], page, room) for number, page in pages.items()),
            return_exceptions=True,
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return sum(end for end in ends if isinstance(end, int))

    async def _ask_size(self) -> None:
        """How large a message may be: older queues have a quarter of what newer ones have."""
        if time.monotonic() - self._asked_size < SIZE_SECONDS:
            return
        try:
            found = await self._client.attributes("MaximumMessageSize")
            self._most_bytes = int(found.get("MaximumMessageSize") or MESSAGE_BYTES)
        except SqsError as error:
            if error.kind != "denied":
                raise
        except ValueError:
            self._most_bytes = MESSAGE_BYTES
        self._asked_size = time.monotonic()

    async def _send_page(
        self, partition: Partition, page: Sequence[tuple[bytes, Any]], room: asyncio.Semaphore
    ) -> int:
        """Send what can be sent of a page, in order; how many lines are gone."""
        gone = 0
        async with room:
            lines = [(entry_id, Line.decode(fields[b"d"])) for entry_id, fields in page]
            while lines:
                if self._forwarder.owned().get(partition.number) is not partition:
                    # who has it now sends what is left
                    break
                end = next((n for n, (_, line) in enumerate(lines) if line.kind == BARRIER), None)
                if end == 0:
                    if not await self._passes(partition.number, lines[0][0]):
                        break
                    await self._remove(partition, [Ready(*lines[0], None)])
                    end = 1
                else:
                    await self._send_lines(partition, lines[:end])
                    end = len(lines) if end is None else end
                gone, lines = gone + end, lines[end:]
        return gone

    async def _send_lines(self, partition: Partition, lines: Sequence[tuple[bytes, Line]]) -> None:
        ready = await self._ready(partition.number, lines)
        if nothing := [each for each in ready if each.message is None]:
            await self._pass_over(partition, nothing)
        wanted = [each for each in ready if each.message is not None]
        for batch in batches(wanted, fifo=self.target.queue.fifo):
            await self._send(partition, batch)

    async def _passes(self, number: int, barrier: bytes) -> bool:
        """Whether all updates have been delivered that were on their way at a barrier's turn.

        Those of this tool and partition are among them.
        """
        redis, wanted = self._forwarder.redis, self._barriers.get((number, barrier))
        if wanted is None:
            streams = [keys.updates(q) for q in range(self._forwarder.settings.partitions)]
            wanted = {stream: await last_entry(redis, stream) for stream in streams}
            self._barriers[number, barrier] = wanted
        for stream, end in list(wanted.items()):
            if not await is_worked_off(redis, stream, end):
                return False
            del wanted[stream]
        del self._barriers[number, barrier]
        return True

    async def _send(self, partition: Partition, batch: Sequence[Ready]) -> None:
        """Send one request. Raises SqsError where SQS has not taken all of it."""
        batch = await self._still_wanted(partition.number, batch)
        if not batch:
            return
        said = await self._client.send([each.message for each in batch if each.message])
        took = [each for each, code in zip(batch, said, strict=True) if not code]
        await self._note_marks(partition.number, [each.line for each in took])
        metrics.SQS_SENT.labels(tool=self.tool_id).inc(len(took))
        await self._remove(partition, took)
        never = [each for each, code in zip(batch, said, strict=True) if code == NEVER]
        if never:
            await self._pass_over(partition, [_because(each, "refused") for each in never])
        if left := [code for code in said if code not in ("", NEVER)]:
            raise SqsError("refused", f"it does not take {len(left)} messages ({left[0][:64]})")

    async def _still_wanted(self, number: int, batch: Sequence[Ready]) -> list[Ready]:
        """Those of a request that have not been given up since their page was read."""
        key = keys.outbox(number, self.tool_id)
        first, last = batch[0].entry_id, batch[-1].entry_id
        found = await self._forwarder.redis.xrange(key, first, last)
        there = {entry_id for entry_id, _ in found}
        return [each for each in batch if each.entry_id in there]

    async def _note_marks(self, number: int, lines: Sequence[Line]) -> None:
        """Say of marks that their queue has them: not before can they be confirmed."""
        now_ms = time.time_ns() // 1_000_000
        redis, name = self._forwarder.redis, keys.hand_overs(number)
        for line in lines:
            if line.kind == MARK:
                await redis.hset(name, sent_field(line.name), now_ms)
                if not await redis.hexists(name, line.name):
                    # it was cancelled before it was sent
                    await redis.hdel(name, sent_field(line.name))

    async def _pass_over(self, partition: Partition, lines: Sequence[Ready]) -> None:
        for each in lines:
            metrics.SQS_NOT_SENT.labels(tool=self.tool_id, reason=each.why).inc()
            logger.warning(
                "event %s of tool %s is not copied into the queue %s: %s",
                each.line.name,
                self.tool_id,
                self.state.queue,
                WHY.get(each.why, each.why),
            )
        await self._forwarder.note([(each.line, each.why) for each in lines], self.tool_id)
        await self._remove(partition, lines)

    async def _remove(self, partition: Partition, lines: Sequence[Ready]) -> None:
        if lines:
            key = keys.outbox(partition.number, self.tool_id)
            await self._forwarder.redis.xdel(key, *(each.entry_id for each in lines))

    async def _ready(self, number: int, lines: Sequence[tuple[bytes, Line]]) -> list[Ready]:
        """The messages of lines, in order.

        Raises:
            UnavailableError: their events cannot be read now.
        """
        tool = self._forwarder.catalog().tools.get(self.tool_id)
        if tool is None:
            raise UnavailableError("there is no such tool any more")
        wanted = [
            (line.name, Place(tool.tenant, tool.tool_id, number, line.place))
            for _, line in lines
            if line.kind != MARK
        ]
        events = iter(await events_at(self._forwarder.events, wanted))
        ready = []
        for entry_id, line in lines:
            if line.kind == MARK:
                ready.append(Ready(entry_id, line, self._mark(tool, line)))
                continue
            event = next(events)
            if event is None:
                ready.append(Ready(entry_id, line, None, "gone"))
                continue
            ready.append(self._message(tool, entry_id, line, event))
            event.release()
            await asyncio.sleep(0)
        return ready

    def _mark(self, tool: Tool, line: Line) -> Outgoing:
        return Outgoing(
            pack_mark(tool.tool_id, line.name, self.target.auth_context),
            line.place,
            line.name,
            {"hookstream_hand_over": line.name, "hookstream_tool_id": tool.tool_id},
        )

    def _message(self, tool: Tool, entry_id: bytes, line: Line, event: Event) -> Ready:
        attributes = {
            "hookstream_event_id": event.event_id,
            "hookstream_tool_id": event.tool_id,
            "hookstream_type": event.type,
        }
        dedup_id = event.event_id
        if line.kind == SHADOW:
            attributes["hookstream_shadow"] = "true"
            dedup_id += "-shadow"
        message = Outgoing(
            pack(event, self.target.auth_context), key_name_of(tool, event), dedup_id, attributes
        )
        if message.size > self._most_bytes:
            return Ready(entry_id, line, None, "too-large")
        return Ready(entry_id, line, message)


#: Why an event is not copied, in words.
WHY: Final = {
    "gone": "it was erased, or its time is over",
    "too-large": "its message is larger than the queue takes (MaximumMessageSize)",
    "refused": "SQS does not take its characters",
}


def _because(ready: Ready, why: str) -> Ready:
    return Ready(ready.entry_id, ready.line, None, why)


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
