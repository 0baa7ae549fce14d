"""Check: measures payloads by the schema that their tool names.

In: batches with duplicates marked. Out: the same. With ``on_violation`` "dead-letter" a payload
that does not fit is a dead letter of stage "schema"; with "mark" it passes and carries where it
does not fit. What is to be rejected was, by the receiver. Costs under 1 µs an event besides
parsing, and nothing where no tool has a schema.
"""

from dataclasses import replace

from hookstream.app import channels
from hookstream.app.errors import SchemaViolationError
from hookstream.app.main import app
from hookstream.app.routing.catalog import DEAD_LETTER, MARK, Catalog
from hookstream.app.streams.batch import Batch


@app.batches(channels.deduped, out=channels.checked)
async def check(batch: Batch) -> None:
    """Finds payloads that break their tool's schema."""
    catalog = await app.services.catalog.catch_up(*batch.registry_version)
    if catalog.schemas:
        check_batch(batch, catalog)


def check_batch(batch: Batch, catalog: Catalog) -> None:
    """Fail or mark the events of a batch whose payload breaks its tool's schema."""
    for entry in list(batch.live()):
        event = entry.value
        if found := catalog.violations(event, DEAD_LETTER):
            entry.fail("schema", SchemaViolationError("; ".join(found)), final=True)
        elif found := catalog.violations(event, MARK):
            entry.value = replace(event, schema_errors=tuple(found))
            entry.changed = True
