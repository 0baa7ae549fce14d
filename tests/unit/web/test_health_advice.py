"""Whatever is not well says what to do about it."""

import re
from typing import Any

from hookstream.app.web.health_advice import ADVICE, advise
from tests.support import ROOT


def test_every_part_that_the_docs_list_has_advice() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.search(r"\| part \|.*?\n\n", text, re.S)
    assert rows
    named = {
        name for cell in re.findall(r"^\| (`.*?) \|", rows[0], re.M) for name in cell.split(", ")
    }
    listed = {name.strip("`") for name in named}
    assert listed == set(ADVICE)


def test_what_is_not_well_says_what_to_do_and_keeps_what_it_says_itself() -> None:
    parts: dict[str, dict[str, Any]] = {
        "redis": {"status": "refusing"},
        "postgres": {"status": "ok"},
        "spool": {"status": "draining"},
        "workers": {"status": "degraded", "do": "its own"},
        "partitions": {"status": "degraded"},
    }
    advise(parts)
    assert "maxmemory" in parts["redis"]["do"]
    assert "do" not in parts["postgres"]
    assert parts["spool"]["do"].startswith("nothing")
    assert parts["workers"]["do"] == "its own"
    assert parts["partitions"]["do"]
    for status in ("down", "slow", "degraded"):
        part = {"status": status}
        advise({"redis": part})
        assert part["do"]
