"""Render: makes what an event's contexts will read, where the event is, once for all of them.

In: routed batches. Out: the same, with finished updates, which is all that goes on to
``updates[q]``. Left to who delivers: everything where a model writes summaries, which may take
seconds in which what is critical passes; and while a worker lives that reads envelopes only.
"""

from collections import Counter
from collections.abc import Sequence

from hookstream.app import channels
from hookstream.app.main import app
from hookstream.app.priority import most_urgent
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.group import Group
from hookstream.codecs.envelope import FINISHED_VERSION


async def render_together(group: Group) -> None:
    """The same for several batches."""
    await _render(list(group))


@app.batches(channels.routed, out=channels.rendered, together=render_together)
async def render(batch: Batch) -> None:
    """Makes the updates of each event."""
    await _render([batch])


async def _render(batches: Sequence[Batch]) -> None:
    renderer = app.worker.renderer
    if renderer.slow or not app.worker.assignment.all_read(FINISHED_VERSION):
        return
    live = [entry for batch in batches for entry in batch.live()]
    priority = most_urgent(target.priority for entry in live for target in entry.targets)
    owners = Counter(entry.value.tenant for entry in live)
    async with app.worker.scheduler.slot_of(owners, priority) as slot:
        for entry in live:
            try:
                finished, entry.targets = renderer.finish(entry.value, entry.targets)
                entry.finished = (entry.value, finished)
            except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
                entry.fail("render", error)
            await slot.pause()
