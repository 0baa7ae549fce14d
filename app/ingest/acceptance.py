"""Accepts verified requests: makes their events, measures and packs them, and appends them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from mode.utils.logging import get_logger
from structlog.contextvars import bind_contextvars

from hookstream.app import metrics
from hookstream.app.errors import (
    LimitError,
    NerError,
    OverBudgetError,
    SchemaViolationError,
    SealingKeyError,
)
from hookstream.app.ids import random_bits
from hookstream.app.ingest.appender import Append, Appender
from hookstream.app.ingest.events import Incoming, make_events
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.providers.shapes import is_unverified
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import REJECT, Catalog, Tool
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.routing.maskers import Maskers
from hookstream.app.routing.payload_check import PayloadCheck
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.erasures import ErasureStore
from hookstream.app.token_bucket import TokenBuckets
from hookstream.codecs.envelope import Event

__all__ = ["Acceptance"]

logger = get_logger(__name__)

#: How long the events of one batch are worked on before others have their turn.
TURN_SECONDS = 0.005
#: How often, at most, a tool's events of unverified types are told of in the log.
UNVERIFIED_SAID_SECONDS = 60


class Acceptance:
    """Makes verified requests events that are durable."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: CatalogCache,
        payloads: Payloads,
        appender: Appender,
        functions: Mapping[str, DedupFunction],
        payload_check: PayloadCheck,
        maskers: Maskers,
        erasures: ErasureStore | None = None,
    ) -> None:
        """``erasures``: what was erased is not kept when it is sent again."""
        self._maskers = maskers
        self._erasures = erasures
        self._settings = settings
        self._catalog = catalog
        self._payloads = payloads
        self._appender = appender
        self._functions = functions
        self._payload_check = payload_check
        #: Tools of which it has been said that their events are not what they say.
        self._unverified = TokenBuckets(1 / UNVERIFIED_SAID_SECONDS, 1)

    async def accept(
        self, came: Incoming, tool: Tool, now_ms: int, *, bits: int | None = None
    ) -> list[str]:
        """The ids of a request's events, in order, once all of them are durable.

        ``bits``: what tells their ids from others of that time, where that is not to be random:
        what is accepted again with the same is the same event.

        Raises:
            SchemaViolationError: the tool rejects what breaks its schema, and all of them do. Where
                some fit, those that do not become dead letters.
            LimitError: measuring them has to wait.
            NerError: they are to be masked, and the model does not say what.
            SealingKeyError: they are to be sealed, and there is no key for that now.
            UnavailableError: not all of them could be kept. Sent again, those that were are
                recognised.
        """
        catalog = self._catalog.current
        urgent = tool.tool_id in catalog.urgent_tools
        masks = catalog.keeps_masked(tool)
        rule = tool.payload_rule
        entries: list[Append] = []
        ids: list[str] = []
        broken: list[str] | None = None
        begun = time.monotonic()
        for event, partition in make_events(
            came,
            tool,
            partitions=self._settings.partitions,
            registry_version=catalog.version,
            registry_token=catalog.token,
            now_ms=now_ms,
            random_bits=random_bits() if bits is None else bits,
            functions=self._functions,
        ):
            if ids and time.monotonic() - begun > TURN_SECONDS:
                # never behind the last: what came first shall be appended first
                await asyncio.sleep(0)
                begun = time.monotonic()
            if not ids:
                bind_contextvars(event_id=event.event_id)
            ids.append(event.event_id)
            if is_unverified(event.type):
                self._tell(event)
            if masks and rule is not None:
                # nobody can measure it any more once it is masked
                found = await self._broken(catalog, event, rule.on_violation)
                event = replace(event, schema_errors=tuple(found))
                if rule.on_violation == REJECT and broken != []:
                    broken = found
            elif catalog.schemas and broken != []:
                # one that fits is enough
                broken = await self._broken(catalog, event, REJECT)
            if self._erasures is not None and self._erasures.repeats(
                event.tenant, event.tool_id, event.message_id, event.delivery_id
            ):
                # its sender is to hear that it came, and nothing of it is kept
                metrics.ERASED_REPEATS.labels(where="door").inc()
                continue
            if masks:
                event = await self._masked(event)
            try:
                entry = await self._payloads.encode_aside(event)
            except SealingKeyError as error:
                # senders are strangers: where keys are is for the log and for operators
                raise SealingKeyError(
                    "events cannot be sealed here now: /health says why, in part `sealing`"
                ) from error
            entries.append(Append(keys.events(partition), entry, urgent))
        if broken:
            raise SchemaViolationError("; ".join(broken))
        if entries:
            await self._appender.append_all(entries)
        return ids

    async def _masked(self, event: Event) -> Event:
        """What agents may see of an event, and nothing else of it."""
        try:
            return await self._maskers.for_keeping(event)
        except (NerError, ValueError) as error:
            # senders are strangers: what is the matter is for the log and for operators
            logger.warning("an event of tool %s cannot be masked: %s", event.tool_id, error)
            raise NerError("events cannot be masked here now: the log says why") from error

    async def _broken(self, catalog: Catalog, event: Event, when: str) -> list[str]:
        """Where the payload breaks its tool's schema, if that is for ``when``. 429: ask later."""
        try:
            return await self._payload_check.violations(catalog, event, when)
        except OverBudgetError as error:
            wait = self._payload_check.wait_seconds(event.tool_id)
            raise LimitError(str(error), wait) from error

    def _tell(self, event: Event) -> None:
        metrics.UNVERIFIED_TYPES.labels(provider=event.provider).inc()
        # who repeats a captured webhook may send thousands of them
        if not self._unverified.take(event.tool_id, time.monotonic()):
            logger.warning(
                "tool %s: an event of type %s: its body does not look like one (said once in %d s "
                "of a tool; hookstream_unverified_types_total counts them)",
                event.tool_id,
                event.type,
                UNVERIFIED_SAID_SECONDS,
            )
