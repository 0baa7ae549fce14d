"""An archive in a folder and in a bucket, with a manifest of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.objects import Objects
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.postgres.pool import Postgres
from tests.support.s3 import BUCKET, S3

MIB = 1 << 20


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An S3 with one empty bucket, named in the environment as a cloud's is."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    s3_server.empty()
    return s3_server


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    async with Postgres(postgres_url) as postgres:
        for table in ("archive_objects", "archive_covered", "archive_leftovers"):
            await postgres.execute(f"TRUNCATE {table} CASCADE")
        yield postgres


@pytest.fixture(params=["file", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveAddress:
    if request.param == "file":
        return ArchiveAddress("file", "", str(tmp_path / "archive"))
    request.getfixturevalue("s3")
    return ArchiveAddress("s3", BUCKET, "events/here")


@pytest.fixture
async def archive(address: ArchiveAddress, postgres: Postgres) -> AsyncIterator[Archive]:
    async with Archive(address, postgres, cache_bytes=64 * MIB) as archive:
        yield archive


@pytest.fixture
async def in_s3(s3: S3, postgres: Postgres) -> AsyncIterator[Archive]:
    """One whose bucket can be told to fail."""
    address = ArchiveAddress("s3", BUCKET, "")
    objects = Objects(address, timeout_seconds=1.5)
    async with Archive(address, postgres, cache_bytes=64 * MIB, objects=objects) as archive:
        yield archive
