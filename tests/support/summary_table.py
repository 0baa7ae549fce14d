"""The table of docs/summaries.md: what the summaries of each provider's fixtures are like.

``python -m tests.support.summary_table`` prints it; ``--updates`` what whole updates cost, the
lines and their facts; ``--write`` keeps it in the page (``make docs``), ``--check``
says whether it is kept there as it is. Summaries are those of
``expected.toml``, which ``tests/unit/providers/test_fixtures.py`` compares with what is made.
"""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import orjson

from hookstream.app.summaries.tokens import count_tokens
from tests.support import ROOT
from tests.support.kept_table import KeptTable
from tests.support.summary_rules import broken, has_link, names_somebody
from tests.unit.providers.test_fixtures import cases, each_of, events_of, expected, payload_of

__all__ = ["Row", "renewed", "rows", "table"]

PAGE = ROOT / "docs" / "summaries.md"


@dataclass
class Row:
    """What is counted of one provider's fixtures; tokens are those of the lines."""

    provider: str
    tokens: list[int] = field(default_factory=list)
    links: int = 0
    people: int = 0
    keys: int = 0
    broken: int = 0

    def add(self, other: "Row") -> None:
        """Count the other's fixtures, too."""
        self.tokens += other.tokens
        self.links += other.links
        self.people += other.people
        self.keys += other.keys
        self.broken += other.broken

    def line(self) -> str:
        """As a line of the table."""
        count = len(self.tokens)
        shares = (f"{100 * part / count:.0f}" for part in (self.links, self.people, self.keys))
        median = f"{statistics.median(self.tokens):.0f}"
        cells = (self.provider, count, *shares, median, max(self.tokens), self.broken)
        return f"| {' | '.join(map(str, cells))} |"


@cache
def rows() -> tuple[Row, ...]:
    """A row for each provider that has fixtures, and one for all of them."""
    found: dict[str, Row] = {}
    for name, file in cases():
        # of a batch the first event stands for all: n is of payloads
        wanted, payload = events_of(expected(name)[file])[0], payload_of(name, file)
        summary = wanted["summary"]
        row = found.setdefault(name, Row(f"`{name}`"))
        row.tokens.append(count_tokens(summary))
        row.links += has_link(summary)
        row.people += names_somebody(summary, payload)
        row.keys += bool(wanted["keys"])
        row.broken += bool(broken(summary, payload, wanted["type"]))
    every = Row(f"all {len(found)}")
    for row in found.values():
        every.add(row)
    return (*found.values(), every)


def table() -> Iterator[str]:
    """Lines of Markdown."""
    yield "| provider | n | link % | who % | key % | tokens, median | tokens, most | broken |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield from (row.line() for row in rows())


def updates() -> Iterator[str]:
    """What the updates of all fixtures cost, and how much of their facts the lines say."""
    lines, wholes, shorter = [], [], []
    for name, file in cases():
        for found in each_of(name, file, expected(name)[file]):
            line, facts = found["summary"], found["data"]
            rest = {key: value for key, value in facts.items() if str(value) not in line}
            lines.append(count_tokens(line))
            wholes.append(found["tokens"])
            shorter.append(lines[-1] + (count_tokens(orjson.dumps(rest).decode()) if rest else 0))
    yield f"{len(lines)} updates"
    for what, tokens in (
        ("lines", lines),
        ("lines and facts", wholes),
        ("lines and facts that they do not say word for word", shorter),
    ):
        yield f"{what}: {sum(tokens)} tokens, median {statistics.median(tokens):.0f}"


KEPT = KeptTable(PAGE, "fixtures", table)
renewed = KEPT.renewed

if __name__ == "__main__":
    if "--write" in sys.argv:
        KEPT.write()
    elif "--check" in sys.argv:
        KEPT.check()
    else:
        print("\n".join(updates() if "--updates" in sys.argv else table()))
