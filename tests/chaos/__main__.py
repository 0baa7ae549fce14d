"""``python -m tests.chaos``: run the scenarios, print the table, keep it in docs/reliability.md."""

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.scenarios import SCENARIOS, Outcome, run

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
PAGE = Path("docs/reliability.md")
HEAD = (
    "| scenario | what is done | events sent | faults | lost | doubled | out of order | gaps "
    "| refused | slowest recovery |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def main() -> int:
    """Run what was asked for; the exit status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="fewer faults, shorter outages")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"keep the table in {PAGE}")
    options = parser.parse_args()
    outcomes: dict[str, Outcome] = {}
    broken = False
    for name in options.only:
        begun = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="hookstream-chaos-") as folder:
            try:
                outcomes[name] = asyncio.run(
                    run(name, Path(folder), short=options.short, seed=options.seed)
                )
                print(
                    f"{name}: {outcomes[name]} in {time.monotonic() - begun:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
            except AssertionError as error:
                broken = True
                print(f"{name}: FAILED: {error}", file=sys.stderr, flush=True)
    text = table(outcomes)
    print(text)
    if options.write and not broken:
        stamp = f"{datetime.now(UTC):%Y-%m-%d}, seed {options.seed}"
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{stamp}.\n\n{END}{after}")
    return int(broken or any(outcome.figures.broken for outcome in outcomes.values()))


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes in Markdown."""
    rows = HEAD
    for name, outcome in outcomes.items():
        f = outcome.figures
        what = (SCENARIOS[name].act.__doc__ or "").strip()
        rows += (
            f"| {name} | {what} | {f.sent} | {outcome.faults} | {f.lost} | {f.doubled} "
            f"| {f.out_of_order} | {f.gaps} | {f.refused} | {outcome.slowest_seconds:.1f} s |\n"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
