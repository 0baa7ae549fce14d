"""Where a Kafka is, as operators write it."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["KafkaAddress", "is_topic", "parse_kafka_url"]

_SERVER: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
PORT: Final = 9092


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Brokers to begin with, as ``host:port``, and whether they are asked over TLS."""

    servers: tuple[str, ...]
    tls: bool


def is_topic(name: str) -> bool:
    """Whether a topic can have this name."""
    return bool(_TOPIC.fullmatch(name)) and name not in (".", "..")


def parse_kafka_url(url: str) -> KafkaAddress:
    """Read ``kafka://host:9092,host2:9092`` or ``kafka+ssl://…``.

    Raises:
        ValueError: it is none; the text says what to write.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("kafka", "kafka+ssl"):
        raise ValueError(
            "write kafka://HOST:9092, several hosts by commas, or kafka+ssl:// where brokers have "
            "TLS; Kafka is asked by aiokafka, and nothing else"
        )
    if "@" in rest:
        raise ValueError(
            "credentials do not belong into the URL, which is shown: set "
            "HOOKSTREAM_KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD"
        )
    servers = []
    for given in rest.rstrip("/").split(","):
        server = _SERVER.fullmatch(given.strip())
        if server is None:
            raise ValueError(f"{given.strip()[:200]!r} is no HOST:PORT of a broker")
        servers.append(server[0] if server[1] else f"{server[0]}:{PORT}")
    return KafkaAddress(tuple(servers), scheme == "kafka+ssl")
