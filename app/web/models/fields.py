"""What all of them are made of: ids, texts, durations, and a page's query."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "DURATION_PATTERN",
    "ID_PATTERN",
    "PAGE_QUERY",
    "SHORT_QUERY",
    "Duration",
    "Id",
    "Kind",
    "Model",
    "Priority",
    "Strict",
    "Text",
    "duration_seconds",
    "duration_text",
]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
DURATION_PATTERN = r"^[1-9][0-9]{0,7}[smhd]$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Priority = Literal["critical", "high", "normal", "low"]
Kind = Literal["update", "digest", "daily"]


def duration_seconds(text: str) -> int:
    """Seconds in a duration such as ``24h``. Raises ValueError for another form."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError("a duration is a whole number and s, m, h or d, as in 24h")
    return int(text[:-1]) * _UNITS[text[-1]]


def duration_text(seconds: int) -> str:
    """``seconds`` in hours where it is whole hours, else minutes, else seconds."""
    for unit in ("h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be stored")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["24h"])]
Id = Annotated[str, Field(pattern=ID_PATTERN)]


class Model(BaseModel):
    """Validators are built with the first request that needs them, not with each process."""

    model_config = ConfigDict(defer_build=True)


class Strict(Model):
    """Unknown fields are an error: a misspelt one would silently do nothing."""

    model_config = ConfigDict(extra="forbid")


PAGE_QUERY: dict[str, dict[str, object]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "description": "From the page before."},
}
#: A key names up to a thousand contexts, and of a replay many events are counted.
SHORT_QUERY: dict[str, dict[str, object]] = {
    **PAGE_QUERY,
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
}
