"""The batch form's test: no server, no fixtures of Hookstream's."""

import asyncio
from pathlib import Path

import pytest

from examples import sales
from hookstream.testing import run_batch


def test_a_sale_that_comes_again_is_booked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sales, "BOOKS", tmp_path)
    for _ in range(2):
        asyncio.run(run_batch(sales.book, [{"number": 7, "total": 3}, {"number": 8, "total": 5}]))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"7": "3", "8": "5"}
