"""``python -m tests.support.sqs_process PORT``: moto's SQS in a process of its own, with faults.

``/fault?kind=KIND&seconds=S``: until then requests are

- ``throttled``: refused with SQS's word for it;
- ``unreachable``: their connections are closed before anything is done;
- ``unanswered``: half of those that send, delete or hide, and a tenth of those that receive, are
  done, and their connections closed before the answer.

``/counts``: how often each was done, as JSON.
"""

import argparse
import json
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from tests.support.moto_queues import install

__all__ = ["KINDS", "Server"]

KINDS = ("throttled", "unreachable", "unanswered")
CONTENT = ("Content-Type", "application/x-amz-json-1.0")


class Server:
    """The WSGI application: faults before moto's."""

    def __init__(self, *, twice: float, most_hidden: float, seed: int) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.rng = random.Random(seed)
        self.held = install(self.rng, twice=twice, most_hidden=most_hidden)
        self.inner = DomainDispatcherApplication(create_backend_app)
        self.until: dict[str, float] = {}
        self.done: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/fault":
            query = {name: one[0] for name, one in parse_qs(environ["QUERY_STRING"]).items()}
            self.until[query["kind"]] = time.monotonic() + float(query["seconds"])
            return _json(start, {})
        if path == "/counts":
            twice = sum(held.given_twice for held in self.held)
            return _json(start, {**self.done, "given twice": twice})
        action = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
        self.done["requests"] += 1
        if self._now("unreachable"):
            return self._close(environ, start, "unreachable")
        if self._now("throttled"):
            self.done["throttled"] += 1
            body = {"__type": "com.amazonaws.sqs#ThrottlingException", "message": "slow down"}
            return _json(start, body, "400 Refused")
        answer = self.inner(environ, start)
        share = 0.1 if action == "ReceiveMessage" else 0.5
        if self._now("unanswered") and self.rng.random() < share:
            list(answer)
            return self._close(environ, start, "unanswered")
        return answer

    def _now(self, kind: str) -> bool:
        return self.until.get(kind, 0.0) > time.monotonic()

    def _close(
        self, environ: dict[str, Any], start: Callable[..., Any], kind: str
    ) -> Iterable[bytes]:
        self.done[kind] += 1
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start("500 Nobody hears it", [CONTENT])
        return [b""]


def _json(start: Callable[..., Any], body: Any, status: str = "200 OK") -> list[bytes]:
    data = json.dumps(body).encode()
    start(status, [CONTENT, ("Content-Length", str(len(data)))])
    return [data]


def main() -> None:
    """Serve until killed."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--twice", type=float, default=0.0, help="share that is given again")
    parser.add_argument("--most-hidden", type=float, default=43200.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept
        disable_nagle_algorithm = True

        def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
            """As it shall be."""

    server = Server(twice=options.twice, most_hidden=options.most_hidden, seed=options.seed)
    make_server(
        "127.0.0.1", options.port, server, threaded=True, request_handler=Handler
    ).serve_forever()


if __name__ == "__main__":
    main()
