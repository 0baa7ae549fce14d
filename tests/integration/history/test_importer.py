"""A page that is broken off anywhere is there once in the end; an erasure that begins wins."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.archive.archive import Archive
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.errors import UnavailableError
from hookstream.app.history.importer import Importer, Page
from hookstream.app.ingest.appender import Append
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.postgres.pool import Postgres
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.maskers import Maskers
from hookstream.app.settings import Settings
from hookstream.app.stores.erasures import SUBJECT, TOOL, ErasureStore
from hookstream.app.stores.imports import Counts, ImportedRow, ImportStore
from hookstream.app.stores.subject_keys import SubjectKeys
from hookstream.codecs.envelope import decode_event
from tests.support.archived import everything

NOW = 1_767_225_600_000
TENANT = "default"


class CrashError(Exception):
    pass


class Notes:
    """Takes what is left for workers; or ends before that."""

    def __init__(self) -> None:
        self.taken: list[Append] = []
        self.crashes = False

    async def append_all(self, entries: Sequence[Append]) -> None:
        if self.crashes:
            raise CrashError
        self.taken += entries


class House:
    """An importer with an archive and a database of its own."""

    def __init__(self, postgres: Postgres, folder: Path, name: str) -> None:
        self.postgres = postgres
        self.archive = Archive(
            ArchiveAddress("file", "", str(folder / "archive")), postgres, cache_bytes=1 << 20
        )
        self.tool = Tool(
            tool_id=name,
            tenant=TENANT,
            provider="none",
            secrets=(),
            options=SignatureOptions(),
            strategy="payload",
            fields=(),
            window_ms=86_400_000,
            order_by="tool",
            order_field="",
        )
        self.erasures = ErasureStore(postgres, SubjectKeys(KeyRing(), "k" * 32))
        self.imports = ImportStore(postgres)
        self.notes = Notes()
        self.now_ms = NOW
        catalog = Catalog(tools={name: self.tool})
        self.importer = Importer(
            settings=Settings(partitions=4),
            catalog=lambda: catalog,
            archive=self.archive,
            appender=self.notes,  # type: ignore[arg-type]
            erasures=self.erasures,
            imports=self.imports,
            maskers=Maskers(lambda: catalog),
            functions={},
            now_ms=lambda: self.now_ms,
            most_bytes=lambda tool: 1000,
        )

    async def take(self, *lines: dict[str, Any], place: int = 1) -> Page:
        row = await self.imports.begin(TENANT, self.tool.tool_id, "test", restart=False)
        texts = [json.dumps(line).encode() for line in lines]
        return await self.importer.take(row, self.tool, texts, {"at": place})

    async def rows(self) -> list[Any]:
        return await self.postgres.fetch(
            "SELECT * FROM events WHERE tool_id = $1 ORDER BY event_id", self.tool.tool_id
        )

    async def stored(self) -> list[str]:
        found = await everything(self.archive, TENANT, self.tool.tool_id)
        return [decode_event(event.envelope).payload.decode() for event in found]


@pytest.fixture
async def house(postgres_url: str, tmp_path: Path, name: str) -> AsyncIterator[House]:
    async with Postgres(postgres_url) as postgres:
        made = House(postgres, tmp_path, name)
        async with made.archive:
            yield made
        await postgres.execute("DELETE FROM erasures")


def line(number: int, age_ms: int = 3_600_000, text: str = "") -> dict[str, Any]:
    return {"received_at": (NOW - age_ms + number), "payload_text": f"{number}{text}"}


LINES = [line(n) for n in range(5)]


async def test_a_page_that_is_broken_off_and_sent_again_is_there_once(house: House) -> None:
    house.notes.crashes = True
    with pytest.raises(CrashError):
        await house.take(*LINES)
    assert len(await house.stored()) == 5
    assert await house.rows() == []
    house.notes.crashes = False
    record = house.imports.record

    async def crashes(*arguments: Any) -> Any:
        raise CrashError

    house.imports.record = crashes  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        await house.take(*LINES)
    house.imports.record = record  # type: ignore[method-assign]
    page = await house.take(*LINES)
    assert (page.counts.imported, page.counts.known) == (5, 0)
    assert page.row["place"] == {"at": 1}
    assert sorted(await house.stored()) == [f"{n}" for n in range(5)]
    assert len(await house.rows()) == 5
    # the answer got lost: it is sent once more
    page = await house.take(*LINES)
    assert (page.counts.imported, page.counts.known) == (0, 5)
    assert len(await house.rows()) == 5


async def test_workers_are_left_a_note_of_what_may_still_be_repeated(house: House) -> None:
    day = 86_400_000
    await house.take(line(1), line(2, age_ms=day + 10), line(3), line(4, text="x"), line(3))
    notes = [decode_event(entry.data) for entry in house.notes.taken]
    rows = {row["message_id"]: row for row in await house.rows()}
    assert len(notes) == 3
    for note in notes:
        row = rows[note.message_id]
        assert note.is_note
        assert (note.payload, dict(note.headers), note.delivery_id) == (b"", {}, "")
        assert (note.event_id, note.dedup_window_ms) == (str(row["event_id"]), day)
        assert note.received_at_ms == int(row["received_at"].timestamp() * 1000)


async def test_an_erasure_that_begins_meanwhile_has_its_way(house: House) -> None:
    await house.take(line(9))
    record = house.imports.record

    async def late(
        tenant: str, import_id: str, place: Any, rows: Sequence[ImportedRow], counts: Counts,
        newest: str,
    ) -> Any:  # fmt: skip
        target = {"tool": house.tool.tool_id}
        await house.erasures.begin(TENANT, TOOL, target, now_ms=NOW)
        house.imports.record = record  # type: ignore[method-assign]
        return await record(tenant, import_id, place, rows, counts, newest)

    house.imports.record = late  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="erasure has begun"):
        await house.take(*LINES)
    # what it may have looked for before is not there
    assert await house.stored() == ["9"]
    assert len(await house.rows()) == 1
    page = await house.take(*LINES)
    assert (page.counts.imported, page.counts.erased) == (0, 5)
    assert await house.stored() == ["9"]


async def test_who_cannot_be_recognised_now_is_not_let_in(house: House) -> None:
    await house.erasures.begin(TENANT, SUBJECT, {}, values=["jane@example.com"], now_ms=NOW)
    page = await house.take(line(1), line(2, text=" jane@example.com"))
    assert (page.counts.imported, page.counts.erased) == (1, 1)
    elsewhere = ErasureStore(house.postgres, SubjectKeys(KeyRing()))
    house.importer._erasures = elsewhere
    with pytest.raises(UnavailableError, match="cannot be had"):
        await house.take(line(3))


async def test_lines_that_are_too_large_are_no_events(house: House) -> None:
    page = await house.take(line(1), line(2, text="x" * 1000))
    assert page.counts.imported == 1
    assert [(one.line, "1000 at most" in one.reason) for one in page.rejected] == [(1, True)]
