"""Whether agents over topics get on: brokers answer, and what is in their topics is not taken.

Faust and aiokafka go on by themselves after most of what happens to brokers. Where they do not
(a broker that came back without its topics, while offsets were being committed to them), nothing
is raised: they wait, for ever. So brokers are asked how far topics are, and the consumer how far
it is. All of it is public in both libraries.
"""

import asyncio
import time
from collections.abc import Collection
from typing import Any, Final

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError
from mode.utils.logging import get_logger

from hookstream.app.kafka.asking import topics_there
from hookstream.app.kafka.client import BrokerError, client_options
from hookstream.app.settings import Settings

__all__ = ["Standstill", "topics_of"]

logger = get_logger(__name__)

#: Agents that have not got on for so long do not: a rebalance is over in a third of it.
STILL_SECONDS: Final = 30.0
#: How long the consumer, which works in a thread of its own, may take to say how far it is.
ANSWER_SECONDS: Final = 5.0


def topics_of(app: faust.App) -> set[str]:
    """The topics that agents take from."""
    return {name for agent in app.agents.values() for name in agent.get_topic_names()}


class Standstill:
    """Looks at one application, since it was begun."""

    def __init__(self, settings: Settings, app: faust.App) -> None:
        self._settings = settings
        self._app = app
        #: Since when it is in a rebalance, and has not answered; and by partition how far it was,
        #: and since when.
        self._since: dict[str, float] = {}
        self._at: dict[Any, tuple[int, float]] = {}
        #: Where partitions ended when they were last looked at.
        self._ended: dict[Any, int] = {}

    async def look(self) -> str:
        """What stands still, for people; "" where all gets on, as far as can be said by now.

        Raises:
            BrokerError: a topic is not there.
            KafkaError, OSError, TimeoutError: brokers do not answer.
        """
        wanted = topics_of(self._app)
        known = await topics_there(self._settings, self._settings.kafka_group, wanted)
        if missing := sorted(wanted - known):
            raise BrokerError("missing", f"no such topic: {', '.join(missing)[:300]}")
        if self._app.producer_only:
            return ""
        ends = await self._ends(known)
        await self._begin_again(ends)
        if self._lasts("rebalance", self._app.rebalancing):
            return f"its group has been rebalancing for {STILL_SECONDS:g} s"
        here, answers = {}, True
        for part in ends:
            try:
                here[part] = await asyncio.wait_for(
                    self._app.consumer.position(part), ANSWER_SECONDS
                )
            except IllegalStateError:
                # it has just lost this one
                continue
            except Exception as error:  # noqa: BLE001 what it says when its thread has ended, too
                logger.debug("the consumer does not say how far it is: %r", error)
                answers = False
                break
        if self._lasts("silent", not answers):
            return f"the consumer has not answered for {STILL_SECONDS:g} s"
        return self._behind(ends, here)

    async def _begin_again(self, ends: dict[Any, int]) -> None:
        """Read partitions from their start that have fewer records than they had.

        Their topic was deleted and made again, or brokers have lost what there was. Faust would
        pass over all offsets that it has had of the old one, and aiokafka may wait at the last.
        """
        before, self._ended = self._ended, ends
        for part, end in ends.items():
            if end < before.get(part, 0):
                logger.warning(
                    "partition %d of the topic %s ended at %d, and ends at %d now: agents take it "
                    "from its start",
                    *(part.partition, part.topic, before[part], end),
                )
                await asyncio.wait_for(self._app.consumer.seek(part, 0), ANSWER_SECONDS)

    async def _ends(self, known: Collection[str]) -> dict[Any, int]:
        """How far brokers say that the partitions are that agents have here."""
        consumer = AIOKafkaConsumer(**client_options(self._settings))
        try:
            await consumer.start()
            parts = [part for part in self._app.consumer.assignment() if part.topic in known]
            ends = await consumer.end_offsets([TopicPartition(*part) for part in parts])
            return {part: ends[TopicPartition(*part)] for part in parts}
        finally:
            await consumer.stop()

    def _behind(self, ends: dict[Any, int], here: dict[Any, int | None]) -> str:
        """The partition whose records are not taken though no agent is at work."""
        now = time.monotonic()
        busy = bool(self._app.consumer.unacked)
        for part in list(self._at):
            if part not in here:
                del self._at[part]
        for part, position in here.items():
            # some brokers' ends are too low: past them nothing is known to be there
            if position is None or position >= ends[part] or busy:
                self._at.pop(part, None)
                continue
            at, since = self._at.setdefault(part, (position, now))
            if at != position:
                self._at[part] = position, now
            elif now - since >= STILL_SECONDS:
                return (
                    f"partition {part.partition} of {part.topic} ends at {ends[part]}, and nothing "
                    f"has been taken at {position} for {STILL_SECONDS:g} s"
                )
        return ""

    def _lasts(self, what: str, holds: bool) -> bool:
        """Whether that has held for long enough."""
        if not holds:
            self._since.pop(what, None)
            return False
        now = time.monotonic()
        return now - self._since.setdefault(what, now) >= STILL_SECONDS
