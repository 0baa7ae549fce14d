"""Files of lines are read page by page, and gone on with at the line that comes next."""

import asyncio
import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history import line_files
from hookstream.app.history.line_files import LineFiles
from hookstream.app.history.places import Bucket, files_at, is_bucket

TEXTS = [b'{"n":%d}' % n for n in range(10)]
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": bytes,
    # several members, or frames, are one file
    ".jsonl.gz": lambda data: gzip.compress(data[:23]) + gzip.compress(data[23:]),
    ".jsonl.zst": lambda data: b"".join(
        zstandard.ZstdCompressor().compress(part) for part in (data[:23], data[23:])
    ),
}


def write(folder: Path, name: str, texts: list[bytes], suffix: str = ".jsonl") -> Path:
    path = folder / (name + suffix)
    path.write_bytes(PACK[suffix](b"\r\n".join(texts) + b"\n"))
    return path


async def read(
    paths: list[str], place: dict[str, Any] | None = None, lines: int = 3, size: int = 1 << 20
) -> list[tuple[list[bytes], dict[str, Any]]]:
    """Pages, each with the place behind it."""
    source = LineFiles("x", files_at(paths))
    await source.open(place or {})
    pages, more = [], True
    while more:
        page = await source.page(lines, size)
        more = page.more
        pages.append(([line.text for line in page.lines], page.place))
    assert source.share() == 1.0
    await source.close()
    return pages


@pytest.mark.parametrize("suffix", PACK)
async def test_from_each_place_the_rest_comes_once(tmp_path: Path, suffix: str) -> None:
    paths = [
        str(write(tmp_path, "a", TEXTS[:7], suffix)),
        str(write(tmp_path, "b", [*TEXTS[7:], b"", b"  "], suffix)),
    ]
    pages = await read(paths)
    assert [text for texts, _ in pages for text in texts] == TEXTS
    for at, (_, place) in enumerate(pages):
        rest = [text for texts, _ in await read(paths, place) for text in texts]
        assert rest == [text for texts, _ in pages[at + 1 :] for text in texts]


async def test_what_is_appended_later_comes_with_the_next_run(tmp_path: Path) -> None:
    path = write(tmp_path, "a", TEXTS[:3])
    [(_, _), (_, place)] = await read([str(path)])
    other = write(tmp_path, "b", TEXTS[3:5])
    [(texts, _), *_] = await read([str(path), str(other)], place)
    assert texts == TEXTS[3:5]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("lines", [2, 3, 100])
async def test_a_file_that_grows_is_gone_on_with_where_it_ended(
    tmp_path: Path, suffix: str, lines: int
) -> None:
    """Also where it ended within a line, and where it had less than a file is recognised by."""
    whole = b"\n".join(TEXTS) + b"\n"
    head = whole[: whole.index(TEXTS[3]) + 4]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](head))
    pages = await read([str(path)], lines=lines)
    assert [text for page, _ in pages for text in page] == [*TEXTS[:3], TEXTS[3][:4]]
    place = pages[-1][1]
    # not grown: nothing comes
    assert [page for page, _ in await read([str(path)], place)] == [[]]
    path.write_bytes(path.read_bytes() + PACK[suffix](whole[len(head) :]))
    rest = [text for page, _ in await read([str(path)], place) for text in page]
    assert rest == TEXTS[3:]


async def test_a_file_that_is_written_meanwhile_ends_with_its_last_whole_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"n":0}\n{"n":')
    source = LineFiles("x", files_at([str(path)]))
    assert [line.text for line in (await source.page(2, 1000)).lines] == [b'{"n":0}', b'{"n":']
    with path.open("ab") as file:
        file.write(b'1}\n{"n":2}\n')
    page = await source.page(2, 1000)
    await source.close()
    assert (page.lines, page.more) == ([], False)
    [(rest, _), *_] = await read([str(path)], page.place)
    assert rest == TEXTS[1:3]


async def test_where_nothing_is_new_the_place_stays(tmp_path: Path) -> None:
    path = str(write(tmp_path, "a", TEXTS))
    place = (await read([path]))[-1][1]
    [(texts, again)] = await read([path], place)
    assert (texts, again) == ([], place)


async def test_a_file_that_has_shrunk_is_another_one(tmp_path: Path) -> None:
    long = [b'{"n":"%s"}' % (b"x" * 5000), *TEXTS]
    path = write(tmp_path, "a", long)
    place = (await read([str(path)], lines=8))[0][1]
    assert place["line"] == 8
    write(tmp_path, "a", long[:3])
    with pytest.raises(BadRequestError, match="in line 8: it is another file"):
        await read([str(path)], place)


async def test_places_of_the_release_before_are_understood(tmp_path: Path) -> None:
    path = write(tmp_path, "a", TEXTS)
    place = (await read([str(path)]))[0][1]
    older = {name: place[name] for name in ("file", "line", "offset", "head")}
    rest = [text for page, _ in await read([str(path)], older) for text in page]
    assert rest == TEXTS[3:]
    done = {"file": str(path), "line": 10, "done": True}
    assert [page for page, _ in await read([str(path)], done)] == [[]]


async def test_it_is_packed_as_it_begins_whatever_it_is_called(tmp_path: Path) -> None:
    data = b"\n".join(TEXTS)
    for name, packed in (
        ("a.jsonl", gzip.compress(data)),
        ("b", zstandard.compress(data)),
        # whoever fetched it has unpacked it
        ("c.jsonl.gz", data),
        ("d.zst", b"\xef\xbb\xbf" + data),
        # a frame that is passed over stands before
        ("e.zst", b"\x50\x2a\x4d\x18\x02\x00\x00\x00xx" + zstandard.compress(data)),
        ("f.gz", b""),
    ):
        path = tmp_path / name
        path.write_bytes(packed)
        pages = await read_all(str(path))
        assert pages == (TEXTS if packed else []), name


async def read_all(path: str) -> list[bytes]:
    source = LineFiles("x", files_at([path]))
    await source.look()
    await source.open({})
    page = await source.page(1000, 1 << 20)
    await source.close()
    return [line.text for line in page.lines]


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("a", b"{}")
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        packed.addfile(tarfile.TarInfo("a.jsonl"), io.BytesIO())
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.bz2", bz2.compress(b"{}"), "bzcat"),
        ("a.xz", lzma.compress(b"{}"), "xzcat"),
        ("a.zip", _zip(), "is a zip archive"),
        ("a.tar.gz", _tar(), "is a tar archive"),
        ("a.jsonl", "{}\n".encode("utf-16"), "is UTF-16"),
        ("a.json", b' [\n  {"payload": 1}\n]\n', "begins with \\["),
        ("a.gz", b"<html>", "neither packed, as it is called, nor lines"),
        ("a.zst", b"\x1e\xb5\x2f\xfd", "neither packed, as it is called, nor lines"),
    ],
    # the bytes of archives are others each time
    ids=["bz2", "xz", "zip", "tar", "utf-16", "list", "html", "skippable"],
)
async def test_what_is_no_file_of_lines_is_said_once_and_not_for_each_line(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(BadRequestError, match=says):
        await read_all(str(path))


async def test_a_pipe_is_read_once_and_begins_anew(tmp_path: Path) -> None:
    """As `<(command)` is one: what was looked at for its beginning would be gone."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for data in (b"\n".join(TEXTS), gzip.compress(b"\n".join(TEXTS))):
        writing = asyncio.create_task(asyncio.to_thread(path.write_bytes, data))
        source = LineFiles("x", files_at([str(path)]))
        assert source.share() is None
        await source.look()
        await source.open({"file": "-", "line": 3})
        page = await source.page(1000, 1 << 20)
        await source.close()
        await writing
        assert [line.text for line in page.lines] == TEXTS
        assert page.place == {"file": "-", "line": 10}


async def test_whoever_waits_for_a_pipe_can_leave(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = LineFiles("x", files_at([str(path)]))
    waiting = asyncio.create_task(source.page(10, 1000))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await source.close()
    # the thread that was left ends with it
    path.write_bytes(b"")


async def test_what_unpacks_to_very_much_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 MiB of one character are 8 KiB, less than is read at a time."""
    monkeypatch.setattr(line_files, "MAX_LINE_BYTES", 1 << 20)
    packer = zstandard.ZstdCompressor().compressobj()
    packed = b"".join(packer.compress(b"0" * (1 << 20)) for _ in range(256))
    path = tmp_path / "a.zst"
    path.write_bytes(packed + packer.flush())
    assert path.stat().st_size < 16 * 1024
    source = LineFiles("x", files_at([str(path)]))
    tracemalloc.start()
    page = await source.page(10, 1 << 20)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await source.close()
    assert [line.trouble for line in page.lines] == ["is longer than 1,048,576 bytes"]
    assert most < 100 << 20


async def test_a_page_has_no_more_bytes_than_it_may_and_a_line_that_is_too_long_is_said(
    tmp_path: Path,
) -> None:
    texts = [b"a" * 40, b"b" * 40, b"c" * 500, b"d"]
    path = str(write(tmp_path, "a", texts))
    pages = await read([path], lines=10, size=60)
    assert [text for page, _ in pages for text in page] == texts
    assert [len(page) for page, _ in pages][:2] == [1, 1]
    source = LineFiles("x", files_at([path]))
    source._left = None
    found = []
    while (page := await source.page(10, 60)).more:
        found += page.lines
    found += page.lines
    assert [(line.where.rpartition(":")[2], bool(line.trouble)) for line in found] == [
        ("1", False),
        ("2", False),
        ("3", True),
        ("4", False),
    ]


async def test_the_longest_of_lines_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_files, "MAX_LINE_BYTES", 50)
    path = str(write(tmp_path, "a", [b"x" * 333, b"y"]))
    source = LineFiles("x", files_at([path]))
    page = await source.page(10, 1000)
    assert [(line.where[-2:], line.trouble != "") for line in page.lines] == [
        (":1", True),
        (":2", False),
    ]
    await source.close()


async def test_another_file_of_the_name_is_not_gone_on_with(tmp_path: Path) -> None:
    path = write(tmp_path, "a", TEXTS)
    (_, place), *_ = await read([str(path)])
    write(tmp_path, "a", [b"other", *TEXTS])
    with pytest.raises(BadRequestError, match="another file"):
        await read([str(path)], place)
    with pytest.raises(BadRequestError, match="name it, too"):
        await read([str(write(tmp_path, "b", TEXTS))], place)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
async def test_a_file_that_is_cut_off_says_where(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, "a", [b'{"n":"%s"}' % (b"%d" % n * 50) for n in range(999)], suffix)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(HookstreamError, match="breaks off behind line"):
        await read([str(path)], lines=500)


async def test_a_folder_s_files_come_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "x"
    folder.mkdir(parents=True)
    write(folder, "2", TEXTS[5:])
    write(folder, "1", TEXTS[:5], ".jsonl.gz")
    (folder / ".hidden").write_bytes(b"x")
    url = f"file://{tmp_path}/below"
    assert is_bucket(url)
    pages = await read([url])
    assert [text for texts, _ in pages for text in texts] == TEXTS
    _, place = pages[1]
    rest = [text for texts, _ in await read([url], place) for text in texts]
    assert rest == [text for texts, _ in pages[2:] for text in texts]
    assert Bucket(url).names() == ["x/1.jsonl.gz", "x/2.jsonl"]


async def test_an_address_may_be_that_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a", TEXTS)
    assert await read_all(f"file://{path}") == TEXTS


def test_a_folder_that_is_not_there_is_not_made_by_who_reads_it(tmp_path: Path) -> None:
    missing = tmp_path / "none" / "such"
    with pytest.raises(BadRequestError, match=r"there is nothing at file:///.*: no such folder"):
        files_at([f"file://{missing}"])
    assert list(tmp_path.iterdir()) == []
    Bucket(f"file://{missing}", make=True).put("a", b"x")
    assert (missing / "a").read_bytes() == b"x"


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for wrong, says in (
        ([str(tmp_path)], "is a folder"),
        ([str(tmp_path / "none")], "there is no file"),
        ([str(loop)], "cannot be read"),
        (["a\0b"], "cannot be read"),
        (["s3://"], "names no bucket"),
        ([str(write(tmp_path, "a", TEXTS))] * 2, "named twice"),
    ):
        with pytest.raises(BadRequestError, match=says):
            files_at(wrong)
