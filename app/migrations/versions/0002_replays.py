"""Replays by filter: their rate and progress; what became of each replayed event."""

from pathlib import Path

from hookstream.app.migrations.run import execute_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the SQL beside this file."""
    execute_file(Path(__file__).with_suffix(".sql"))
