"""``python -m tests.chaos``: run the scenarios, print the table, keep it in docs/reliability.md.

With ``--random``: faults of all kinds on all parts, drawn from a seed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.faults import KINDS
from tests.chaos.mixed_scenarios import MIXED, run_mixed
from tests.chaos.random_mode import RATE, Run, Wanted, run_seed
from tests.chaos.scenarios import SCENARIOS, Outcome, run

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
#: Behind it no row of the table of seeds may come.
RANDOM_END = "<!-- end of seeds -->"
PAGE = Path("docs/reliability.md")
HEAD = (
    "| scenario | what is done | events sent | faults | lost | doubled | out of order | gaps "
    "| foreign | refused | slowest recovery |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def main() -> int:
    """Run what was asked for; the exit status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    names = [*SCENARIOS, *MIXED]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--short", action="store_true", help="fewer faults, shorter outages")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"keep the table in {PAGE}")
    random = parser.add_argument_group("random mode")
    random.add_argument("--random", action="store_true", help="draw the faults from the seed")
    random.add_argument("--minutes", type=float, default=3.0, help="of faults, for each seed")
    random.add_argument("--seeds", type=int, nargs="+", default=[], help="several, one by one")
    for flag, what in (("--faults", "only these kinds"), ("--without", "not these kinds")):
        random.add_argument(flag, nargs="+", choices=KINDS, default=[], help=what, metavar="KIND")
    random.add_argument("--rate", type=float, default=RATE, help="events a second")
    mode = random.add_mutually_exclusive_group()
    mode.add_argument("--supervised", action="store_true", default=None)
    mode.add_argument("--unsupervised", action="store_false", dest="supervised", default=None)
    options = parser.parse_args()
    if options.list:
        for name, each in [*SCENARIOS.items(), *MIXED.items(), *KINDS.items()]:
            kind = "fault" if name in KINDS else "scenario"
            print(f"{kind:9}{name:26}{(each.act.__doc__ or '').strip()}")
        return 0
    if options.random:
        return random_mode(options)
    outcomes: dict[str, Outcome] = {}
    broken = False
    for name in options.only:
        begun = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="hookstream-chaos-") as folder:
            try:
                runs = run_mixed if name in MIXED else run
                outcomes[name] = asyncio.run(
                    runs(name, Path(folder), short=options.short, seed=options.seed)
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


def random_mode(options: argparse.Namespace) -> int:
    """Run each seed; the exit status is 1 when one of them found something."""
    runs: list[Run] = []
    for seed in options.seeds or [options.seed]:
        wanted = Wanted(
            seed,
            options.minutes,
            options.rate,
            tuple(options.faults),
            options.supervised,
            tuple(options.without),
        )
        folder = Path(tempfile.mkdtemp(prefix=f"hookstream-chaos-{seed}-"))
        say(f"seed {seed}, logs in {folder}/logs")
        outcome = asyncio.run(run_seed(wanted, folder, say))
        runs.append(outcome)
        report(outcome)
        if options.write:
            write_row(outcome)
    return int(any(outcome.failed for outcome in runs))


def write_row(outcome: Run) -> None:
    """Add a run to the table of seeds, whatever came of it."""
    kinds = Counter(fault.kind for fault in outcome.faults)
    drawn = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    mode = "supervised" if outcome.supervised else "unsupervised"
    f = outcome.figures
    page = PAGE.read_text()
    before, after = page.split(RANDOM_END)
    PAGE.write_text(
        f"{before.rstrip()}\n| {datetime.now(UTC):%Y-%m-%d} | {outcome.wanted.seed} | {mode} "
        f"| {outcome.wanted.minutes:g} | {len(outcome.faults)}: {drawn} | {f.sent} | {f.lost} "
        f"| {f.doubled} | {f.out_of_order} | {f.gaps} | {f.foreign} | {outcome.slowest:.1f} s "
        f"| {len(outcome.wrong)} |\n\n{RANDOM_END}{after}"
    )


def report(outcome: Run) -> None:
    """What a person needs to know about a seed."""
    mode = "supervised" if outcome.supervised else "unsupervised"
    say(
        f"seed {outcome.wanted.seed} ({mode}): {len(outcome.faults)} faults in "
        f"{outcome.minutes:.1f} min, {outcome.figures}, longest standstill {outcome.slowest:.1f} s"
    )
    for kind, examples in outcome.broken.examples.items():
        say(f"  {kind}: {outcome.broken.counts[kind]}")
        for example in examples[:5]:
            say(f"    {example}")
    for line in outcome.wrong:
        say(f"  {line}")
    for fault, seconds in outcome.silent.most_common():
        say(f"  warning: /health said ok for {seconds:.0f} s of standstill: {fault}")
    if outcome.failed:
        say(f"FAILED: {outcome.wanted.command()}\n  logs: {outcome.folder}")


def say(text: str) -> None:
    """To standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes in Markdown."""
    rows = HEAD
    for name, outcome in outcomes.items():
        f = outcome.figures
        scenario = MIXED[name] if name in MIXED else SCENARIOS[name]
        what = (scenario.act.__doc__ or "").strip()
        rows += (
            f"| {name} | {what} | {f.sent} | {outcome.faults} | {f.lost} | {f.doubled} "
            f"| {f.out_of_order} | {f.gaps} | {f.foreign} | {f.refused} "
            f"| {outcome.slowest_seconds:.1f} s |\n"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
