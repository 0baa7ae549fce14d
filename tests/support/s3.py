"""An S3 of one's own: moto's server, which can be told to fail."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.stack import free_port

__all__ = ["BUCKET", "S3"]

BUCKET = "hookstream"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: Given a request and what would answer it: another answer, or None for that one.
Fault = Callable[[dict[str, Any], Callable[..., Any], Application], Iterable[bytes] | None]


class S3:
    """A server on a free port, with one bucket; :meth:`failing` puts a fault before it."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._inner: Application = DomainDispatcherApplication(create_backend_app)
        self._faults: list[Fault] = []
        #: Requests that came: method and path.
        self.requests: list[tuple[str, str]] = []
        self.port = free_port()
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "hookstream",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """boto3's client, for the test's own questions."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            aws_access_key_id="hookstream",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def empty(self) -> None:
        """One bucket, and nothing in it."""
        client = self.client()
        for bucket in client.list_buckets()["Buckets"]:
            self.drop(bucket["Name"])
        client.create_bucket(Bucket=BUCKET)
        self.requests.clear()

    def drop(self, bucket: str = BUCKET) -> None:
        """Take a bucket away with all that is in it."""
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Until the end of the block every request is put to ``fault`` first."""
        self._faults.append(fault)
        try:
            yield
        finally:
            self._faults.remove(fault)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        for fault in list(self._faults):
            answer = fault(environ, start, self._inner)
            if answer is not None:
                return answer
        return self._inner(environ, start)
