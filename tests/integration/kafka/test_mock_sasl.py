"""Brokers that want SASL: Tansu behind a stand-in that asks for it, since it cannot keep users."""

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.kafka import client as module
from hookstream.app.kafka.client import BrokerError
from hookstream.app.kafka.producing import Record, RecordProducer
from hookstream.app.settings import Settings
from tests.integration.kafka.agents import EVENTS, UPDATES, WORK, stack_beside
from tests.integration.kafka.test_end_to_end import SOURCE, kafka_part
from tests.integration.kafka.test_tls import certify
from tests.support.kafka import Broker
from tests.support.kafka_front import SaslFront
from tests.support.stack import eventually

USER, PASSWORD = "hooks", "a right one, with = and ,"


async def behind(folder: Path, **front: Any) -> tuple[Broker, SaslFront]:
    """A broker whose clients are told of the front before it."""
    wire = SaslFront(0, USER, PASSWORD, **front)
    broker = Broker(folder, advertised=wire.port)
    wire.target = broker.own_port
    await broker.start()
    await wire.mend()
    return broker, wire


@pytest.mark.parametrize(
    ("mechanism", "tls"),
    [("SCRAM-SHA-256", False), ("SCRAM-SHA-512", True), ("PLAIN", True)],
)
async def test_who_knows_the_password_is_let_in_and_nobody_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, mechanism: str, tls: bool
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_MS", 2000)
    certificate, key = certify(tmp_path, "broker")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    broker, wire = await behind(tmp_path, mechanisms=(mechanism,), tls=context if tls else None)
    given = {
        "kafka_url": f"kafka{'+ssl' if tls else ''}://127.0.0.1:{wire.port}",
        "kafka_ca_file": str(certificate) if tls else "",
        "kafka_sasl_mechanism": mechanism,
        "kafka_sasl_username": USER,
        "kafka_sasl_password": PASSWORD,
    }
    record = Record(b"k", b"v", (), None, None)

    async def sent(**changed: str) -> str:
        producer = RecordProducer(Settings(**given | changed), name)  # type: ignore[arg-type]
        try:
            return "sent" if (await producer.send([record])).took == [record] else "kept"
        except BrokerError as error:
            return f"{error.kind}: {error}"
        finally:
            await producer.close()

    try:
        assert await sent() == "sent"
        wrong = await sent(kafka_sasl_password="a wrong one")
        assert wrong == "denied: it does not let this user do that (SaslAuthenticationFailed)"
        assert (await sent(kafka_sasl_username="nobody")).startswith("denied: ")
        other = "SCRAM-SHA-256" if mechanism != "SCRAM-SHA-256" else "SCRAM-SHA-512"
        unknown = await sent(kafka_sasl_mechanism=other)
        assert unknown.startswith("denied: ")
        assert "UnsupportedSaslMechanism" in unknown
        if tls:
            # who it is that asks for the password is not known: nobody is denied anything
            stranger, _ = certify(tmp_path, "stranger")
            assert (await sent(kafka_ca_file=str(stranger))).startswith("unreachable: ")
        assert (mechanism, True) in wire.attempts
        assert (mechanism, False) in wire.attempts
    finally:
        await wire.cut()
        broker.stop()


async def test_a_wrong_password_is_in_no_one_s_way_and_all_goes_on_with_the_right_one(
    tmp_path: Path, name: str
) -> None:
    broker, wire = await behind(tmp_path)
    wire.password = "another one by now"
    stack = stack_beside(
        broker.url,
        tmp_path,
        "sasl_stages",
        WORK,
        HOOKSTREAM_KAFKA_SASL_MECHANISM="SCRAM-SHA-512",
        HOOKSTREAM_KAFKA_SASL_USERNAME=USER,
        HOOKSTREAM_KAFKA_SASL_PASSWORD=PASSWORD,
    )
    await asyncio.to_thread(stack.start)
    try:
        await stack.context(name, SOURCE)
        source = f"source-{name}"
        await stack.put(f"/tools/{name}-t", {**SOURCE, "source": {"kafka": {"topic": source}}})
        await stack.put(
            f"/contexts/{name}/subscriptions/topic", {"tool": f"{name}-t", "types": ["*"]}
        )
        ids = [await stack.hook(name, json.dumps({"n": n}).encode()) for n in range(5)]
        assert [update["event_id"] for update in await stack.updates(name, 5)] == ids

        def told(port: int, trouble: str, *topics: str) -> Callable[[], Any]:
            async def holds() -> bool:
                part = await kafka_part(port)
                return {one["topic"]: one["trouble"] for one in part["troubles"]} == (
                    dict.fromkeys(topics, trouble)
                )

            return holds

        everything = (EVENTS, UPDATES, "(of agents)")
        await eventually(told(stack.worker_port, "denied", *everything), "workers are denied")
        await eventually(told(stack.port, "denied", source), "receivers are denied")
        wire.password = PASSWORD
        broker.sign_in = {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": USER,
            "sasl_plain_password": PASSWORD,
        }
        await broker.make_topic(source)
        await broker.make_topic("orders")
        for topic in (EVENTS, UPDATES, "done"):
            await broker.make_topic(topic)
        await broker.send(source, [b'{"n": 5}'])
        await broker.send("orders", [b'{"n": 6}'])
        [update] = await stack.updates(name, 1, after=5)
        assert update["provenance"]["source"] == "topic"

        async def all_of_it() -> bool:
            found = [len(await broker.records(topic)) for topic in (EVENTS, UPDATES, "done")]
            return found == [6, 6, 1]

        await eventually(all_of_it, "what waited is mirrored, and agents work")
        await eventually(told(stack.worker_port, ""), "workers are let in")
        await eventually(told(stack.port, ""), "receivers are let in")
    finally:
        await asyncio.to_thread(stack.stop)
        await wire.cut()
        broker.stop()
