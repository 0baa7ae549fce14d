"""Whatever a view behind a key does, a call that is no GET leaves a row."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hookstream.app.errors import NotFoundError, UnavailableError
from hookstream.app.postgres.acting import Acting, acting_now
from hookstream.app.web.recorded import recorded, tell

WHO = Acting("admin", "admin", "", "admin", "192.0.2.7", "request", "call")


class Trail:
    """Keeps what it is told; a moment later, as a server would."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    async def called(self, tenant: str, who: Acting, record: dict[str, Any]) -> None:
        await asyncio.sleep(0.01)
        assert (tenant, who) == ("t", WHO)
        self.rows.append(record)


async def call(trail: Trail, view: Any, method: str = "POST", action: str = "") -> Any:
    found: Any = recorded(view, trail, action, lambda _: ("t", WHO))  # type: ignore[arg-type]
    return await found(make_mocked_request(method, "/api/v1/new"))


async def done(request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_view_that_says_nothing_is_recorded(method: str) -> None:
    trail = Trail()
    await call(trail, done, method)
    [row] = trail.rows
    assert row["action"] == "api.called"
    assert row["object"]["id"].startswith(method)


async def test_statements_of_the_view_are_those_of_the_caller() -> None:
    seen: list[str] = []

    async def view(request: web.Request) -> web.Response:
        seen.append(acting_now())
        tell(request, "thing", "x", events=["e"])
        return web.Response()

    trail = Trail()
    await call(trail, view, action="lifecycle.run")
    assert '"call":"call"' in seen[0]
    assert acting_now() == ""
    [row] = trail.rows
    assert (row["action"], row["object"]) == ("lifecycle.run", {"kind": "thing", "id": "x"})
    assert row["events"] == ["e"]


async def test_reading_is_not_recorded_nor_what_the_caller_got_wrong() -> None:
    async def wrong(request: web.Request) -> web.Response:
        raise NotFoundError("no such thing")

    async def also_wrong(request: web.Request) -> web.Response:
        return web.Response(status=409)

    trail = Trail()
    await call(trail, done, "GET")
    with pytest.raises(NotFoundError):
        await call(trail, wrong)
    await call(trail, also_wrong)
    assert trail.rows == []


@pytest.mark.parametrize("error", [UnavailableError("away"), ValueError("a bug")])
async def test_what_broke_off_may_have_done_something(error: Exception) -> None:
    async def broken(request: web.Request) -> web.Response:
        raise error

    trail = Trail()
    with pytest.raises(type(error)):
        await call(trail, broken)
    assert [row["failed"] for row in trail.rows] == [type(error).__name__]


async def test_a_client_that_hangs_up_hides_nothing() -> None:
    trail = Trail()
    begun = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        begun.set()
        await asyncio.sleep(10)
        return web.Response()

    task = asyncio.create_task(call(trail, slow))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert [row["failed"] for row in trail.rows] == ["CancelledError"]
    # and while the row is written
    task = asyncio.create_task(call(trail, done))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.02)
    assert len(trail.rows) == 2
