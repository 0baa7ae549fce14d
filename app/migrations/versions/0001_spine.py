"""Tools, contexts, subscriptions; events, deliveries, replays."""

from pathlib import Path

from hookstream.app.migrations.run import execute_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL beside this file."""
    execute_file(Path(__file__).with_suffix(".sql"))
