"""Summary templates."""

from typing import Annotated

from pydantic import ConfigDict, Field

from hookstream.app.web.models.fields import Model, Strict, Text

__all__ = [
    "PreviewLine",
    "TemplateIn",
    "TemplateList",
    "TemplateOut",
    "TemplatePreview",
    "TemplateVersion",
]


class TemplateIn(Strict):
    """A summary template for the events of a provider whose type fits the glob ``types``."""

    provider: Annotated[Text, Field(max_length=64)]
    types: Annotated[Text, Field(min_length=1, max_length=200)] = "*"
    template: Annotated[Text, Field(min_length=1, max_length=4096)]


class TemplateVersion(TemplateIn):
    """A template as it is, or once was."""

    model_config = ConfigDict(extra="ignore")

    name: str
    version: int
    created_at: str


class TemplateOut(TemplateVersion):
    """A template with a page of its history, the newest version first; ``cursor`` leads on."""

    versions: list[TemplateVersion]
    cursor: str | None


class TemplateList(Model):
    """A page of a tenant's own templates, and all that come along; ``cursor`` leads to the next."""

    templates: list[TemplateVersion]
    builtin: list[TemplateIn]
    cursor: str | None


class PreviewLine(Model):
    """What a template would say of a past event."""

    event_id: str
    type: str
    summary: str
    tokens: int
    template: str


class TemplatePreview(Model):
    """A template tried on the newest events."""

    examined: int
    events: list[PreviewLine]
