"""Files of lines are read page by page, and gone on with at the line that comes next."""

import gzip
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


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    for wrong, says in (
        ([str(tmp_path)], "is a folder"),
        ([str(tmp_path / "none")], "there is no file"),
        (["s3://"], "names no bucket"),
        ([str(write(tmp_path, "a", TEXTS))] * 2, "named twice"),
    ):
        with pytest.raises(BadRequestError, match=says):
            files_at(wrong)
