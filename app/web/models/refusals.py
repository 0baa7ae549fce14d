"""Webhooks that were refused."""

from typing import Literal

from hookstream.app.web.models.fields import PAGE_QUERY, Model

__all__ = ["REFUSAL_QUERY", "RefusalList", "RefusalOut"]


class RefusalOut(Model):
    """A webhook that was refused. ``headers`` are shown in full where they can hold no secret.

    Others, and the values in the query of ``path``, are masked. ``body_bytes`` came, or were
    announced; ``kept_bytes`` of them are kept. ``replayable``: all of it is,
    and it came to the door: what came out of a queue, or a topic, is sent there again.
    """

    refusal_id: str
    tool_id: str
    refused_at: str
    status: int
    reason: str
    detail: str
    address: str
    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int
    kept_bytes: int
    replayable: bool
    body: str | None = None
    body_encoding: Literal["text", "base64"] | None = None


class RefusalList(Model):
    """A page of refused webhooks, the newest first; ``cursor`` leads to the next."""

    refusals: list[RefusalOut]
    cursor: str | None


REFUSAL_QUERY = PAGE_QUERY
