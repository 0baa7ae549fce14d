"""How brokers are asked, and what their errors are here."""

import ssl
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.helpers import create_ssl_context

from hookstream.app.errors import SettingsError
from hookstream.app.kafka_address import parse_kafka_url
from hookstream.app.queues.states import QueueError
from hookstream.app.settings import Settings

__all__ = [
    "KAFKA_ERRORS",
    "BrokerError",
    "broker_error",
    "client_options",
    "found_error",
    "tls_of",
]


#: What aiokafka raises where brokers do not do what they are asked for.
KAFKA_ERRORS: Final = (errors.KafkaError, OSError, TimeoutError)
#: Of one request.
TIMEOUT_MS: Final = 10_000

_DENIED: Final = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_TOO_LARGE: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordTooLargeError,
    errors.RecordListTooLargeError,
)
_UNREACHABLE: Final = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.KafkaUnavailableError,
    errors.NoBrokersAvailable,
    errors.NodeNotReadyError,
    errors.StaleMetadata,
    errors.RequestTimedOutError,
    errors.BrokerNotAvailableError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.GroupCoordinatorNotAvailableError,
    errors.NotCoordinatorForGroupError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
    OSError,
    TimeoutError,
)
_KINDS: Final = (
    ("denied", _DENIED, "it does not let this user do that"),
    ("missing", (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError), "no such topic"),
    ("too-large", _TOO_LARGE, "it takes no record that is so large"),
    ("unreachable", _UNREACHABLE, "it cannot be reached"),
)


class BrokerError(QueueError):
    """A broker did not do what it was asked for.

    ``kind``: denied, missing, too-large, unreachable or refused.
    """

    slug = "kafka"
    title = "Kafka cannot be asked"


def broker_error(error: BaseException) -> BrokerError:
    """What an error of aiokafka is here."""
    if isinstance(error, BrokerError):
        return error
    name = type(error).__name__
    for kind, classes, said in _KINDS:
        if isinstance(error, classes):
            return BrokerError(kind, f"{said} ({name})")
    return BrokerError("refused", f"it answers {name}")


async def found_error(settings: Settings, error: BaseException) -> BrokerError:
    """As :func:`broker_error`, having asked why where brokers seem not to be there.

    Of whoever may not sign in aiokafka says, but for a line in the log, that no broker can be
    reached.
    """
    found = broker_error(error)
    if found.kind != "unreachable" or not settings.kafka_sasl_mechanism:
        return found
    options = client_options(settings)
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), **options)
        except KAFKA_ERRORS as why:
            if (known := broker_error(why)).kind != "unreachable":
                return known
        except (LookupError, ValueError):
            # an answer that only those get who are not let in
            return BrokerError("denied", "it does not let this user in")
        else:
            connection.close()
    return found


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What brokers are asked over; None for no TLS.

    Raises:
        SettingsError: the file of certificates cannot be read.
    """
    if not parse_kafka_url(settings.kafka_url).tls:
        return None
    try:
        context: ssl.SSLContext = create_ssl_context(cafile=settings.kafka_ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"HOOKSTREAM_KAFKA_CA_FILE: {settings.kafka_ca_file!r} cannot be read: {error}"
        ) from error
    return context


def client_options(settings: Settings) -> dict[str, Any]:
    """What any client of aiokafka is made with. Raises SettingsError."""
    context = tls_of(settings)
    options: dict[str, Any] = {
        "bootstrap_servers": list(parse_kafka_url(settings.kafka_url).servers),
        "client_id": "hookstream",
        "request_timeout_ms": TIMEOUT_MS,
        "security_protocol": "SSL" if context else "PLAINTEXT",
        "ssl_context": context,
    }
    if settings.kafka_sasl_mechanism:
        options |= {
            "security_protocol": "SASL_SSL" if context else "SASL_PLAINTEXT",
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password,
        }
    return options
