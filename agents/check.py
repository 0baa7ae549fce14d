"""Check: measures payloads by the schema that their tool names.

In: batches with duplicates marked. Out: the same. With ``on_violation`` "dead-letter" a payload
that does not fit is a dead letter of stage "schema"; with "mark" it passes and carries where it
does not fit. What is to be rejected was, by the receiver, but for events that came in one request
with others, some of which fit: they are dead letters. What was masked before it was kept was
measured before, too, and is not measured again. Costs under 1 µs an event besides parsing,
and nothing where no tool has a schema.
"""

import asyncio
from dataclasses import replace

from hookstream.app import channels
from hookstream.app.errors import OverBudgetError, SchemaViolationError
from hookstream.app.main import app
from hookstream.app.routing.catalog import DEAD_LETTER, MARK, REJECT, Catalog
from hookstream.app.routing.payload_check import PayloadCheck
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.group import Group


async def check_together(group: Group) -> None:
    """The same for several batches; those are left of which anything is to be measured."""
    catalog = app.services.catalog
    for batch in group:
        if catalog.current.schemas or not catalog.caught_up(*batch.registry_version):
            group.leave(batch)


@app.batches(channels.deduped, out=channels.checked, together=check_together)
async def check(batch: Batch) -> None:
    """Finds payloads that break their tool's schema."""
    catalog = await app.services.catalog.catch_up(*batch.registry_version)
    if catalog.schemas:
        await check_batch(batch, catalog, app.services.payload_check)


async def check_batch(batch: Batch, catalog: Catalog, measure: PayloadCheck) -> None:
    """Fail or mark the events of a batch whose payload breaks its tool's schema.

    One that cannot be measured now is tried again later.
    """
    expensive = []
    for entry in list(batch.live()):
        if entry.value.kept_masked:
            _as_measured(entry, catalog)
            continue
        for when in (DEAD_LETTER, MARK, *([REJECT] if entry.value.batch_id else [])):
            found = measure.at_once(catalog, entry.value, when)
            if found is None:
                expensive.append(_measure(entry, catalog, measure, when))
            elif found:
                _broken(entry, found, when)
    await asyncio.gather(*expensive)


async def _measure(entry: Entry, catalog: Catalog, measure: PayloadCheck, when: str) -> None:
    try:
        found = await measure.in_child(catalog, entry.value, when)
    except OverBudgetError as error:
        entry.fail("schema", error)
        return
    if found:
        _broken(entry, found, when)


def _as_measured(entry: Entry, catalog: Catalog) -> None:
    """What the receiver has found, of an event whose payload was masked before it was kept."""
    tool = catalog.tools.get(entry.value.tool_id)
    rule = tool.payload_rule if tool else None
    found = entry.value.schema_errors
    if found and rule is not None and rule.on_violation != MARK:
        _broken(entry, list(found), rule.on_violation)


def _broken(entry: Entry, found: list[str], when: str) -> None:
    if when != MARK:
        entry.fail("schema", SchemaViolationError("; ".join(found)), final=True)
        return
    entry.value = replace(entry.value, schema_errors=tuple(found))
    entry.changed = True
