"""A file is there once all of it is; what is broken off leaves nothing."""

import os
from pathlib import Path

import pytest

from hookstream.app.commands.whole_file import WholeFile
from hookstream.app.errors import BadRequestError, HookstreamError


def test_it_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with WholeFile(str(path), new=True, mode=0o600) as whole:
        whole.file.write(b"x")
        assert [one.name for one in tmp_path.iterdir()] == ["a.part"]
        whole.keep()
    assert path.read_bytes() == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_what_is_broken_off_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")

    def broken_off() -> None:
        with WholeFile(str(path)) as whole:
            whole.file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_what_a_kill_has_left_is_written_over_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(b"left from before, and longer")
    part.chmod(0o644)
    with WholeFile(str(tmp_path / "a"), new=True, mode=0o600) as whole:
        whole.file.write(b"new")
        whole.keep()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    with WholeFile(path) as whole:
        with pytest.raises(BadRequestError, match="being written by another"), WholeFile(path):
            pass
        whole.file.write(b"first")
        whole.keep()
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_new_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def overtaken() -> None:
        with WholeFile(str(path), new=True) as whole:
            path.write_bytes(b"of somebody else, meanwhile")
            whole.keep()

    with pytest.raises(BadRequestError, match="is there already"):
        overtaken()
    with pytest.raises(BadRequestError, match="is there already"):
        WholeFile(str(path), new=True).__enter__()
    assert path.read_bytes() == b"of somebody else, meanwhile"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_one_and_a_pipe_is_written_into(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    target.write_bytes(b"before")
    link.symlink_to(target)
    with WholeFile(str(link)) as whole:
        whole.file.write(b"after")
        whole.keep()
    assert link.is_symlink()
    assert target.read_bytes() == b"after"
    reading, writing = os.pipe()
    with WholeFile(f"/dev/fd/{writing}", new=True) as whole:
        whole.file.write(b"x")
        whole.keep()
    os.close(writing)
    assert os.read(reading, 9) == b"x"
    os.close(reading)


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a", "cannot be written: No such file or directory"),
    ):
        with pytest.raises(BadRequestError, match=says), WholeFile(str(path)):
            pass

    def full() -> None:
        with WholeFile("/dev/full") as whole:
            whole.file.write(b"x")
            whole.keep()

    with pytest.raises(HookstreamError, match="/dev/full cannot be written: No space left"):
        full()
