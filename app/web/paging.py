"""Lists in pages: ``limit`` and ``cursor`` of a request, and the ``cursor`` of an answer.

A cursor is for whoever gave it: the name, or time and name, of the last one of a page.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from multidict import MultiMapping

from hookstream.app.errors import BadRequestError
from hookstream.app.web.events import MAX_LIMIT, check_query, parse_limit
from hookstream.app.web.models.fields import PAGE_QUERY

__all__ = ["MOST_SHORT", "asked_page", "moment_cursor", "next_cursor", "parse_moment_cursor"]

#: Most items of a page in which each is long, or takes long.
MOST_SHORT = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def asked_page(query: MultiMapping[str], most: int = MAX_LIMIT) -> tuple[int, str]:
    """How many items a page has, at ``most``, and past which one it begins ("": the first page).

    Raises:
        BadRequestError: a parameter is unknown, or the limit is none.
    """
    check_query(query, PAGE_QUERY)
    return parse_limit(query.get("limit", "50"), most), query.get("cursor", "")


def next_cursor(limit: int, names: Collection[str]) -> str | None:
    """The cursor of the next page, after one of items with these names; None where it is the last.

    A page that is full may be the last one, too: then the next one is empty.
    """
    return list(names)[-1] if len(names) == limit else None


def moment_cursor(at: datetime, name: str) -> str:
    """The place of something that is listed by time: microseconds since 1970, and its name."""
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}.{name}"


def parse_moment_cursor(text: str) -> tuple[datetime, str] | None:
    """What :func:`moment_cursor` made; None for "". Raises BadRequestError for another text."""
    if not text:
        return None
    at, dot, name = text.partition(".")
    # up to the year 5138
    if not (dot and name and at.isascii() and at.isdecimal() and len(at) < 18):
        raise BadRequestError("cursor: from the page before")
    return _EPOCH + timedelta(microseconds=int(at)), name
