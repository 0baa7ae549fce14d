"""The schemas by buf: as they should be, and of one wire format with what was released."""

from pathlib import Path

import pytest

from hookstream.proto.generate import IMAGE, check_wire, stale_files


def test_schemas_pass_buf_and_break_nothing_that_was_released() -> None:
    assert IMAGE.exists()
    check_wire()
    assert stale_files() == []


def test_change_that_breaks_the_wire_format_is_refused(tmp_path: Path) -> None:
    from hookstream.proto import generate

    for path in generate.PROTO.iterdir():
        if path.suffix in (".proto", ".yaml", ".binpb"):
            text = path.read_bytes().replace(b"string tenant = 3;", b"bytes tenant = 3;")
            (tmp_path / path.name).write_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "PROTO", tmp_path)
        patch.setattr(generate, "IMAGE", tmp_path / generate.IMAGE.name)
        with pytest.raises(SystemExit, match="buf breaking"):
            generate.check_wire()
