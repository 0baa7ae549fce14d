"""librdkafka's mock cluster: brokers within this process, that fail when they are told to.

Python's binding has no words for that; the library in its wheel has (rdkafka_mock.h).
"""

import ctypes
from pathlib import Path
from typing import Any, Final

import confluent_kafka

__all__ = [
    "DENIED",
    "FIND_COORDINATOR",
    "GROUP_DENIED",
    "JOIN_GROUP",
    "TOO_LARGE",
    "UNKNOWN",
    "UNKNOWN_TOPIC",
    "MockCluster",
]

#: Numbers of errors (kafka.apache.org/protocol, "Error Codes"), and of requests.
UNKNOWN: Final = -1
UNKNOWN_TOPIC: Final = 3
TOO_LARGE: Final = 10
DENIED: Final = 29
GROUP_DENIED: Final = 30
PRODUCE: Final = 0
FIND_COORDINATOR: Final = 10
JOIN_GROUP: Final = 11


def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    [path] = folder.glob("librdkafka*")
    library = ctypes.CDLL(str(path))
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(library, f"rd_kafka_{name}").restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class MockCluster:
    """Brokers, and what is to go wrong with them."""

    def __init__(self, brokers: int = 1) -> None:
        self.brokers = range(1, brokers + 1)
        self._library = _library()
        said = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        self._client = ctypes.c_void_p(self._library.rd_kafka_new(0, conf, said, len(said)))
        assert self._client, said.value
        self._cluster = ctypes.c_void_p(
            self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        )
        servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.server = servers.partition(",")[0]
        self.url = f"kafka://{servers}"

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def make_topic(self, name: str, partitions: int = 1) -> None:
        made = self._library.rd_kafka_mock_topic_create(
            self._cluster, name.encode(), partitions, len(self.brokers)
        )
        assert not made

    def fail_topic(self, name: str, error: int) -> None:
        """Answer questions for a topic with an error; 0: with what there is."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, name.encode(), error)

    def fail_sends(self, *errors: int) -> None:
        """Answer the next requests that send records with these errors; 0: with none."""
        self.fail(PRODUCE, *errors)

    def fail(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind, by its number, with these errors; 0: with none."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), array
        )

    def relent(self, request: int) -> None:
        """Answer requests of a kind with no errors any more."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, ctypes.c_int16(request))

    def down(self) -> None:
        """No broker can be reached any more; they keep what they have."""
        for number in self.brokers:
            self._library.rd_kafka_mock_broker_set_down(self._cluster, number)

    def up(self) -> None:
        for number in self.brokers:
            self._library.rd_kafka_mock_broker_set_up(self._cluster, number)
