"""Schemas of payloads, and which tools' payloads must fit one."""

from pathlib import Path

from hookstream.app.migrations.run import execute_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the SQL beside this file."""
    execute_file(Path(__file__).with_suffix(".sql"))
