"""Agents' keys."""

from typing import Annotated

from pydantic import Field

from hookstream.app.web.models.fields import Id, Model, Strict, Text

__all__ = ["KeyIn", "KeyList", "KeyMade", "KeyOut"]


class KeyIn(Strict):
    """A key for an agent: the contexts that it may read."""

    name: Annotated[Text, Field(max_length=200)] = ""
    contexts: list[Id] = Field(min_length=1, max_length=1000)


class KeyOut(Model):
    """A key as it is listed; the key itself is shown once, when it is made."""

    key_id: str
    name: str
    contexts: list[str]
    created_at: str


class KeyMade(KeyOut):
    """A new key."""

    key: str


class KeyList(Model):
    """A page of the keys of a tenant, the oldest first; ``cursor`` leads to the next."""

    keys: list[KeyOut]
    cursor: str | None
