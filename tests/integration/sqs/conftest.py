"""moto's SQS, and a whole system beside it, once a session of tests."""

import uuid
from collections.abc import Iterator

import pytest

from tests.support.sqs import SqsServer
from tests.support.stack import Stack


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


@pytest.fixture(scope="session")
def own(sqs_server: SqsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`hookstream up` whose tools may name the queues of that server."""
    settings = {
        **sqs_server.environ,
        "HOOKSTREAM_SQS_QUEUES": f"{sqs_server.url}/123456789012/",
    }
    with Stack(tmp_path_factory.mktemp("sqs"), **settings) as stack:
        yield stack


@pytest.fixture
def name() -> str:
    return f"q-{uuid.uuid4().hex[:12]}"
