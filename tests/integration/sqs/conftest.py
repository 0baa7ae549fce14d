"""moto's SQS, once a session of tests."""

from collections.abc import Iterator

import pytest

from tests.support.sqs import SqsServer


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[SqsServer]:
    server = SqsServer()
    yield server
    server.stop()


@pytest.fixture
def sqs(sqs_server: SqsServer, monkeypatch: pytest.MonkeyPatch) -> SqsServer:
    """Its credentials are those of the environment."""
    for name, value in sqs_server.environ.items():
        monkeypatch.setenv(name, value)
    return sqs_server
