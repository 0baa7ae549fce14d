"""What health and metrics tell anybody where there are several tenants: how much, and no names.

Both are open to anybody. Tools, contexts and tenants are named there; with tenants beside the
default one they are named only to who has the admin key, or asks on the operators' port.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from hookstream.app.web.measured import MEASURED_AT, Page, measured_page

__all__ = ["unnamed_health", "unnamed_metrics", "unnamed_page"]

Answer = Callable[[], Awaitable[web.Response]]

#: A sample that says whose it is. Values of labels have their quotes escaped.
_NAMED: Final = re.compile(rb'[{,](?:tenant|tool|context)="')
#: Texts of health that are the same for everybody.
_TOLD: Final = frozenset(("status", "version", "do"))


def unnamed_metrics(text: bytes) -> bytes:
    """Prometheus' text without samples that name a tool, a context or a tenant.

    >>> unnamed_metrics(b'a{tool="x"} 1.0\\nb{status="ok"} 2.0\\n')
    b'b{status="ok"} 2.0\\n'
    """
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if line.startswith(b"#") or not _NAMED.search(line))


def unnamed_health(health: Mapping[str, Any]) -> dict[str, Any]:
    """Health without any text but what state a part is in, and what to do.

    >>> unnamed_health({"status": "ok", "parts": {"x": {"status": "down", "n": 1, "of": ["t"]}}})
    {'status': 'ok', 'parts': {'x': {'status': 'down', 'n': 1}}}
    """
    shown: dict[str, Any] = {}
    for key, value in health.items():
        if isinstance(value, (int, float)) or (key in _TOLD and isinstance(value, str)):
            shown[key] = value
        elif isinstance(value, Mapping) and (part := unnamed_health(value)):
            shown[key] = part
    return shown


def unnamed_page(answer: Answer) -> Answer:
    """What answers without names, of what answers with them; at most once a second made anew."""
    return measured_page(partial(_unnamed, answer))


async def _unnamed(answer: Answer) -> Page:
    full = await answer()
    assert isinstance(full.body, bytes)
    if full.content_type == "application/json":
        body = orjson.dumps(unnamed_health(orjson.loads(full.body)))
    else:
        body = unnamed_metrics(full.body)
    at = float(full.headers[MEASURED_AT])
    return Page(body, full.headers["Content-Type"], full.status, at)
