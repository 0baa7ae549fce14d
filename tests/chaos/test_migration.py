"""A short run of the move: all modes forth and back, a drill, kills and an SQS in trouble."""

from pathlib import Path

from tests.chaos.migration import PARTS, Plan, run, table

SHORT = Plan(
    events=450,
    rate=60.0,
    rounds=1,
    kill_seconds=2.0,
    sqs_every_seconds=3.0,
    sqs_seconds=1.0,
    most_hidden_seconds=8.0,
    quiet_seconds=2.0,
)


async def test_nothing_is_lost_doubled_or_overtaken_while_tools_move(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = await run(SHORT, tmp_path, said.append)
    figures = outcome.figures
    # as text: pytest shows all of it
    told = [*figures.examples, figures, outcome.counts, outcome.faults, *said]
    assert not outcome.broken, "\n".join(map(str, told))
    assert figures.accepted >= SHORT.events
    assert figures.by_path.total() == figures.accepted
    # both paths had their share, and keys have changed between them
    assert min(figures.by_path["old"], figures.by_path["ours"]) > 60
    assert outcome.counts["hand-overs"] > 20
    assert sum(outcome.faults[part] for part in PARTS) >= 3
    drill = outcome.drills[0]
    assert drill.keys > 10
    assert 0 < drill.first < 240
    assert "**lost** | **0**" in table(outcome)
