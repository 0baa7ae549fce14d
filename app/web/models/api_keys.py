"""Keys for programs and agents, each with a role."""

from typing import Annotated, Literal

from pydantic import Field

from hookstream.app.web.models.fields import Id, Model, Strict, Text

__all__ = ["ApiKeyIn", "ApiKeyList", "ApiKeyMade", "ApiKeyOut", "RotateIn"]

MOST_GRACE_SECONDS = 30 * 86_400

KeyRole = Literal["owner", "operator", "developer", "auditor", "agent"]


class ApiKeyIn(Strict):
    """A key; ``contexts`` are what one of role ``agent`` may read, and only that has any."""

    name: Annotated[Text, Field(max_length=200)] = ""
    role: KeyRole
    contexts: list[Id] = Field([], max_length=1000)
    expires_at: str | None = Field(
        None, json_schema_extra={"format": "date-time"}, description="a time; null: never"
    )


class RotateIn(Strict):
    """``grace_seconds``: for how long the key before counts beside the new one."""

    grace_seconds: int = Field(86_400, ge=0, le=MOST_GRACE_SECONDS)


class ApiKeyOut(Model):
    """A key as it is listed; the key itself is shown once, when it is made or renewed.

    ``prefix`` is how it begins; ``previous_until``: until when the one before counts.
    """

    key_id: str
    name: str
    role: KeyRole
    contexts: list[str]
    prefix: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    rotated_at: str | None
    previous_until: str | None


class ApiKeyMade(ApiKeyOut):
    """A key that is new."""

    key: str


class ApiKeyList(Model):
    """A page of the keys of a tenant, the oldest first; ``cursor`` leads to the next."""

    keys: list[ApiKeyOut]
    cursor: str | None
