"""A folder for a benchmark."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hs-") as path:
        yield Path(path)
