"""Where a Kafka is, and what tools may name there; what cannot be is a sentence."""

from typing import Any

import pytest
from pydantic import ValidationError

from hookstream.app.errors import SettingsError
from hookstream.app.kafka.client import client_options
from hookstream.app.kafka_address import KafkaAddress, is_topic, parse_kafka_url
from hookstream.app.routing.queues import SqsSource
from hookstream.app.routing.topics import KafkaSource, source_from
from hookstream.app.settings import Settings

URL = {"kafka_url": "kafka://a:9092"}
USER = {"kafka_sasl_username": "u", "kafka_sasl_password": "p"}


def test_a_url_names_brokers_and_whether_they_have_tls() -> None:
    assert parse_kafka_url("kafka://a,b:9093, [::1]:9094/") == KafkaAddress(
        ("a:9092", "b:9093", "[::1]:9094"), False
    )
    assert parse_kafka_url("kafka+ssl://a:1") == KafkaAddress(("a:1",), True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka_url": "a:9092"}, "write kafka://HOST:9092"),
        ({"kafka_url": "confluent://a:9092"}, "write kafka://HOST:9092"),
        ({"kafka_url": "kafka://u:p@a:9092"}, "HOOKSTREAM_KAFKA_SASL_MECHANISM"),
        ({"kafka_url": "kafka://a:9092,"}, "no HOST:PORT"),
        ({"kafka_topics": "orders"}, "HOOKSTREAM_KAFKA_TOPICS: it needs HOOKSTREAM_KAFKA_URL"),
        ({"kafka_events_topic": "e"}, "HOOKSTREAM_KAFKA_EVENTS_TOPIC: it needs"),
        ({**URL, "kafka_topics": "a b"}, "no name of a topic"),
        ({**URL, "kafka_topics": "a*b"}, "no name of a topic"),
        ({**URL, "kafka_events_topic": "ä"}, "up to 249"),
        ({**URL, "kafka_events_topic": "e", "kafka_updates_topic": "e"}, "a topic of their own"),
        ({**URL, "kafka_group": "a group"}, "HOOKSTREAM_KAFKA_GROUP"),
        ({**URL, "kafka_ca_file": "x.pem"}, "kafka[+]ssl://"),
        ({**URL, **USER, "kafka_sasl_mechanism": "GSSAPI"}, "'GSSAPI' is not supported"),
        ({**URL, **USER, "kafka_sasl_mechanism": "PLAIN"}, "sends the password as it is"),
        ({**URL, "kafka_sasl_mechanism": "SCRAM-SHA-512"}, "_USERNAME and"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as raised:
        Settings(**given)
    assert "u:p@" not in str(raised.value)


def test_tools_may_name_what_operators_have_named() -> None:
    settings = Settings(
        **URL, kafka_topics="orders, webhooks.*", kafka_events_topic="webhooks.mirror"
    )
    assert settings.may_read_topic("orders")
    assert settings.may_read_topic("webhooks.a")
    for name in ("orders2", "webhooks", "other", "webhooks.mirror"):
        assert not settings.may_read_topic(name), name
    assert not Settings().may_read_topic("orders")
    assert Settings(**URL, kafka_topics="*").may_read_topic("any")


def test_clients_get_the_user_and_no_tls_unless_it_is_asked_for() -> None:
    plain = client_options(Settings(**URL))
    assert (plain["bootstrap_servers"], plain["security_protocol"]) == (["a:9092"], "PLAINTEXT")
    user = {**USER, "kafka_sasl_mechanism": "SCRAM-SHA-512"}
    known = client_options(Settings(**URL, **user))
    assert (known["security_protocol"], known["sasl_plain_password"]) == ("SASL_PLAINTEXT", "p")
    sealed = client_options(Settings(kafka_url="kafka+ssl://a", **user))
    assert sealed["security_protocol"] == "SASL_SSL"
    assert sealed["ssl_context"] is not None


def test_a_file_of_certificates_that_is_not_there_is_said() -> None:
    settings = Settings(kafka_url="kafka+ssl://a", kafka_ca_file="/nowhere.pem")
    with pytest.raises(SettingsError, match=r"HOOKSTREAM_KAFKA_CA_FILE.*cannot be read"):
        client_options(settings)


def test_a_password_is_not_shown() -> None:
    settings = Settings(**URL, **USER, kafka_sasl_mechanism="SCRAM-SHA-256")
    assert "'p'" not in repr(settings)


def test_a_source_is_a_queue_or_a_topic() -> None:
    found = source_from({"kafka": {"topic": "orders", "headers": {"X-Kind": "kind"}}})
    assert found == KafkaSource("orders", {"x-kind": "kind"})
    assert isinstance(
        source_from({"sqs": {"queue_url": "https://h/1/q", "format": "raw"}, "kafka": None}),
        SqsSource,
    )
    for kept in ({"topic": "a b"}, {"topic": "a", "headers": {"a b": "c"}}):
        with pytest.raises(ValueError, match=r"topic|headers"):
            source_from({"kafka": kept})
    assert not is_topic("..")
