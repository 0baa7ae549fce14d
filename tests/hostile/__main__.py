"""``python -m tests.hostile``: hostile beside honest traffic; prints what came of both."""

import argparse
import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.hostile.attacks import ATTACKS
from tests.hostile.soak import Soak, run

BEGIN, END = "<!-- soak -->", "<!-- end of soak -->"
PAGE = Path("docs/bounds.md")


def main() -> int:
    """Run the soak; the exit status is 1 when honest traffic suffered."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=40.0, help="honest events a second")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="NAME")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {PAGE}")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hookstream-hostile-"))
    print(f"logs in {folder}/logs", file=sys.stderr, flush=True)
    outcome = asyncio.run(
        run(folder, options.minutes * 60, options.only, rate=options.rate, say=_say)
    )
    text = table(outcome)
    print(text)
    for line in outcome.wrong():
        print(f"WRONG: {line}")
    if options.write:
        stamp = f"{datetime.now(UTC):%Y-%m-%d}, {options.minutes:g} minutes"
        before, after = PAGE.read_text().split(BEGIN)[0], PAGE.read_text().split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{stamp}.\n\n{END}{after}")
    return int(bool(outcome.wrong()))


def table(outcome: Soak) -> str:
    """The outcome in Markdown: honest traffic, processes, attacks."""
    figures, latency = outcome.figures, outcome.latencies
    text = (
        "| honest events | lost | doubled | out of order | refused | p50 | p99 | slowest |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        f"| {figures.sent} | {figures.lost} | {figures.doubled} | {figures.out_of_order} "
        f"| {figures.refused} | {latency.at(0.5) * 1000:.0f} ms | {latency.at(0.99) * 1000:.0f} ms "
        f"| {latency.at(1.0) * 1000:.0f} ms |\n\n"
        "| process | most memory | first third | last third |\n| --- | ---: | ---: | ---: |\n"
    )
    for name, sizes in sorted(outcome.memory.items()):
        third = max(1, len(sizes) // 3)
        first, last = sizes[:third], sizes[-third:]
        text += (
            f"| {name} | {max(sizes)} MB | {sum(first) // len(first)} MB "
            f"| {sum(last) // len(last)} MB |\n"
        )
    text += "\n| attack | what is done | times | answers |\n| --- | --- | ---: | --- |\n"
    for name, counts in outcome.attacks.items():
        said = "; ".join(f"{said} ({count})" for said, count in counts.most_common(3))
        text += (
            f"| {name} | {(ATTACKS[name].__doc__ or '').strip()} | {counts.total()} | {said} |\n"
        )
    return text


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
