"""The database's schema, as numbered SQL files that Alembic runs."""

from importlib.resources import files

__all__ = ["latest_revision"]


def latest_revision() -> str:
    """The number of the newest revision here."""
    names = (
        path.name for path in files("hookstream.app.migrations").joinpath("versions").iterdir()
    )
    return max(name[:4] for name in names if name.endswith(".sql"))
