"""Short runs of the scenarios that kill or stop workers."""

from pathlib import Path

import pytest

from tests.chaos.scenarios import run


@pytest.mark.parametrize(
    "name", ["kill-worker", "zombie-worker", "corrupt-table", "poison", "clock-off"]
)
async def test_nothing_is_lost_doubled_or_overtaken(tmp_path: Path, name: str) -> None:
    outcome = await run(name, tmp_path, short=True)
    assert outcome.figures.sent > 100
    assert outcome.figures.broken == 0, outcome
    assert outcome.faults >= 1
