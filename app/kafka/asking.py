"""Which topics are there, and whether this user may have them: asked by a client of its own."""

from collections.abc import Iterable

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import NoBrokersAvailable, NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from hookstream.app.kafka.client import client_options
from hookstream.app.settings import Settings

__all__ = ["topics_there"]


async def topics_there(settings: Settings, group: str, topics: Iterable[str]) -> set[str]:
    """Those of ``topics`` that there are. None is made by asking, where brokers make topics.

    Raises what aiokafka says: brokers are away, or a topic or the ``group`` is not for this user.
    """
    wanted = sorted(topics)
    client = AIOKafkaClient(**client_options(settings))
    try:
        await client.bootstrap()
        if not wanted:
            return set()
        await client.coordinator_lookup(CoordinationType.GROUP, group)
        node = client.get_random_node()
        if node is None:
            raise NoBrokersAvailable
        request = MetadataRequest(wanted, allow_auto_topic_creation=False)
        said = (await client.send(node, request)).to_object()["topics"]
    finally:
        await client.close()
    found = set()
    for topic in said:
        error = for_code(topic["error_code"])
        if error is NoError:
            found.add(topic["topic"])
        elif error is not UnknownTopicOrPartitionError:
            raise error(topic["topic"])
    return found
