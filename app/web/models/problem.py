"""An error."""

from hookstream.app.web.models.fields import Model

__all__ = ["Problem"]


class Problem(Model):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
