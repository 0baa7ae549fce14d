"""What stands in for a service over HTTP on loopback: it answers JSON with JSON, and no more."""

import json
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.stack import free_port

__all__ = ["StandIn"]


class StandIn:
    """A server on a free port of 127.0.0.1; ``requests`` are the paths that were asked for."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        standing_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                standing_in.requests.append(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = standing_in.answer(self.path, self.headers, body)
                said = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_PUT = do_POST  # noqa: N815 the base class calls it so

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: tests look at ``requests``."""

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON for a request."""
        raise NotImplementedError

    def close(self) -> None:
        """Let its port go."""
        self._server.shutdown()
        self._server.server_close()
