"""Write the table of docs/access.md from app/roles.py; with ``--check`` compare only."""

import sys
from collections.abc import Iterator
from pathlib import Path

from hookstream.app.roles import ROUTES, Role

PAGE = Path(__file__).resolve().parent / "access.md"
BEGIN, END = "<!-- roles -->\n", "<!-- /roles -->"


def table() -> Iterator[str]:
    """A row a route: which roles may call it; without a key, anybody."""
    roles = list(Role)
    yield f"| route | {' | '.join(roles)} |"
    yield f"| --- |{' :---: |' * len(roles)}"
    for route, may in ROUTES.items():
        if may.anybody:
            cells = ["anybody"] + [""] * (len(roles) - 1)
        else:
            cells = ["✓" if role in may.roles else "" for role in roles]
        yield f"| `{route}` | {' | '.join(cells)} |"


def renewed(text: str) -> str:
    """``text`` with the table between the markers made anew."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit("docs/access.md: the markers of the table are missing")
    return f"{before}{BEGIN}\n" + "\n".join(table()) + f"\n\n{END}{after}"


if __name__ == "__main__":
    now = PAGE.read_text()
    if "--check" in sys.argv:
        if renewed(now) != now:
            sys.exit("docs/access.md: the table of roles is stale. Run: make docs")
    else:
        PAGE.write_text(renewed(now))
