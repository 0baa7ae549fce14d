"""Write the tables of ``docs/providers.md`` from the rows; with ``--check`` compare only."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hookstream.app.durations import duration_text
from hookstream.app.providers import ALIASES, PROVIDERS, Provider
from hookstream.app.providers.provider import HOUR

PAGE = Path(__file__).resolve().parent / "providers.md"
#: Those that stand for no sender in particular come last.
GENERAL = ("standard", "generic", "bearer", "basic", "none")


def in_order() -> list[Provider]:
    """The rows as they stand in every table: by title, then those of no sender."""
    named = [row for name, row in PROVIDERS.items() if name not in GENERAL]
    named.sort(key=lambda row: row.title.lower())
    return named + [PROVIDERS[name] for name in GENERAL]


def what_is_set() -> Iterator[str]:
    """What to set at the provider, and what is read of a webhook."""
    yield "| provider | | set at the provider | verified by | event type | delivery id | batch |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in in_order():
        also = [alias for alias, name in ALIASES.items() if name == row.name and "-" not in alias]
        name = f"`{row.name}`" + "".join(f" (also `{alias}`)" for alias in also)
        notes = row.notes
        title = f"[{row.title}]({notes.source})" if notes.source else row.title
        yield (
            f"| {name} | {title} | {notes.setup} | {notes.verified_by} | {notes.type_from} | "
            f"{notes.delivery_from} | {batch(row)} |"
        )


def what_is_answered() -> Iterator[str]:
    """Who is not answered 202 with JSON."""
    yield "| provider | webhook | answer | why |"
    yield "| --- | --- | --- | --- |"
    for row in in_order():
        for what, answer, why in row.notes.answers:
            yield f"| `{row.name}` | {what} | {answer} | {why} |"


def duplicates() -> Iterator[str]:
    """When two webhooks are one event, and how old one may be."""
    yield "| provider | strategy | window | tolerance | sent again | why |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in in_order():
        window = duration_text(row.dedup_window_seconds)
        notes = row.notes
        yield (
            f"| `{row.name}` | {row.dedup_strategy} | {window} | "
            f"{tolerance(row)} | {notes.retries} | {notes.why} |"
        )


def batch(row: Provider) -> str:
    """Where a body has several events, in words."""
    if row.batch is None:
        return row.notes.batch
    return f"{row.batch.said()}: an event each"


def tolerance(row: Provider) -> str:
    """How far a signed time may be off, in words."""
    seconds = row.tolerance_seconds
    if seconds is None:
        return ""
    return f"{seconds // HOUR} h" if seconds % HOUR == 0 else f"{seconds} s"


TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "set": what_is_set,
    "answers": what_is_answered,
    "duplicates": duplicates,
}


def renewed(text: str) -> str:
    """``text`` with the tables between the markers made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- providers: {name} -->\n", f"<!-- /providers: {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            sys.exit(f"docs/providers.md: the marker of the table {name} is missing")
        text = f"{before}{begin}\n" + "\n".join(table()) + f"\n\n{end}{after}"
    return text


if __name__ == "__main__":
    now = PAGE.read_text()
    if "--check" in sys.argv:
        if renewed(now) != now:
            sys.exit("docs/providers.md: the tables are stale. Run: make docs")
    else:
        PAGE.write_text(renewed(now))
