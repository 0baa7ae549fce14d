"""Whether payloads fit their tool's schema, within bounds of time, and off the event loop.

What that costs is the schema's and the sender's together: 100 KB of ``{},{},…`` take 30 s by a
message of 1,000 fields, 16 KB of one letter 18 s by a pattern of many repetitions. What is
estimated to be cheap, and that is nearly all, is measured where it stands; the rest, and where a
payload does not fit, in a child process. What a tool's payloads may use of that has a bound, too,
so that no tool makes the others wait.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from hookstream.app import metrics
from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import OverBudgetError
from hookstream.app.routing.catalog import Catalog
from hookstream.codecs.envelope import Event
from hookstream.codecs.form import is_form
from hookstream.codecs.json_payload import limits, marks
from hookstream.codecs.schemas import Parsed
from hookstream.codecs.schemas.measuring import violations_of

__all__ = ["PayloadCheck"]

#: What is estimated to take longer is measured in a child, which costs a third of a millisecond.
INLINE_SECONDS: Final = 0.002
#: For one payload in a child. What a tool's may use of it in a row, and so much comes back a
#: second. What a payload counts for that is over it: another child has to be started.
CHILD_SECONDS: Final = 0.5
BREACH_SECONDS: Final = 3.0
ALLOWANCE_SECONDS: Final = 1.0
ALLOWANCE_PER_SECOND: Final = 0.5
MAX_TOOLS: Final = 4096
#: Of a larger payload the first place alone is told where it breaks a schema.
EXPLAINED_BYTES: Final = 32 * 1024
_UNREADABLE: Final = (
    "the payload is neither JSON nor a form, or nested too deeply or too large to parse"
)


@dataclass(slots=True)
class _Allowance:
    """What a tool's payloads may still use; one of them is measured at a time."""

    seconds: float = ALLOWANCE_SECONDS
    at: float = field(default_factory=time.monotonic)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def regain(self) -> None:
        now = time.monotonic()
        regained = (now - self.at) * ALLOWANCE_PER_SECOND
        self.seconds, self.at = min(ALLOWANCE_SECONDS, self.seconds + regained), now


class PayloadCheck:
    """Asked of each event whose tool names a schema."""

    def __init__(self, pool: BoundedPool) -> None:
        self._pool = pool
        self._allowances: dict[str, _Allowance] = {}

    def at_once(self, catalog: Catalog, event: Event, when: str) -> list[str] | None:
        """Where a payload breaks its tool's schema, if the tool's ``on_violation`` is ``when``.

        None where it may be expensive to find out: ask :meth:`in_child`. Nothing is parsed where
        the tool has no schema.
        """
        schema = catalog.schema_for(event, when)
        if schema is None:
            return []
        data = event.data()
        if data is None and event.payload.strip() != b"null":
            return [_UNREADABLE]
        size = event.payload_bytes
        # an element takes two bytes at least: most payloads need no count
        if (
            schema.seconds(data, size, size // 2 + 1, explained=False) > INLINE_SECONDS
            and schema.seconds(data, size, _elements(event), explained=False) > INLINE_SECONDS
        ):
            return None
        if schema.fits(data):
            return []
        if schema.seconds(data, size, _elements(event), explained=True) > INLINE_SECONDS:
            return None
        return schema.violations(data)

    async def in_child(self, catalog: Catalog, event: Event, when: str) -> list[str]:
        """The same, found out in a child process.

        A payload that takes longer than it may does not fit.

        Raises:
            OverBudgetError: it cannot be measured now: others are, or its tool has used up what
                its payloads may use. Try again later.
        """
        schema = catalog.schema_for(event, when)
        if schema is None:
            return []
        allowance = self._allowance(event.tool_id)
        async with allowance.turn:
            allowance.regain()
            if allowance.seconds <= 0:
                metrics.BOUNDED_BREACHES.labels(what="schema", reason="allowance").inc()
                raise OverBudgetError(
                    "the tool's payloads take too long to measure by its schema: they have to wait",
                    "busy",
                )
            begun = time.monotonic()
            try:
                return await self._measured(schema, event)
            except OverBudgetError as error:
                if error.reason == "busy":
                    raise
                allowance.seconds -= BREACH_SECONDS
                return [f"the payload is too expensive to measure by its schema: {error}"]
            finally:
                # the first start of a child is nobody's fault
                allowance.seconds -= min(time.monotonic() - begun, CHILD_SECONDS)

    async def violations(self, catalog: Catalog, event: Event, when: str) -> list[str]:
        """The same, wherever that has to be found out. Raises OverBudgetError as it does."""
        found = self.at_once(catalog, event, when)
        return await self.in_child(catalog, event, when) if found is None else found

    def wait_seconds(self, tool_id: str) -> float:
        """How long until a tool's expensive payloads are measured again."""
        known = self._allowances.get(tool_id)
        return max(0.0, -known.seconds) / ALLOWANCE_PER_SECOND if known else 0.0

    async def _measured(self, schema: Parsed, event: Event) -> list[str]:
        return await self._pool.run(
            "schema",
            violations_of,
            type(schema).__name__,
            schema.portable,
            event.payload,
            event.content_type,
            limits.elements,
            event.payload_bytes <= EXPLAINED_BYTES,
            seconds=CHILD_SECONDS,
        )

    def _allowance(self, tool_id: str) -> _Allowance:
        known = self._allowances.get(tool_id)
        if known is None:
            known = self._allowances[tool_id] = _Allowance()
            if len(self._allowances) > MAX_TOOLS:
                del self._allowances[next(iter(self._allowances))]
        return known


def _elements(event: Event) -> int:
    """At least as many as its payload has."""
    # what separates them in a form's JSON is escaped
    return event.payload_bytes if is_form(event.content_type) else marks(event.payload) + 1
