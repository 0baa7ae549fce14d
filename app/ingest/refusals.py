"""The door's black box: the last webhooks that were refused, and why, for a day, in Redis.

Each tool has a share of its own, and what is sent to tools that there are not has one together: who
may post anything cannot push out, or keep out, what is known of another tool's. Shares follow from
the number of tools alone, so nobody outside can make one smaller.

Nothing here waits for Redis in a request's way. Of a flood the first few a second are kept, of a
tool and of a tenant, and the others are counted; while Redis is away nothing is kept. Where
payloads are sealed, all of a refused webhook is, too; while its key is away nothing is kept.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import SealingKeyError
from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.privacy.rules import MASKED
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.routing.catalog import Tool
from hookstream.app.stores.catalog import CatalogCache
from hookstream.codecs.errors import ErasedError
from hookstream.codecs.sealed import is_sealed, key_ids, open_sealed, refusal_place

__all__ = ["IN_QUEUE", "IN_TOPIC", "Refusal", "Refusals"]

logger = get_logger(__name__)

KEPT_MS = 24 * 3600 * 1000
#: Bytes of all tools together; where there are many, each has at least :data:`LEAST_BYTES`.
TOTAL_BYTES = 64 << 20
#: Most of one tool's.
TOOL_BYTES = 1 << 20
LEAST_BYTES = 16 << 10
TOOL_REFUSALS = 100
#: Most of one refusal; no more than a quarter of the tool's share each.
BODY_BYTES = 64 << 10
HEADERS_BYTES = 16 << 10
URL_CHARS = 2048
DETAIL_CHARS = 500
#: A tenant's and a tool's id.
TOOL_CHARS = 257
#: How often it is written, how many of one tool at a time, and bytes of all that wait for it;
#: beyond that headers and bodies are left out.
WRITE_SECONDS = 1.0
WRITE_REFUSALS = 4
#: Of all tools of a tenant together: who has many of them floods all of them.
TENANT_WRITE_REFUSALS = 16
WAITING_BYTES = 8 << 20
#: At most one line of log in this time.
SAID_SECONDS = 10.0
#: The method of what came out of a queue, or a topic, and not over HTTP.
IN_QUEUE = "SQS"
IN_TOPIC = "KAFKA"
#: The label of tools that there are not; no tool can have it for its id.
UNKNOWN = "(unknown)"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A webhook that was refused, as much of it as is kept.

    ``address`` is the sender's, ``origin`` scheme and host that it named; ``path`` has the query.
    ``whole``: all of path, headers and body is here, so that it can be verified again.
    ``body_bytes`` have come, or were announced.
    """

    at_ms: int
    tool_id: str
    status: int
    reason: str
    detail: str
    address: str
    method: str
    origin: str
    path: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    body_bytes: int
    whole: bool
    refusal_id: str = ""

    @property
    def is_webhook(self) -> bool:
        """Whether it came to the door; what did not is sent again to where it came from."""
        return self.method not in (IN_QUEUE, IN_TOPIC)

    @property
    def replayable(self) -> bool:
        """Whether it can be verified again."""
        return self.whole and self.is_webhook


#: What is kept as JSON in one field; headers and body have fields of their own.
FACTS = [
    item.name for item in fields(Refusal) if item.name not in ("headers", "body", "refusal_id")
]


class Refusals(Service):
    """Counts refused webhooks, and keeps the last ones of each tool."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        catalog: CatalogCache,
        data_keys: DataKeys | None = None,
        *,
        tenant: str = "default",
        **kwargs: object,
    ) -> None:
        """``data_keys``: without them nothing is sealed. ``tenant``: whose key seals what was sent
        to tools that there are not.
        """
        super().__init__(**kwargs)
        self._keys = data_keys
        self._tenant = tenant
        self._redis = redis
        self._scripts = scripts
        self._catalog = catalog
        #: Stream → facts, headers and body of what is to be written, one after the other.
        self._waiting: dict[str, list[bytes]] = {}
        self._waiting_bytes = 0
        #: Tenant → how many of its tools were to be kept since it was written.
        self._of_tenant: Counter[str] = Counter()
        #: (tool, reason) → how many, since a line of the log said so.
        self._unsaid: Counter[tuple[str, str]] = Counter()
        self._said_at = -SAID_SECONDS

    def count(self, tool: Tool | None, reason: str) -> bool:
        """Count a refusal; ``tool`` is None where there is no such one.

        True where there is room for it now: then :meth:`keep` it.
        """
        self._count(tool, reason)
        if len(self._waiting.get(_key(tool), ())) < 3 * WRITE_REFUSALS:
            return True
        metrics.REFUSALS_NOT_KEPT.inc()
        return False

    def pass_over(self, tool: Tool, reason: str) -> None:
        """Count a refusal that is not kept."""
        self._count(tool, reason)
        metrics.REFUSALS_NOT_KEPT.inc()

    def _count(self, tool: Tool | None, reason: str) -> None:
        label = tool.tool_id if tool else UNKNOWN
        metrics.REFUSALS.labels(tool=label, reason=reason).inc()
        self._unsaid[label, reason] += 1

    def has_room(self, tool: Tool) -> bool:
        """Whether one more of a flood is to be kept now, rather than counted alone."""
        return (
            self._of_tenant[tool.tenant] < TENANT_WRITE_REFUSALS
            and len(self._waiting.get(_key(tool), ())) < 3 * WRITE_REFUSALS
        )

    def keep(self, tool: Tool | None, refusal: Refusal, title: str = "") -> None:
        """Keep what :meth:`count` had room for; it is in Redis a second later, or never.

        Where nothing may be kept as it was sent (``keep: "masked"``), ``title`` stands in place of
        its detail, or else its reason.
        """
        if tool is not None:
            self._of_tenant[tool.tenant] += 1
        entry = self._entry(tool, refusal, title, WAITING_BYTES - self._waiting_bytes)
        if entry is None:
            metrics.REFUSALS_NOT_KEPT.inc()
            return
        self._waiting.setdefault(_key(tool), []).extend(entry)
        self._waiting_bytes += sum(map(len, entry))

    async def keep_now(self, tool: Tool, refusal: Refusal, title: str = "") -> bool:
        """Keep one, whatever else waits, as :meth:`keep` does; whether Redis has it.

        For what is deleted elsewhere then. Of what is large its beginning is kept.
        """
        entry = self._entry(tool, refusal, title, WAITING_BYTES)
        if entry is None:
            metrics.REFUSALS_NOT_KEPT.inc()
            return False
        bounds = (self._share_bytes(), TOOL_REFUSALS, KEPT_MS)
        try:
            await self._scripts.call("keep_refusals", [_key(tool)], [*bounds, *entry])
        except REDIS_ERRORS as error:
            logger.debug("a refusal is not kept: %s", error)
            metrics.REFUSALS_NOT_KEPT.inc()
            return False
        return True

    def _keeps_masked(self, tool: Tool | None, tool_id: str) -> bool:
        """Whether nothing may be kept of what was sent to a tool as it was sent."""
        catalog = self._catalog.current
        if tool is not None:
            return catalog.keeps_masked(tool)
        # of one whose row cannot be read here, secrets among it, nobody knows what it says
        tenant = tool_id.partition("/")[0] if "/" in tool_id else DEFAULT_TENANT
        return tool_id in catalog.unreadable_tools or catalog.rules_of(tenant, "").keep == MASKED

    def _entry(
        self, tool: Tool | None, refusal: Refusal, title: str, room: int
    ) -> list[bytes] | None:
        """What is written of a refusal, of so many bytes; None where it cannot be sealed now."""
        if self._keeps_masked(tool, refusal.tool_id):
            refusal = _emptied(refusal, title or refusal.reason)
        room = max(0, min(self._share_bytes() // 4, room))
        entry = _encode(_cut(refusal, min(BODY_BYTES, room), min(HEADERS_BYTES, room)))
        if self._keys is not None and self._keys.seals:
            place = refusal_place(_key(tool))
            try:
                key = self._keys.key_now(tool.tenant if tool else self._tenant)
            except SealingKeyError:
                return None
            if key is not None:
                entry = [key.seal(part, place) for part in entry]
        return entry

    async def page(self, tool: Tool | None, limit: int, before: str = "") -> list[Refusal]:
        """Refusals of a tool, or of tools that there are not (None), the newest first.

        ``before`` is the id of the last one of the page before. Those whose data key was destroyed
        are left out. Raises RedisError, and SealingKeyError where a key cannot be had now.
        """
        since = time.time_ns() // 1_000_000 - KEPT_MS
        end = f"({before}" if before else "+"
        rows = await self._redis.xrevrange(_key(tool), end, since, count=limit)
        return await self._decoded(_key(tool), rows)

    async def get(self, tool: Tool | None, refusal_id: str) -> Refusal | None:
        """One of them; None where it is not kept (any more). Raises as :meth:`page`."""
        rows = await self._redis.xrange(_key(tool), refusal_id, refusal_id)
        found = await self._decoded(_key(tool), rows)
        return found[0] if found else None

    async def _decoded(
        self, stream: str, rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]]
    ) -> list[Refusal]:
        # of a body alone nobody could say whether it is sealed: it is what its sender wrote
        sealed = [is_sealed(entry[b"r"]) for _, entry in rows]
        if self._keys is not None and any(sealed):
            await self._keys.fetch(key_ids(entry[b"r"] for _, entry in rows))
        place = refusal_place(stream)
        found = []
        for (entry_id, entry), closed in zip(rows, sealed, strict=True):
            parts = [entry[name] for name in (b"r", b"h", b"b")]
            if closed:
                try:
                    parts = [open_sealed(part, place) for part in parts]
                except ErasedError:
                    continue
            found.append(_decode(entry_id, *parts))
        return found

    async def remove(self, tool: Tool | None, refusal_id: str) -> None:
        """Forget one, for it was accepted after all. Raises RedisError."""
        await self._redis.xdel(_key(tool), refusal_id)

    async def forget(self, tenant: str, tool_id: str) -> None:
        """Forget all of a tool: one of its name is another one. Raises RedisError."""
        key = keys.refusals(tenant, tool_id)
        self._waiting_bytes -= sum(map(len, self._waiting.pop(key, ())))
        await self._redis.delete(key)

    def _share_bytes(self) -> int:
        tools = len(self._catalog.current.tools) + 1
        return max(LEAST_BYTES, min(TOOL_BYTES, TOTAL_BYTES // tools))

    @tasks.loop
    async def _write_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(WRITE_SECONDS)
            self._say(time.monotonic())
            if self._waiting or self._of_tenant:
                await self.write()

    async def write(self) -> None:
        """Bring to Redis what waits; what it does not take is dropped."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        self._of_tenant.clear()
        bounds = (self._share_bytes(), TOOL_REFUSALS, KEPT_MS)
        left = sum(map(len, waiting.values())) // 3
        for key, parts in waiting.items():
            try:
                await self._scripts.call("keep_refusals", [key], [*bounds, *parts])
            except REDIS_ERRORS as error:
                logger.debug("refusals are not kept: %s", error)
                break
            left -= len(parts) // 3
        metrics.REFUSALS_NOT_KEPT.inc(left)

    def _say(self, now: float) -> None:
        if not self._unsaid or now < self._said_at + SAID_SECONDS:
            return
        logger.warning(
            "%d webhooks were refused (%s): GET /api/v1/tools/{tool_id}/refusals, or "
            "/api/v1/unknown-tools/refusals, has the last ones",
            self._unsaid.total(),
            ", ".join(
                f"{tool}: {reason} {count}" for (tool, reason), count in self._unsaid.most_common(5)
            ),
        )
        self._unsaid.clear()
        self._said_at = now


def _key(tool: Tool | None) -> str:
    return keys.refusals(tool.tenant, tool.tool_id) if tool else keys.UNKNOWN_REFUSALS


def _emptied(refusal: Refusal, detail: str) -> Refusal:
    """That it was refused, and why, with nothing of what was sent."""
    return replace(
        refusal,
        detail=detail,
        path=refusal.path.partition("?")[0],
        headers={},
        body=b"",
        whole=False,
    )


def _cut(refusal: Refusal, most_body: int, most_headers: int) -> Refusal:
    """What is kept of it: a bounded number of bytes."""
    headers = {}
    for name, values in refusal.headers.items():
        most_headers -= sum(len(name) + len(value) for value in values)
        if most_headers >= 0:
            headers[name] = values
    return replace(
        refusal,
        tool_id=refusal.tool_id[:TOOL_CHARS],
        detail=refusal.detail[:DETAIL_CHARS],
        origin=refusal.origin[:URL_CHARS],
        path=refusal.path[:URL_CHARS],
        headers=headers,
        body=refusal.body[:most_body],
        whole=refusal.whole
        and len(headers) == len(refusal.headers)
        and len(refusal.body) <= most_body
        and max(len(refusal.origin), len(refusal.path)) <= URL_CHARS,
    )


def _encode(refusal: Refusal) -> list[bytes]:
    facts = {name: getattr(refusal, name) for name in FACTS}
    return [_dumps(facts), _dumps(dict(refusal.headers)), refusal.body]


def _decode(entry_id: bytes, facts: bytes, headers: bytes, body: bytes) -> Refusal:
    known = _loads(facts)
    return Refusal(
        **{name: known[name] for name in FACTS},
        headers={name: tuple(values) for name, values in _loads(headers).items()},
        body=body,
        refusal_id=entry_id.decode(),
    )


def _dumps(value: object) -> bytes:
    # not orjson: bytes that are no UTF-8 are lone surrogates in a header, and come back as such
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _loads(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "surrogatepass"))
