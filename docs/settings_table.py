"""Write the README's table of settings from the settings class; with ``--check`` compare only."""

import sys
from pathlib import Path

from hookstream.app.settings import settings_table

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def renewed(text: str) -> str:
    """``text`` with the table between the markers made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{settings_table()}\n{END}{after}"


if __name__ == "__main__":
    now = README.read_text()
    if "--check" in sys.argv:
        if renewed(now) != now:
            sys.exit("README.md: the table of settings is stale. Run: make docs")
    else:
        README.write_text(renewed(now))
