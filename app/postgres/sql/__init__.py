"""SQL statements, a file each."""

from functools import cache
from importlib.resources import files

__all__ = ["statement"]


@cache
def statement(name: str) -> str:
    """The text of ``name.sql``."""
    return files("hookstream.app.postgres.sql").joinpath(f"{name}.sql").read_text()
