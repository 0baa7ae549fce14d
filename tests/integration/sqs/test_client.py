"""The client of SQS, with a server: what comes, and what it says where nothing does."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hookstream.app.routing.queues import Queue
from hookstream.app.sqs.client import SqsClient, SqsError
from tests.support.sqs import SqsServer, answers
from tests.support.stack import free_port


@pytest.fixture
async def client(sqs: SqsServer, name: str) -> AsyncIterator[SqsClient]:
    client = SqsClient(Queue(sqs.queue(name)))
    yield client
    await client.close()


async def test_a_message_comes_with_what_its_sender_said_of_it(
    sqs: SqsServer, client: SqsClient
) -> None:
    before = time.time() * 1000
    sent = sqs.send(client.queue.url, '{"n": "größer 😊"}', kind="push")
    [message] = await client.receive(wait_seconds=1, hidden_seconds=30)
    assert (message.message_id, message.body) == (sent, '{"n": "größer 😊"}')
    assert (message.group, message.receives, message.attributes) == ("", 1, {"kind": "push"})
    assert before - 2000 <= message.sent_ms <= time.time() * 1000 + 2000
    assert sqs.counts(client.queue.url) == (0, 1)
    assert await client.delete([message.handle]) == 0
    assert sqs.counts(client.queue.url) == (0, 0)


async def test_a_message_that_is_hidden_no_more_comes_again(
    sqs: SqsServer, client: SqsClient
) -> None:
    sqs.send(client.queue.url, "{}")
    [message] = await client.receive(wait_seconds=1, hidden_seconds=30)
    await client.hide([message.handle], 0)
    [again] = await client.receive(wait_seconds=1, hidden_seconds=30)
    assert (again.message_id, again.receives) == (message.message_id, 2)


async def test_a_long_poll_ends_with_its_task(client: SqsClient) -> None:
    polling = asyncio.create_task(client.receive(wait_seconds=20, hidden_seconds=30))
    await asyncio.sleep(0.3)
    begun = time.monotonic()
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, "throttled"),
        ("AccessDeniedException", 403, "denied"),
        ("InvalidSecurity", 403, "denied"),
        ("QueueDoesNotExist", 400, "missing"),
        ("InternalFailure", 500, "unreachable"),
        ("SomethingNew", 400, "refused"),
    ],
)
async def test_errors_are_told_by_kind(
    sqs: SqsServer, client: SqsClient, code: str, status: int, kind: str
) -> None:
    with (
        sqs.server.failing(answers(code, status)),
        pytest.raises(SqsError, match=code) as refused,
    ):
        await client.receive(wait_seconds=0, hidden_seconds=30)
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (
            "User: arn:aws:iam::123456789012:user/ada is not authorized to perform: "
            "sqs:receivemessage on resource: arn:aws:sqs:eu-west-1:123456789012:q",
            "sqs:receivemessage",
        ),
        ("The ciphertext refers to a key; kms:Decrypt is not allowed", "kms:Decrypt"),
        ("Access to the resource is denied", "sqs:ReceiveMessage"),
    ],
)
async def test_what_is_denied_is_named_and_nobody_who_is(
    sqs: SqsServer, client: SqsClient, message: str, named: str
) -> None:
    with (
        sqs.server.failing(answers("AccessDeniedException", 403, message=message)),
        pytest.raises(SqsError) as refused,
    ):
        await client.receive(wait_seconds=0, hidden_seconds=30)
    assert str(refused.value) == f"it answers AccessDeniedException for {named}"


async def test_a_queue_that_is_not_there_is_missing(sqs: SqsServer) -> None:
    client = SqsClient(Queue(f"{sqs.url}/123456789012/nobody"))
    try:
        with pytest.raises(SqsError) as refused:
            await client.receive(wait_seconds=0, hidden_seconds=30)
        assert refused.value.kind == "missing"
    finally:
        await client.close()


async def test_where_nobody_answers_it_is_unreachable_and_where_no_sqs_answers_it_says_so(
    sqs: SqsServer, client: SqsClient
) -> None:
    nobody = SqsClient(Queue(f"http://127.0.0.1:{free_port()}/1/q", "us-east-1"))
    try:
        with pytest.raises(SqsError) as refused:
            await nobody.receive(wait_seconds=0, hidden_seconds=30)
        assert refused.value.kind == "unreachable"
    finally:
        await nobody.close()

    def page(environ: object, start: object, inner: object) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html")])  # type: ignore[operator]
        return [b"<html>"]

    with sqs.server.failing(page), pytest.raises(SqsError, match="not as SQS does"):
        await client.receive(wait_seconds=0, hidden_seconds=30)


async def test_without_credentials_or_a_region_it_says_what_is_missing(
    sqs: SqsServer, client: SqsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(SqsError, match="AWS_REGION"):
        await client.receive(wait_seconds=0, hidden_seconds=30)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(SqsError, match="credentials"):
        await client.receive(wait_seconds=0, hidden_seconds=30)


async def test_queues_are_asked_with_the_credentials_of_a_profile_where_one_is_named(
    sqs: SqsServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[queues]\naws_access_key_id = forqueues\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "forthearchive")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    queue = Queue(sqs.queue(name))
    asked: list[str] = []

    def look(environ: dict[str, str], start: object, inner: object) -> object:
        asked.append(environ["HTTP_AUTHORIZATION"])
        return inner(environ, start)  # type: ignore[operator]

    for profile in ("", "queues"):
        client = SqsClient(queue, profile=profile)
        try:
            with sqs.server.failing(look):
                await client.receive(wait_seconds=0, hidden_seconds=30)
        finally:
            await client.close()
    assert ["Credential=forthearchive/" in asked[0], "Credential=forqueues/" in asked[1]] == [
        True,
        True,
    ]
    said = "ProfileNotFound.*HOOKSTREAM_SQS_PROFILE names 'nobody'"
    with pytest.raises(SqsError, match=said) as refused:
        await SqsClient(queue, profile="nobody").receive(wait_seconds=0, hidden_seconds=30)
    assert refused.value.kind == "denied"
