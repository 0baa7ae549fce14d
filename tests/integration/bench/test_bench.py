"""What the commands ``bench`` and ``plan`` print, and refuse."""

import dataclasses
import json
from pathlib import Path

from hookstream.app.commands.capacity import Figures
from tests.integration.bench.tried import MODEL, hookstream
from tests.unit.commands.test_capacity import ROUND


def test_the_benchmarks_together_give_all_figures_of_the_plan() -> None:
    given = [name for names in MODEL.values() for name in names]
    assert sorted(given) == sorted(field.name for field in dataclasses.fields(Figures))


def test_what_the_command_cannot_do_is_a_sentence(folder: Path) -> None:
    for arguments, hint in (
        (("nothing",), "there is no benchmark 'nothing'"),
        (("ingest", "--quick", "--write"), "not worth keeping"),
        (("ingest", "--full"), "growth --full"),
    ):
        done = hookstream(folder, "bench", *arguments)
        assert done.returncode == 2
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


def test_plan_is_printed_for_people_and_as_json(folder: Path) -> None:
    file = folder / "figures.json"
    measured = {"date": "2026-01-02", "machine": "m", "figures": dataclasses.asdict(ROUND)}
    file.write_text(json.dumps(measured))
    wanted = ("plan", "--rate", "100", "--size", "5000", "--hot", "1h", "--figures", str(file))
    done = hookstream(folder, *wanted)
    assert done.returncode == 0, done.stderr
    assert "Redis memory" in done.stdout
    assert "receivers" in done.stdout
    found = json.loads(hookstream(folder, *wanted, "--json").stdout)
    assert found["plan"]["redis_events_bytes"] == 360_000 * 1000
    assert found["measured"]["machine"] == "m"
    wrong = hookstream(folder, *wanted, "--window", "soon")
    assert (wrong.returncode, "no such" in wrong.stderr) == (2, False)
    assert "duration" in wrong.stderr
