"""Queues of one's own: those of moto's server, which can be told to fail."""

import threading
from typing import Any

import orjson

from tests.support.s3 import S3, Fault

__all__ = ["SqsServer", "answers", "one_at_a_time"]


def one_at_a_time() -> Fault:
    """A fault: who asks while another one does finds nothing, as a queue may answer at any time.

    moto mixes up FIFO groups otherwise, SQS does not. Nobody is kept waiting: who has given up by
    the time of the answer would have taken messages that nobody gets.
    """
    asking = threading.Lock()

    def fault(environ: dict[str, Any], start: Any, inner: Any) -> Any:
        if not str(environ.get("HTTP_X_AMZ_TARGET", "")).endswith("ReceiveMessage"):
            return None
        if not asking.acquire(timeout=0.2):
            start("200 OK", [("Content-Type", "application/x-amz-json-1.0")])
            return [b"{}"]
        try:
            return inner(environ, start)
        finally:
            asking.release()

    return fault


def answers(kind: str, status: int = 400, *, of: str = "", message: str = "refused") -> Fault:
    """A fault: requests ``of`` an action, or all, are answered with an error of SQS."""

    def fault(environ: dict[str, Any], start: Any, _: Any) -> list[bytes] | None:
        if not str(environ.get("HTTP_X_AMZ_TARGET", "")).endswith(of):
            return None
        start(f"{status} Refused", [("Content-Type", "application/x-amz-json-1.0")])
        return [orjson.dumps({"__type": f"com.amazonaws.sqs#{kind}", "message": message})]

    return fault


class SqsServer:
    """moto's server, and boto3's client of it for the test's own questions."""

    def __init__(self) -> None:
        import boto3

        self.server = S3()
        self.url = self.server.environ["AWS_ENDPOINT_URL"]
        self.environ = {
            "AWS_ACCESS_KEY_ID": "hookstream",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        self.client = boto3.client(
            "sqs",
            endpoint_url=self.url,
            aws_access_key_id="hookstream",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def stop(self) -> None:
        self.client.close()
        self.server.stop()

    def queue(self, name: str, **attributes: str) -> str:
        """A new queue, its URL; one whose name ends so is of FIFO."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        made = self.client.create_queue(QueueName=name, Attributes=attributes)
        return str(made["QueueUrl"])

    def send(self, url: str, body: str, group: str = "", **attributes: str) -> str:
        """Send a message with attributes of one's own; its id."""
        more: dict[str, Any] = {}
        if url.endswith(".fifo"):
            more = {
                "MessageGroupId": group,
                "MessageDeduplicationId": f"{hash((body, group)) & (1 << 60) - 1:x}",
            }
        given = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        }
        sent = self.client.send_message(
            QueueUrl=url, MessageBody=body, MessageAttributes=given, **more
        )
        return str(sent["MessageId"])

    def counts(self, url: str) -> tuple[int, int]:
        """How many messages are there to be had, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])
