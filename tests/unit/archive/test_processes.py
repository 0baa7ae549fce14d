"""Workers of one command have one archive, whatever their own state folders are."""

from pathlib import Path

from hookstream.app.commands.processes import _of_its_own
from hookstream.app.settings import load_settings


def test_a_worker_that_is_not_the_first_uses_the_archive_of_the_first(tmp_path: Path) -> None:
    first = load_settings({"HOOKSTREAM_STATE_DIR": str(tmp_path / "a b")})
    second = load_settings(_of_its_own(first, 2))
    assert second.state_path != first.state_path
    assert second.archive_address == first.archive_address
