"""What dedup rests on, and finding events by their message id."""

from pathlib import Path

from hookstream.app.migrations.run import execute_file

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the SQL beside this file."""
    execute_file(Path(__file__).with_suffix(".sql"))
