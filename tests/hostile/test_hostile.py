"""A short soak: each kind of attack once, all at a time, and nobody honest notices."""

from pathlib import Path

from tests.hostile.attacks import ATTACKS
from tests.hostile.soak import run


async def test_nobody_honest_notices(tmp_path: Path) -> None:
    soak = await run(tmp_path, 12.0, list(ATTACKS), rate=10.0, say=print, pause=30.0)
    assert soak.figures.sent > 50
    assert soak.figures.broken == 0, soak.figures
    assert soak.ended == []
    # memory and time are what `python -m tests.hostile` looks at, on a machine of its own
    assert all(counts.total() for counts in soak.attacks.values()), soak.attacks
