"""What the manifest says of objects against what they are."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from hookstream.app.archive.manifest import Manifest
from hookstream.app.archive.objects import Found, MissingObjectError, Objects

__all__ = ["REMEMBERED", "Difference", "verify", "verify_names", "verify_page"]

PAGE: Final = 200
#: What is remembered of erasures; it is in no manifest.
REMEMBERED: Final = "erasures.json"
#: Younger ones may be of somebody who has begun them elsewhere, in another database.
ORPHAN_AGE: Final = timedelta(days=1)


class Difference(NamedTuple):
    """``kind``: ``missing``, ``bytes``, ``checksum``, ``events`` or ``unnamed``."""

    kind: str
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


async def verify(
    manifest: Manifest, objects: Objects, *, read: bool, now: datetime | None = None
) -> AsyncIterator[Difference]:
    """Every difference; nothing is changed. ``read``: objects whole, else only their sizes.

    Raises:
        UnavailableError: one of both is away; what was given until then is true.
    """
    behind: str | None = ""
    while behind is not None:
        _, differences, behind = await verify_page(manifest, objects, behind, PAGE, read=read)
        for difference in differences:
            yield difference
    async for difference in verify_names(manifest, objects, now=now):
        yield difference


async def verify_page(
    manifest: Manifest, objects: Objects, behind: str, most: int, *, read: bool
) -> tuple[int, list[Difference], str | None]:
    """As :func:`verify`, of the next objects in the manifest; how many, and where it goes on."""
    found = []
    rows = await manifest.objects(behind, most)
    for row in rows:
        difference = await _look_at(row, objects, read=read)
        # what has left the manifest meanwhile is no difference
        if difference and row["name"] in await manifest.known_names([row["name"]]):
            found.append(difference)
    return len(rows), found, rows[-1]["name"] if rows else None


async def verify_names(
    manifest: Manifest, objects: Objects, *, now: datetime | None = None
) -> AsyncIterator[Difference]:
    """As :func:`verify`, of what is in the archive and not in the manifest."""
    page: list[Found] = []
    oldest = (now or datetime.now(UTC)) - ORPHAN_AGE
    async for found in objects.list():
        if found.modified < oldest and found.name != REMEMBERED:
            page.append(found)
        if len(page) == PAGE:
            async for difference in _unnamed(manifest, page):
                yield difference
            page = []
    async for difference in _unnamed(manifest, page):
        yield difference


async def _look_at(row: Any, objects: Objects, *, read: bool) -> Difference | None:
    name = row["name"]
    try:
        data = await objects.get(name) if read else None
        size = len(data) if data is not None else await objects.size(name)
    except MissingObjectError:
        return Difference("missing", name, "is in the manifest, and not in the archive")
    if size != row["bytes"]:
        return Difference("bytes", name, f"has {size} bytes; the manifest says {row['bytes']}")
    if data is not None and hashlib.sha256(data).digest() != row["sha256"]:
        return Difference("checksum", name, "has another checksum than the manifest says")
    if row["in_ranges"] != row["events"]:
        return Difference(
            "events",
            name,
            f"has row groups of {row['in_ranges']} events in the manifest, which says "
            f"{row['events']} of it",
        )
    return None


async def _unnamed(manifest: Manifest, page: list[Found]) -> AsyncIterator[Difference]:
    known = await manifest.known_names([found.name for found in page])
    for found in page:
        if found.name not in known:
            what = f"is in the archive ({found.size} bytes), and not in the manifest"
            yield Difference("unnamed", found.name, what)
