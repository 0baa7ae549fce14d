"""What is remembered of partitions, to notice that Redis has lost data."""

from pathlib import Path

from hookstream.app.migrations.run import execute_file

revision = "0012"
down_revision = "0010"


def upgrade() -> None:
    """Run the SQL beside this file."""
    execute_file(Path(__file__).with_suffix(".sql"))
