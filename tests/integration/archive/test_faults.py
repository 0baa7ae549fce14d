"""A folder or bucket that fails: a sentence, and nothing is stored, lost, or taken for gone."""

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from hookstream.app import metrics
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.objects import Objects
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.errors import ArchiveDamagedError, UnavailableError
from hookstream.app.postgres.pool import Postgres
from tests.support.archived import T0, archived, everything, places, store, values
from tests.support.s3 import BUCKET, S3, Application, Fault

DAY = 86_400_000


def only(method: str, fault: Fault) -> Fault:
    """A fault of requests of one method, of objects alone."""

    def chosen(
        environ: dict[str, Any], start: Callable[..., Any], inner: Application
    ) -> Iterable[bytes] | None:
        if environ["REQUEST_METHOD"] != method or not environ["PATH_INFO"].endswith(".parquet"):
            return None
        return fault(environ, start, inner)

    return chosen


def status(line: str) -> Fault:
    def answer(
        environ: dict[str, Any], start: Callable[..., Any], inner: Application
    ) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(line, [("Content-Length", "0")])
        return []

    return answer


def stalls(
    environ: dict[str, Any], start: Callable[..., Any], inner: Application
) -> Iterable[bytes]:
    """Longer than anybody waits for it, and in vain: else it would be done in the next test."""
    time.sleep(2.5)
    return status("503 Slow Down")(environ, start, inner)


def cut(environ: dict[str, Any], start: Callable[..., Any], inner: Application) -> Iterable[bytes]:
    """The connection ends after half of the body."""
    body = b"".join(inner(environ, start))
    yield body[: len(body) // 2]
    raise ConnectionError("cut")


def flipped(
    environ: dict[str, Any], start: Callable[..., Any], inner: Application
) -> Iterable[bytes]:
    """One bit of the body is another."""
    body = bytearray(b"".join(inner(environ, start)))
    body[len(body) // 2] ^= 1
    yield bytes(body)


FAULTS = {
    "500": status("500 Internal Server Error"),
    "503": status("503 Slow Down"),
    "403": status("403 Forbidden"),
    "stalls": stalls,
    "cut": cut,
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_a_store_that_fails_stores_nothing_and_can_be_repeated(
    in_s3: Archive, s3: S3, method: str, name: str
) -> None:
    events = [archived(number) for number in range(5)]
    errors = metrics.ARCHIVE_ERRORS.labels(method.lower())
    before = errors._value.get()
    with s3.failing(only(method, FAULTS[name])):
        if (method, name) != ("PUT", "cut"):
            with pytest.raises(UnavailableError, match="cannot be used now"):
                await store(in_s3, events)
            assert errors._value.get() == before + 1
            assert await in_s3.holds(places(events)) == [False] * 5
            assert (await in_s3.totals()).objects == 0
            assert await in_s3.delete_leftovers() == 0
    assert len(await store(in_s3, events)) == 1
    assert values(await in_s3.find(places(events))) == values(e.envelope for e in events)
    # under one name, whatever had been begun
    assert len([found async for found in in_s3.objects.list()]) == 1


async def test_what_comes_back_otherwise_is_not_stored(in_s3: Archive, s3: S3) -> None:
    events = [archived(number) for number in range(5)]
    with s3.failing(only("GET", flipped)), pytest.raises(ArchiveDamagedError, match="checksum"):
        await store(in_s3, events)
    assert await in_s3.holds(places(events)) == [False] * 5
    assert len(await store(in_s3, events)) == 1


async def test_what_is_written_otherwise_is_not_stored(in_s3: Archive, s3: S3) -> None:
    def eats(
        environ: dict[str, Any], start: Callable[..., Any], inner: Application
    ) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start("200 OK", [("Content-Length", "0"), ("ETag", '"x"')])
        return []

    events = [archived(0)]
    with s3.failing(only("PUT", eats)), pytest.raises(ArchiveDamagedError, match="is missing"):
        await store(in_s3, events)
    assert await in_s3.holds(places(events)) == [False]


@pytest.mark.parametrize("name", FAULTS)
async def test_a_find_that_fails_says_so_and_not_that_there_is_nothing(
    in_s3: Archive, s3: S3, name: str
) -> None:
    events = [archived(number) for number in range(5)]
    await store(in_s3, events)
    with s3.failing(only("GET", FAULTS[name])):
        with pytest.raises(UnavailableError, match="cannot be used now"):
            await in_s3.find(places(events))
        with pytest.raises(UnavailableError):
            await everything(in_s3)
        # the manifest alone knows that
        assert await in_s3.holds(places(events)) == [True] * 5
    assert values(await in_s3.find(places(events))) == values(e.envelope for e in events)


@pytest.mark.parametrize("name", ["500", "403", "stalls"])
async def test_what_cannot_be_deleted_now_is_deleted_later(
    in_s3: Archive, s3: S3, name: str
) -> None:
    await store(in_s3, [archived(number) for number in range(5)])

    def fails(
        environ: dict[str, Any], start: Callable[..., Any], inner: Application
    ) -> Iterable[bytes] | None:
        deletes = environ["REQUEST_METHOD"] == "DELETE" or "delete" in environ["QUERY_STRING"]
        return FAULTS[name](environ, start, inner) if deletes else None

    with s3.failing(fails), pytest.raises(UnavailableError):
        await in_s3.expire("default", "github", T0 + DAY)
    totals = await in_s3.totals()
    assert (totals.objects, totals.leftovers) == (0, 1)
    assert await in_s3.delete_leftovers() == 1
    assert [found async for found in in_s3.objects.list()] == []


async def test_a_bucket_that_is_not_there_is_no_empty_bucket(in_s3: Archive, s3: S3) -> None:
    events = [archived(number) for number in range(5)]
    await store(in_s3, events)
    s3.drop()
    for asked in (
        in_s3.find(places(events)),
        everything(in_s3),
        store(in_s3, [archived(7)]),
        in_s3.expire("default", "github", T0 + DAY),
    ):
        with pytest.raises(UnavailableError, match="cannot be used now"):
            await asked
    # nothing of what was to be deleted is taken for deleted
    assert (await in_s3.totals()).leftovers == 1
    with pytest.raises(UnavailableError):
        [found async for found in in_s3.verify()]


async def test_nobody_listens(postgres: Postgres, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        address = ArchiveAddress("s3", BUCKET, "")
        objects = Objects(address, timeout_seconds=1.5)
        async with Archive(address, postgres, cache_bytes=1 << 20, objects=objects) as archive:
            with pytest.raises(UnavailableError, match="s3://hookstream cannot be used now"):
                await store(archive, [archived(0)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "nonsense"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999"),
        ("AWS_SECRET_ACCESS_KEY", "secret\n"),
        ("AWS_REGION", "us\neast"),
    ],
)
async def test_what_the_library_would_end_in_panic_over_is_unavailable(
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
) -> None:
    for one, given in (*s3.environ.items(), (name, value)):
        monkeypatch.setenv(one, given)
    objects = Objects(ArchiveAddress("s3", BUCKET, ""))
    with pytest.raises(UnavailableError, match=r"\(open: Value\)"):
        await objects.check(empty=False)
    assert name in caplog.text
    assert "secret" not in caplog.text


async def test_wrong_credentials_are_said_without_saying_them(
    in_s3: Archive, s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(
        environ: dict[str, Any], start: Callable[..., Any], inner: Application
    ) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        start("403 Forbidden", [("Content-Length", str(len(body)))])
        return [body]

    kind = "SignatureDoesNotMatch"
    with s3.failing(refused), pytest.raises(UnavailableError, match=kind) as error:
        await store(in_s3, [archived(0)])
    assert in_s3.objects.trouble.endswith(f": {kind}")
    await store(in_s3, [archived(0)])
    assert in_s3.objects.trouble == ""
    for said in (str(error.value), caplog.text):
        assert "secret" not in said
    assert kind in caplog.text


async def test_a_bucket_that_is_not_there_is_seen_before_anything_is_stored(
    in_s3: Archive, s3: S3
) -> None:
    await in_s3.check()
    assert in_s3.objects.trouble == ""
    s3.drop()
    with pytest.raises(UnavailableError, match=r"\(list: NoSuchBucket\)"):
        await in_s3.check()
    assert in_s3.objects.trouble == "list: NoSuchBucket"
    s3.empty()
    await in_s3.check()
    assert in_s3.objects.trouble == ""


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveAddress:
    return ArchiveAddress("file", "", str(tmp_path / "archive"))


@pytest.fixture
def full(folder: ArchiveAddress) -> Iterator[Path]:
    """A file system of 64 KiB for the archive, on machines that let this user make one."""
    path = Path(folder.path)
    path.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k,mode=700 tmpfs {path} 2>/dev/null"):
        pytest.skip("this user cannot mount a file system")
    yield path
    os.system(f"umount -l {path}")


async def test_a_full_disk_stores_nothing_and_leaves_no_half(
    postgres: Postgres, folder: ArchiveAddress, full: Path
) -> None:
    async with Archive(folder, postgres, cache_bytes=1 << 20) as archive:
        small, large = [archived(0)], [archived(1, payload=os.urandom(200_000))]
        await store(archive, small)
        with pytest.raises(UnavailableError, match="cannot be used now"):
            await store(archive, large)
        assert await archive.holds(places([*small, *large])) == [True, False]
        assert values(await archive.find(places(small))) == values([small[0].envelope])
        left = sum(path.stat().st_size for path in full.rglob("*") if path.is_file())
        assert left == (await archive.totals()).bytes
        # with room again the same call does it
        os.system(f"mount -o remount,size=1m {full}")
        assert len(await store(archive, large)) == 1


async def test_a_folder_that_is_away_is_not_an_empty_one(
    postgres: Postgres, folder: ArchiveAddress
) -> None:
    async with Archive(folder, postgres, cache_bytes=1 << 20) as archive:
        await store(archive, [archived(0)])
        Path(folder.path).rename(f"{folder.path}.away")
        for asked in (
            archive.check(),
            archive.find(places([archived(0)])),
            archive.expire("default", "github", T0 + DAY),
        ):
            with pytest.raises(UnavailableError, match="is its disk there"):
                await asked
        assert (await archive.totals()).leftovers == 1
        assert "is its disk there" in archive.objects.trouble
        Path(f"{folder.path}.away").rename(folder.path)
        await archive.check()
        assert archive.objects.trouble == ""
        assert await archive.delete_leftovers() == 1


async def test_a_folder_that_cannot_be_written_is_said(
    postgres: Postgres, folder: ArchiveAddress
) -> None:
    Path(folder.path).write_text("no folder")
    async with Archive(folder, postgres, cache_bytes=1 << 20) as archive:
        with pytest.raises(UnavailableError, match="cannot be used"):
            await store(archive, [archived(0)])


async def test_what_is_stored_is_on_the_disk_before_the_manifest_says_so(
    postgres: Postgres, folder: ArchiveAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        fsync(number)

    async with Archive(folder, postgres, cache_bytes=1 << 20) as archive:
        monkeypatch.setattr(os, "fsync", noted)
        finish = archive.manifest.finish

        async def then(*arguments: Any) -> bool:
            name = arguments[2][0].name
            path = Path(folder.path, name)
            # the file, and each folder up to the archive's own
            assert [str(each) for each in (path, *list(path.parents)[:5])] == synced
            return await finish(*arguments)

        monkeypatch.setattr(archive.manifest, "finish", then)
        assert len(await store(archive, [archived(0)])) == 1


async def test_a_disk_that_does_not_sync_stores_nothing(
    postgres: Postgres, folder: ArchiveAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(number: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with Archive(folder, postgres, cache_bytes=1 << 20) as archive:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", broken)
            with pytest.raises(UnavailableError):
                await store(archive, [archived(0)])
        assert await archive.holds(places([archived(0)])) == [False]
        assert len(await store(archive, [archived(0)])) == 1


async def test_postgresql_away_is_unavailable(
    postgres: Postgres, folder: ArchiveAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Archive(folder, postgres, cache_bytes=1 << 20) as archive:
        events = [archived(0)]
        await store(archive, events)
        async with Postgres("postgresql://127.0.0.1:1/nothing") as away:
            monkeypatch.setattr(archive.manifest, "_postgres", away)
            for asked in (
                store(archive, events),
                archive.find(places(events)),
                archive.holds(places(events)),
                archive.covered("default", "github", 3, [(f"{T0}-0", f"{T0}-0")]),
                everything(archive),
                archive.expire("default", "github", T0 + DAY),
                archive.compact(T0 + DAY),
                archive.totals(),
            ):
                with pytest.raises(UnavailableError):
                    await asked


async def test_who_gives_up_waiting_takes_nothing_from_the_others(in_s3: Archive, s3: S3) -> None:
    events = [archived(number) for number in range(5)]
    await store(in_s3, events)
    asked, go_on = threading.Event(), threading.Event()

    def waits(
        environ: dict[str, Any], start: Callable[..., Any], inner: Application
    ) -> Iterable[bytes] | None:
        asked.set()
        go_on.wait(10)
        return None

    with s3.failing(only("GET", waits)):
        first = asyncio.ensure_future(in_s3.find(places(events)))
        second = asyncio.ensure_future(in_s3.find(places(events)))
        await asyncio.to_thread(asked.wait, 10)
        first.cancel()
        go_on.set()
        assert values(await second) == values(e.envelope for e in events)
    assert first.cancelled()


def test_obstore_is_asked_by_its_public_names() -> None:
    for name in ("put_async", "get_async", "get_range_async", "head_async", "delete_async", "list"):
        assert callable(getattr(obstore, name))
