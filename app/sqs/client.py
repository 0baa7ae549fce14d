"""What is asked of a queue of Amazon SQS: signed by botocore, sent by aiohttp.

botocore finds credentials where AWS's own tools do, and signs. It waits for no answer in a thread:
a long poll ends with its task, and a stop is never twenty seconds long. The protocol is SQS's JSON
(docs.aws.amazon.com/AWSSimpleQueueService, "Making Query API requests using AWS JSON protocol").
"""

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from hookstream.app.queues.states import QueueError
from hookstream.app.routing.queues import Queue

__all__ = ["AT_ONCE", "Message", "Outgoing", "SqsClient", "SqsError"]

#: Most messages of one request of any kind.
AT_ONCE: Final = 10
#: Of a request beside what a long poll waits: connecting, TLS, the answer.
TIMEOUT_SECONDS: Final = 10.0
#: Ten messages of a megabyte each, as JSON.
MAX_ANSWER_BYTES: Final = 64 << 20

#: What SQS calls its errors, and what they are here: a label of a metric, and advice.
_KINDS: Final = {
    "throttled": (
        "Throttling", "ThrottlingException", "RequestThrottled", "ThrottledException", "OverLimit",
        "KmsThrottled", "RequestLimitExceeded",
    ),
    "denied": (
        "AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch",
        "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException", "OptInRequired",
        "MissingAuthenticationToken", "InvalidSecurity", "InvalidSignatureException",
        "KmsAccessDenied",
    ),
    "missing": ("QueueDoesNotExist", "NonExistentQueue", "InvalidAddress", "QueueDeletedRecently"),
}  # fmt: skip
#: Those of them that are about one action; and how policies name one.
_NOT_ALLOWED: Final = ("AccessDenied", "AccessDeniedException", "KmsAccessDenied")
_ACTION: Final = re.compile(r"\b(?:sqs|kms):[A-Za-z]{1,40}\b")
_KIND_OF: Final = {name: kind for kind, names in _KINDS.items() for name in names}


class SqsError(QueueError):
    """SQS did not do what it was asked for.

    ``kind``: throttled, denied, missing, unreachable or refused.
    """

    slug = "sqs"
    title = "SQS cannot be asked"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received; ``handle`` is what it is deleted by.

    ``group``: "" in a queue that is none of FIFO. ``sent_ms``: when the queue got it. ``receives``:
    how often it was received. ``attributes``: its sender's own, those that are texts.
    """

    message_id: str
    handle: str
    body: str
    group: str = ""
    sent_ms: int = 0
    receives: int = 1
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent.

    ``group`` counts in a FIFO queue: its order is kept. So does ``dedup_id``: what is sent again
    with the same within five minutes is not there twice.
    """

    body: str
    group: str = ""
    dedup_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Its bytes as SQS counts them: body, names, types and values of attributes."""
        own = sum(len(f"{name}String{value}".encode()) for name, value in self.attributes.items())
        return len(self.body.encode()) + own


class SqsClient:
    """One queue. Everything raises SqsError."""

    def __init__(self, queue: Queue, *, profile: str = "") -> None:
        """``profile``: of AWS's files, whose credentials are taken; "" for whatever is found."""
        self.queue = queue
        self._profile = profile
        self._http: aiohttp.ClientSession | None = None
        self._credentials: Any = None

    async def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def receive(
        self, most: int = AT_ONCE, *, wait_seconds: int, hidden_seconds: int
    ) -> list[Message]:
        """Messages, as soon as there are any; none after ``wait_seconds``.

        Nobody else gets them for ``hidden_seconds``, nor what is behind them in their groups.
        """
        asked = {
            "MaxNumberOfMessages": most,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": hidden_seconds,
            "MessageSystemAttributeNames": [
                "SentTimestamp", "MessageGroupId", "ApproximateReceiveCount",
            ],
            "MessageAttributeNames": ["All"],
        }  # fmt: skip
        found = await self._ask("ReceiveMessage", asked, wait_seconds)
        try:
            return [_message(each) for each in found.get("Messages") or ()]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SqsError("refused", f"its answer is none of SQS ({error!r:.100})") from error

    async def delete(self, handles: Sequence[str]) -> int:
        """Delete messages, ten at most; how many of them SQS did not delete.

        Those come again: their handles were too old, or it was busy.
        """
        entries = [{"Id": str(at), "ReceiptHandle": one} for at, one in enumerate(handles)]
        found = await self._ask("DeleteMessageBatch", {"Entries": entries})
        return len(found.get("Failed") or ())

    async def hide(self, handles: Sequence[str], seconds: int) -> None:
        """Have nobody else get messages, ten at most, for so long from now on; 0: at once.

        Of those that cannot be hidden any more nothing is told: somebody else has them by now.
        """
        entries = [
            {"Id": str(at), "ReceiptHandle": one, "VisibilityTimeout": seconds}
            for at, one in enumerate(handles)
        ]
        await self._ask("ChangeMessageVisibilityBatch", {"Entries": entries})

    async def send(self, messages: Sequence[Outgoing]) -> list[str]:
        """Send messages, ten at most; of each what SQS calls its error, "" where it took it."""
        entries: list[dict[str, Any]] = []
        for at, message in enumerate(messages):
            entry: dict[str, Any] = {"Id": str(at), "MessageBody": message.body}
            if self.queue.fifo:
                entry["MessageGroupId"] = message.group
                entry["MessageDeduplicationId"] = message.dedup_id
            if message.attributes:
                entry["MessageAttributes"] = {
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in message.attributes.items()
                }
            entries.append(entry)
        found = await self._ask("SendMessageBatch", {"Entries": entries})
        took = {str(each.get("Id")) for each in found.get("Successful") or ()}
        failed = {str(each.get("Id")): each for each in found.get("Failed") or ()}
        return [
            "" if str(at) in took else str(failed.get(str(at), {}).get("Code") or "Missing")
            for at in range(len(messages))
        ]

    async def attributes(self, *names: str) -> Mapping[str, str]:
        """Attributes of the queue, by their names; what it has not is left out."""
        found = await self._ask("GetQueueAttributes", {"AttributeNames": list(names)})
        return dict(found.get("Attributes") or {})

    async def _ask(
        self, action: str, asked: Mapping[str, Any], wait_seconds: float = 0.0
    ) -> dict[str, Any]:
        body = orjson.dumps({"QueueUrl": self.queue.url, **asked})
        url = _endpoint(self.queue)
        headers = await self._signed(url, action, body)
        timeout = aiohttp.ClientTimeout(wait_seconds + TIMEOUT_SECONDS)
        try:
            async with self._session().post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                answer = await _read(response)
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = type(error.__cause__ or error).__name__
            raise SqsError("unreachable", f"it cannot be reached ({said})") from error
        try:
            found = orjson.loads(answer or b"{}")
            if not isinstance(found, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise SqsError("refused", f"it answers {status}, and not as SQS does") from error
        if status == 200:
            return found
        name = str(found.get("__type") or "").rpartition("#")[2].rpartition(".")[2]
        known = name if name.isidentifier() and len(name) < 64 else str(status)
        kind = _KIND_OF.get(name) or ("unreachable" if status >= 500 else "refused")
        denied = f" for {_denied(found, action)}" if name in _NOT_ALLOWED else ""
        raise SqsError(kind, f"it answers {known}{denied}")

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._http

    async def _signed(self, url: str, action: str, body: bytes) -> dict[str, str]:
        """The headers of a request. Finding credentials may ask files and the network."""
        return await asyncio.to_thread(self._sign, url, action, body)

    def _sign(self, url: str, action: str, body: bytes) -> dict[str, str]:
        # a fifth of a second, of which processes without queues have no need
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, ProfileNotFound
        from botocore.session import Session

        region = self.queue.region_in_url or os.environ.get(
            "AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "")
        )
        if not region:
            raise SqsError("denied", "its region is not known: set `region` of it, or AWS_REGION")
        try:
            if self._credentials is None:
                # of a profile that is named, variables with keys are not looked at
                session = Session(profile=self._profile or None)
                self._credentials = session.get_credentials()
            if self._credentials is None:
                raise SqsError("denied", "no AWS credentials are found here")
            signer = SigV4Auth(self._credentials.get_frozen_credentials(), "sqs", region)
            request = AWSRequest(
                "POST",
                url,
                headers={
                    "Content-Type": "application/x-amz-json-1.0",
                    "X-Amz-Target": f"AmazonSQS.{action}",
                },
                data=body,
            )
            signer.add_auth(request)
        except ProfileNotFound as error:
            profile = error.kwargs.get("profile", self._profile)
            setting = "HOOKSTREAM_SQS_PROFILE" if self._profile else "AWS_PROFILE"
            raise SqsError(
                "denied",
                f"no AWS credentials (ProfileNotFound): {setting} names {profile!r:.100}, and "
                "AWS's files that this process reads have no such profile",
            ) from error
        except BotoCoreError as error:
            raise SqsError("denied", f"no AWS credentials ({type(error).__name__})") from error
        return dict(request.headers.items())


def _denied(answer: Mapping[str, Any], action: str) -> str:
    """What may not be done, as policies call it; the answer has it among names for nobody else."""
    said = _ACTION.search(str(answer.get("message") or answer.get("Message") or ""))
    return said[0] if said else f"sqs:{action.removesuffix('Batch')}"


def _endpoint(queue: Queue) -> str:
    """Where a queue is asked for: as AWS's own variable says, or where its URL leads."""
    parts = urlsplit(queue.url)
    own = f"{parts.scheme}://{parts.netloc}"
    named = os.environ.get("AWS_ENDPOINT_URL_SQS") or own
    return named.rstrip("/") + "/"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for piece in response.content.iter_any():
        found += piece
        if len(found) > MAX_ANSWER_BYTES:
            response.close()
            raise SqsError("refused", f"it answers more than {MAX_ANSWER_BYTES} bytes")
    return bytes(found)


def _message(given: Mapping[str, Any]) -> Message:
    about = given.get("Attributes") or {}
    own = given.get("MessageAttributes") or {}
    return Message(
        message_id=str(given["MessageId"]),
        handle=str(given["ReceiptHandle"]),
        body=str(given["Body"]),
        group=str(about.get("MessageGroupId") or ""),
        sent_ms=int(about.get("SentTimestamp") or 0),
        receives=int(about.get("ApproximateReceiveCount") or 1),
        attributes={
            str(name): str(value["StringValue"])
            for name, value in own.items()
            if value.get("StringValue") is not None
        },
    )
