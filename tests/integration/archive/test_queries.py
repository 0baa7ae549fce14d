"""What docs/retention.md says of the archive's files: columns, folders, and one line of DuckDB."""

import re
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow.parquet as pq
import pytest
from obstore.fsspec import FsspecStore

from hookstream.app.archive import parquet
from hookstream.app.archive.archive import Archive
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.postgres.pool import Postgres
from tests.support import ROOT
from tests.support.archived import HOUR, T0, archived, store
from tests.support.s3 import BUCKET, S3

PAGE = (ROOT / "docs" / "retention.md").read_text()
SECTION = PAGE.partition("\n## The archive\n")[2].partition("\n## ")[0]


def line(scheme: str) -> str:
    """The query of the page over a folder (``/``), or a bucket (``s3:``)."""
    [found] = re.findall(rf"```sql\n(SELECT[^`]*?'{scheme}[^`]*?)```", SECTION)
    assert found.count("\n") == 1
    return found


class Bucket(FsspecStore):
    """obstore's files, which do not know their own addresses in a pattern."""

    def glob(self, path: str, **options: Any) -> list[str]:
        found: list[str] = super().glob(path.removeprefix("s3://"), **options)
        return [f"s3://{each}" for each in found]


@pytest.fixture
async def folder(postgres: Postgres, tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    async with Archive(
        ArchiveAddress("file", "", str(path)), postgres, cache_bytes=1 << 20
    ) as archive:
        await fill(archive)
    return path


async def fill(archive: Archive) -> None:
    for action, count in (("opened", 3), ("closed", 2)):
        events = [
            archived(
                number,
                at_ms=T0 + 13 * HOUR + number,
                tool_id=f"github-{action}",
                payload=orjson.dumps({"action": action, "number": number}),
            )
            for number in range(count)
        ]
        await store(archive, events, f"github-{action}")
    odd = [archived(9, tool_id="odd", payload=b"\xff\x00 no json")]
    await store(archive, odd, "odd")


async def test_the_line_over_a_folder_answers(folder: Path) -> None:
    asked = line("/").replace("/var/lib/hookstream/archive", str(folder))
    rows = duckdb.sql(asked).fetchall()
    assert rows == [("opened", 3), ("closed", 2)]


async def test_the_line_over_a_bucket_answers(s3: S3, postgres: Postgres) -> None:
    address = ArchiveAddress("s3", BUCKET, "events")
    async with Archive(address, postgres, cache_bytes=1 << 20) as archive:
        await fill(archive)
    asked = line("s3:").replace("s3://bucket/prefix", f"s3://{BUCKET}/events")
    with duckdb.connect() as connection:
        # in place of httpfs, which DuckDB would fetch from its makers
        connection.register_filesystem(Bucket("s3", client_options={"allow_http": True}))
        rows = connection.sql(asked).fetchall()
    assert rows == [("opened", 3), ("closed", 2)]


async def test_payloads_that_are_no_json_are_null(folder: Path) -> None:
    assert "`TRY_CAST(TRY(decode(payload)) AS JSON)`" in SECTION
    rows = duckdb.sql(
        "SELECT count(*), count(TRY_CAST(TRY(decode(payload)) AS JSON)) "
        f"FROM read_parquet('{folder}/**/*.parquet')"
    ).fetchall()
    assert rows == [(6, 5)]


async def test_folders_are_columns(folder: Path) -> None:
    rows = duckdb.sql(
        "SELECT DISTINCT tenant, tool, day::VARCHAR, hour::INT "
        f"FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true) ORDER BY tool"
    ).fetchall()
    assert rows == [
        ("default", "github-closed", "2026-01-01", 13),
        ("default", "github-opened", "2026-01-01", 13),
        ("default", "odd", "2026-01-01", 0),
    ]


async def test_each_column_of_the_page_is_there_as_it_says(folder: Path) -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| ([A-Z]+) \|", SECTION, re.MULTILINE))
    [name] = folder.glob("**/tool=odd/**/*.parquet")
    found = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{name}', hive_partitioning = false)")
    kinds = {
        row[0]: row[1].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
        for row in found.fetchall()
    }
    assert said == kinds
    about = orjson.loads(pq.read_metadata(name).metadata[parquet.METADATA_KEY])
    assert about == {"schema_version": 1, "tenant": "default", "tool_id": "odd"}
    assert f"schema version {parquet.SCHEMA_VERSION}" in SECTION
