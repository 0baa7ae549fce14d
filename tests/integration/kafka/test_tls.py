"""Brokers with TLS: theirs are the certificates that are trusted, and no others."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hookstream.app.kafka import client as module
from hookstream.app.kafka.client import BrokerError
from hookstream.app.kafka.producing import Record, RecordProducer
from hookstream.app.settings import Settings
from tests.support.kafka import Broker, Wire


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_a_broker_with_tls_is_asked_where_its_certificate_is_trusted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_MS", 1000)
    certificate, key = certify(tmp_path, "broker")
    other, _ = certify(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    wire = Wire(0, context)
    broker = Broker(tmp_path, advertised=wire.port)
    wire.target = broker.own_port
    await broker.start()
    await wire.mend()
    record = Record(b"k", b"v", (), None, None)
    server = f"127.0.0.1:{wire.port}"
    try:
        for url, trusted, works in (
            (f"kafka+ssl://{server}", certificate, True),
            (f"kafka+ssl://{server}", other, False),
            (f"kafka://{server}", None, False),
        ):
            settings = Settings(kafka_url=url, kafka_ca_file=str(trusted or ""))
            # this broker makes topics that it is asked for
            producer = RecordProducer(settings, name)
            try:
                if works:
                    assert (await producer.send([record])).took == [record]
                else:
                    with pytest.raises(BrokerError) as raised:
                        await producer.send([record])
                    assert raised.value.kind == "unreachable"
            finally:
                await producer.close()
    finally:
        await wire.cut()
        broker.stop()
