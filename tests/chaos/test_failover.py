"""Short runs of the scenarios that kill a Redis master or PostgreSQL."""

from pathlib import Path

import pytest

from tests.chaos.scenarios import run


async def test_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    outcome = await run("full-disk", tmp_path, short=True)
    assert outcome.figures.broken == 0, outcome
    assert outcome.figures.refused > 0


@pytest.mark.parametrize("name", ["sentinel-kill-master", "cluster-kill-master", "postgres-away"])
async def test_nothing_is_lost_doubled_or_overtaken(tmp_path: Path, name: str) -> None:
    outcome = await run(name, tmp_path, short=True)
    assert outcome.figures.sent > 100
    assert outcome.figures.broken == 0, outcome
    assert outcome.figures.refused == 0
    assert outcome.faults >= 1
