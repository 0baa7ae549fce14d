"""Outputs of the events' stages: what a batch appends to ``updates[q]``, before it is committed."""

from collections.abc import Callable, Iterable, Mapping

from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.scheduler import TimeSlot
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import (
    Finished,
    Target,
    encode_routed,
    recently_routed,
)

__all__ = ["outputs", "partitions_of"]


async def outputs(
    batch: Batch,
    slot: TimeSlot,
    *,
    encode: Callable[[Event], bytes],
    pins: Mapping[str, str],
    partitions: int,
) -> list[tuple[str, list[bytes]]]:
    """What goes to each ``updates[q]``: every event once for all of its contexts there.

    Finished updates go where they are of the event as it is now, else its envelope, which
    ``encode`` makes of one that a stage has changed: who delivers it renders it then. ``pins`` are
    the entries under whose ids outputs of failed events may have been sent before. A partition's
    group is appended all or none: were one refused and a later one taken, the missing one would
    come behind it.
    """
    groups: dict[int, list[bytes]] = {}
    pinned = tuple(pins.values())
    for entry in list(batch.live()):
        event: Event = entry.value
        said: bytes | Finished
        if entry.finished is not None and entry.finished[0] is event:
            said = entry.finished[1]
        elif entry.changed:
            said = encode(event)
        else:
            said = entry.raw
            recently_routed.keep(said, event)
        # what may have been sent before is sent under the same source position
        origin = pins.get(entry.failed_event_id, entry.entry_id)
        for q, targets in _by_partition(partitions, event.tenant, entry.targets).items():
            groups.setdefault(q, []).append(
                encode_routed(
                    batch.partition.number, origin, batch.low_water_mark, said, targets, pinned
                )
            )
        await slot.pause()
    return [(keys.updates(q), values) for q, values in groups.items()]


def partitions_of(batch: Batch, partitions: int) -> set[int]:
    """The partitions of the feeds that a batch's live events go to."""
    wanted = {(e.value.tenant, t.context_id) for e in batch.live() for t in e.targets}
    return {partition_of(partitions, *names) for names in wanted}


def _by_partition(
    partitions: int, tenant: str, targets: Iterable[Target]
) -> dict[int, list[Target]]:
    """Targets by the partition that holds their context's feed."""
    groups: dict[int, list[Target]] = {}
    for target in targets:
        q = partition_of(partitions, tenant, target.context_id)
        groups.setdefault(q, []).append(target)
    return groups
