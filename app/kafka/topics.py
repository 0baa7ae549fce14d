"""Topics and Faust agents over them, beside Redis Streams in the same worker.

They are a Faust application of their own, with Kafka as Faust has it: its consumer, its producer
and its flow control, which stops all channels while a group rebalances, are none of the
pipeline's. It is begun once brokers answer, and begun anew when it crashes or stands still: nothing
else waits.
"""

import asyncio
import time
from typing import Any, Final

import faust
from faust.app.base import BootStrategy
from faust.auth import SASLCredentials, SSLCredentials
from mode import Service
from mode.utils.logging import get_logger
from yarl import URL

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.kafka.asking import topics_there
from hookstream.app.kafka.client import KAFKA_ERRORS, BrokerError, found_error, tls_of
from hookstream.app.kafka.standstill import Standstill, topics_of
from hookstream.app.kafka_address import parse_kafka_url
from hookstream.app.queues.states import QueueState
from hookstream.app.settings import Settings

__all__ = ["KafkaTopics"]

logger = get_logger(__name__)

#: How often it is looked whether it still runs, and asked whether brokers answer.
LOOK_SECONDS: Final = 0.5
PROBE_SECONDS: Final = 10.0
#: A worker that says nothing for so long has lost its partitions to the others: Faust would have
#: the group wait a minute for one that has crashed.
SESSION_SECONDS: Final = 10.0
#: How long its start may take, which waits for its group, and its end.
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
#: How long the tasks of a consumer that does not stop have to end once they are cancelled.
ABANDON_SECONDS: Final = 1.0
#: Made when it is begun: what a crashed one has left of them is of no use.
_MADE_ANEW: Final = (
    "topics",
    "tables",
    "flow_control",
    "assignor",
    "_leader_assignor",
    "_fetcher",
    "_reply_consumer",
)


class TopicsBoot(BootStrategy):
    """Kafka and agents alone."""

    enable_web = False
    enable_sensors = False


class TopicsApp(faust.App):
    """Faust as it is, of which a crash is nobody else's."""

    BootStrategy = TopicsBoot

    def abandon_consumer(self) -> None:
        """End the thread of a consumer that does not stop: what still sends heartbeats there would
        keep its partitions from whoever comes after it."""
        thread = getattr(self._consumer, "_thread", None)
        loop = getattr(thread, "thread_loop", None)
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_abandon, loop)

    def renew(self) -> None:
        """Make it as if it had never been started; what was declared stays."""
        # a consumer that has nothing to subscribe to is a crash
        self.producer_only = not self.agents
        self._consumer = self._producer = self._transport = None
        for name in _MADE_ANEW:
            self.__dict__.pop(name, None)
        self._children: list[Any] = []
        self.service_reset()
        self.restart_count = 0
        self.agents.service_reset()
        for agent in self.agents.values():
            agent.service_reset()
            agent._channel_iterator = agent._pending_active_partitions = None
            agent._first_assignment_done = False


class KafkaTopics(Service):
    """Has topics and agents declared, and runs them in a worker."""

    mundane_level = "debug"

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        """Raises SettingsError where the file of certificates cannot be read."""
        super().__init__(**kwargs)
        self._settings = settings
        self.app = _app(settings)
        self._how = QueueState("", "", errors=metrics.KAFKA_ERRORS, word="topics")
        self._failures = 0

    def states(self) -> list[QueueState]:
        """How the topics do that agents take from, or that stages send to."""
        self._how.queue = "(of agents)" if self.app.agents else "(of stages)"
        return [self._how]

    @tasks.loop
    async def _run(self) -> None:
        try:
            while not self.should_stop:
                await self._live()
                self._failures += 1
                await self.sleep(backoff_seconds(self._failures))
        finally:
            await asyncio.shield(tasks.spawn("KafkaTopics.end", self._end()))

    async def _live(self) -> None:
        """Begin it once brokers answer; returns when it has crashed, or is to stop."""
        try:
            # of what is not for this user Faust says that it has crashed, if anything
            await topics_there(self._settings, self._settings.kafka_group, topics_of(self.app))
            self.app.renew()
            await asyncio.wait_for(self.app.start(), START_SECONDS)
        except KAFKA_ERRORS as error:
            self._how.failed(await found_error(self._settings, error))
            await self._end()
            return
        self._how.well()
        stands_still = await self._watch()
        if self.app.crashed:
            reason = self.app.crash_reason
            self._how.troubled("crashed", f"agents over topics are begun anew ({reason!r:.200})")
        await self._end(by_parts=stands_still)

    async def _watch(self) -> bool:
        """Returns when it has crashed, is to stop, or stands still, which alone is true."""
        standstill, asked = Standstill(self._settings, self.app), time.monotonic()
        while not self.should_stop and not self.app.should_stop:
            await self.sleep(LOOK_SECONDS)
            if time.monotonic() - asked < PROBE_SECONDS:
                continue
            try:
                if still := await asyncio.wait_for(standstill.look(), START_SECONDS):
                    self._how.troubled("standstill", f"agents are begun anew: {still}")
                    return True
            except (*KAFKA_ERRORS, BrokerError) as error:
                self._how.failed(await found_error(self._settings, error))
            else:
                self._failures = 0
                self._how.well()
            asked = time.monotonic()
        return False

    async def _end(self, *, by_parts: bool = False) -> None:
        """Stop it, ``by_parts`` where its own way to stop would wait for what does not come.

        What of it is in no state to be stopped any more is left.
        """
        if not self.app.started:
            return
        # of one that has crashed its own way to stop ends at the first part that is gone
        by_parts = by_parts or self.app.crashed
        parts = [*reversed(self.app._children)] if by_parts else [self.app]
        for part in parts:
            try:
                await asyncio.wait_for(part.stop(), STOP_SECONDS)
            except Exception as error:  # noqa: BLE001 the others are to be stopped all the same
                logger.warning("agents over topics: %s does not stop: %r", part, error)
        self.app.abandon_consumer()


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """End all that runs on ``loop``, in its own thread; what does not end is left."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_later(ABANDON_SECONDS, loop.stop)


def _app(settings: Settings) -> TopicsApp:
    address, context = parse_kafka_url(settings.kafka_url), tls_of(settings)
    credentials: Any = SSLCredentials(context) if context else None
    if settings.kafka_sasl_mechanism:
        credentials = SASLCredentials(
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password,
            ssl_context=context,
        )
    return TopicsApp(
        settings.kafka_group,
        broker=[URL(f"kafka://{server}") for server in address.servers],
        broker_credentials=credentials,
        broker_client_id="hookstream",
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 4,
        broker_rebalance_timeout=SESSION_SECONDS,
        # topics are their operators': how many partitions and replicas they have is not for us
        topic_allow_declare=False,
        topic_disable_leader=True,
        autodiscover=False,
        web_enabled=False,
        store="memory://",
        datadir=str(settings.state_path / "faust-topics"),
    )
