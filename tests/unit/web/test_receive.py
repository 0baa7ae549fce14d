"""What a webhook for a tool that is not known here is told, and who is asked for that."""

import asyncio
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from hookstream.app.errors import NotFoundError, UnavailableError
from hookstream.app.providers import Answer
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.web import receive
from hookstream.app.web.hot_route import _ready
from hookstream.app.web.receive import EVENT_ID_HEADER, Receiver, _response

MADE = cast(Tool, "a tool")


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again sooner than in earnest, and still later than it answers."""
    monkeypatch.setattr(receive, "RELOAD_SECONDS", 0.1)


class Database:
    """As the catalog of a process: it answers late, with what was so when it was asked."""

    def __init__(self) -> None:
        self.current = Catalog()
        self.tools: dict[str, Tool] = {}
        self.away = False
        self.asked = 0
        self.unreadable: frozenset[str] = frozenset()

    async def refresh(self) -> Catalog:
        self.asked += 1
        found = Catalog(1, 1, dict(self.tools), unreadable_tools=self.unreadable)
        await asyncio.sleep(0.05)
        if self.away:
            raise UnavailableError("PostgreSQL is away")
        self.current = found
        return found


def receiver(database: Database) -> Receiver:
    nothing: Any = None
    return Receiver(
        settings=nothing,
        postgres=nothing,
        catalog=cast(Any, database),
        payloads=nothing,
        appender=nothing,
        refusals=nothing,
        functions={},
        limit=nothing,
        payload_check=nothing,
        fetcher=nothing,
        maskers=nothing,
    )


async def test_a_tool_that_is_made_while_another_is_looked_for_is_found() -> None:
    database = Database()
    door = receiver(database)
    unknown = asyncio.create_task(door._tool("nobody"))
    await asyncio.sleep(0.02)
    assert database.asked == 1
    database.tools["new"] = MADE
    assert await door._tool("new") is MADE
    with pytest.raises(NotFoundError):
        await unknown


async def test_while_nobody_can_be_asked_no_tool_is_told_not_to_be() -> None:
    database = Database()
    database.away = True
    door = receiver(database)
    for _ in range(3):
        answers = await asyncio.gather(
            *(door._tool(f"t{n}") for n in range(5)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [UnavailableError] * 5


async def test_many_that_are_unknown_are_one_question() -> None:
    database = Database()
    door = receiver(database)
    begun = asyncio.get_running_loop().time()
    for _ in range(3):
        answers = await asyncio.gather(
            *(door._tool(f"t{n}") for n in range(100)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {NotFoundError}
    assert database.asked == 3
    assert asyncio.get_running_loop().time() - begun >= 2 * receive.RELOAD_SECONDS


async def test_a_sender_that_gives_up_takes_nobody_s_answer_along() -> None:
    database = Database()
    database.tools["known"] = MADE
    door = receiver(database)
    gone, other = (asyncio.create_task(door._tool("known")) for _ in range(2))
    await asyncio.sleep(0.02)
    gone.cancel()
    assert await other is MADE


async def test_a_tool_that_cannot_be_read_is_not_told_not_to_be() -> None:
    database = Database()
    database.unreadable = frozenset({"new"})
    with pytest.raises(UnavailableError, match="too old"):
        await receiver(database)._tool("new")


@pytest.mark.parametrize("status", [204, 205])
def test_an_answer_without_content_has_none_whatever_its_tool_says(status: int) -> None:
    # it would be taken for the next answer
    said = Answer(status, b"ok", "text/plain")
    answer = _response(said, "an id")
    assert answer.body is None
    assert answer.headers == {EVENT_ID_HEADER: "an id"}
    # on the way past the router, too
    request = make_mocked_request("POST", "/hooks/t")
    head, end, body = _ready(request, said, "an id", "r")._data.partition(b"\r\n\r\n")
    assert (end, body) == (b"\r\n\r\n", b"")
    assert b"\ncontent-type:" not in head.lower()
    assert (b"Content-Length: 0" in head) == (status == 205)
