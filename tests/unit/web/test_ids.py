"""Ids end where they end: no line break passes for the end of one."""

import re

import pytest
from aiohttp.test_utils import make_mocked_request

from hookstream.app.durations import duration_seconds
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.mcp.uris import split_context_uri
from hookstream.app.web.access import path_id
from tests.support import ROOT


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\u2028", " ", "\0"])
def test_an_id_with_anything_behind_it_is_none(end: str) -> None:
    request = make_mocked_request("GET", "/", match_info={"tool_id": f"tool{end}"})
    with pytest.raises(BadRequestError):
        path_id(request, "tool_id")
    with pytest.raises(ValueError, match="a duration"):
        duration_seconds(f"24h{end}")
    with pytest.raises(NotFoundError):
        split_context_uri(f"hookstream://contexts/agent{end}")


def test_nothing_is_checked_by_a_pattern_that_may_end_early() -> None:
    """``re.match`` with ``$`` takes a line break behind the end; ``fullmatch`` does not."""
    for folder in ("app", "agents", "codecs", "tables"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"\bre\.(match|search)\(", path.read_text()), path
