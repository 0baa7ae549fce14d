"""Two catalogs side by side: templates are compiled, and compiled things are not equal."""

from dataclasses import fields
from typing import Any

from hookstream.app.routing.catalog import Catalog
from hookstream.app.summaries.templates import TemplateBook

__all__ = ["comparable"]


def comparable(catalog: Catalog, *, named: bool = True) -> dict[str, Any]:
    """What a catalog says, so that it can be compared; without version and token if not ``named``.

    Templates come in the order in which they are tried.
    """
    found = {field.name: getattr(catalog, field.name) for field in fields(catalog)}
    found["books"] = {tenant: tried(book) for tenant, book in catalog.books.items()}
    found["schemas"] = {name: schema.fingerprint for name, schema in catalog.schemas.items()}
    if not named:
        del found["version"], found["token"]
    return found


def tried(book: TemplateBook) -> dict[str, list[tuple[str, str]]]:
    return {
        provider: [(template.pattern, template.source) for _, _, template in rows]
        for provider, rows in book._by_provider.items()
    }
