"""Data keys, as the API tells of them: never the keys themselves."""

from typing import Literal

from hookstream.app.web.models.fields import Model

__all__ = ["DataKeyList", "DataKeyOut", "DataKeysRewrapped", "DataKeysShredded"]


class DataKeyOut(Model):
    """The data key of a month (``2026-11``, UTC), and by which key it is wrapped.

    ``shredded_at``: since when it is destroyed, and what it sealed unreadable. ``missing``: why the
    process that answers cannot have it; "" where it can, or has not needed it.
    """

    key_id: str
    month: str
    wrapped_by: str
    made_at: str
    shredded_at: str | None
    missing: str


class DataKeyList(Model):
    """All data keys of a tenant, the newest month first, and whether new payloads are sealed."""

    tenant: str
    payloads: Literal["clear", "sealed"]
    wraps: str
    data_keys: list[DataKeyOut]


class DataKeysRewrapped(Model):
    """How many data keys were wrapped anew, and by which key."""

    rewrapped: int
    wraps: str


class DataKeysShredded(Model):
    """How many keys of a tenant's month were destroyed."""

    tenant: str
    month: str
    shredded: int
