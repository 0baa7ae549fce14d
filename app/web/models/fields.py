"""What all of them are made of: ids, texts, durations, and a page's query."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hookstream.app.durations import DURATION_PATTERN

__all__ = [
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
]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Priority = Literal["critical", "high", "normal", "low"]
Kind = Literal["update", "digest", "daily", "erased"]


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
