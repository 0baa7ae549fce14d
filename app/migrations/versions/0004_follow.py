"""Subscriptions that follow one thing."""

from pathlib import Path

from hookstream.app.migrations.run import execute_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the SQL beside this file."""
    execute_file(Path(__file__).with_suffix(".sql"))
