"""Pages of stages: which paths they may have."""

from pathlib import Path
from typing import Any

import pytest

from hookstream.app.application import Hookstream
from hookstream.app.errors import SettingsError
from hookstream.app.settings import Settings

HERE = Path(__file__).name


@pytest.fixture
def app(own_settings: Settings) -> Hookstream:
    return Hookstream(own_settings)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("counts", "begin with '/' and a name"),
        ("/", "begin with '/' and a name"),
        ("/{any}", "begin with '/' and a name"),
        ("/a/{b", "cannot be"),
    ],
)
def test_a_path_that_cannot_be_is_refused(app: Hookstream, path: str, says: str) -> None:
    with pytest.raises(SettingsError, match=rf"{HERE}:\d+\) .*{says}"):

        @app.page(path)
        async def page(page: Any, request: Any) -> None: ...


def test_two_pages_of_one_path_are_refused_with_both_places(app: Hookstream) -> None:
    @app.page("/counts")
    async def first(page: Any, request: Any) -> None: ...

    with pytest.raises(SettingsError, match=rf"two pages have .*{HERE}:\d+ and .*{HERE}:\d+"):

        @app.page("/counts")
        async def second(page: Any, request: Any) -> None: ...
