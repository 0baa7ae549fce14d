"""A person signs in at a provider, uses the API as their role lets them, and signs out."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.browser import browser as chromium
from tests.support.browser import find_chromium
from tests.support.openid_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    StandInProvider,
    stand_in_provider,
)
from tests.support.stack import Stack, eventually, free_port

Here = tuple[str, StandInProvider]


@pytest.fixture
async def here(stack: Stack, tmp_path: Path) -> AsyncIterator[Here]:
    """A process with sign-in, on the servers of others; its address, and the provider."""
    async with stand_in_provider() as provider:
        port = free_port()
        process = stack.another(
            tmp_path / "receiver",
            "receive",
            "--with-api",
            "--web-port",
            str(port),
            HOOKSTREAM_OIDC_ISSUER=provider.issuer,
            HOOKSTREAM_OIDC_CLIENT_ID=CLIENT_ID,
            HOOKSTREAM_OIDC_CLIENT_SECRET=CLIENT_SECRET,
            HOOKSTREAM_OIDC_ROLES="admins=owner,devs=developer",
            HOOKSTREAM_OIDC_TENANT_CLAIM="org",
            HOOKSTREAM_OIDC_ALLOW_PRIVATE="true",
        )
        url = f"http://127.0.0.1:{port}"

        async def ready() -> bool:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"{url}/health/ready") as response,
                ):
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        try:
            await eventually(ready, "the process is ready")
            yield url, provider
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 30)


def browser(url: str) -> aiohttp.ClientSession:
    """One that keeps cookies, also of an address without a name."""
    return aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True))


async def ask(
    session: aiohttp.ClientSession, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.request(method, path, json=body, headers=named) as response:
        if response.content_type.endswith("json"):
            return response.status, await response.json()
        return response.status, await response.text()


async def test_a_person_signs_in_works_and_signs_out(here: Here, stack: Stack, name: str) -> None:
    url, provider = here
    provider.person = {"sub": f"{name}-ada", "name": "Ada", "groups": ["devs"], "org": "default"}
    own = {"Origin": url}
    async with browser(url) as ada, aiohttp.ClientSession(url) as stranger:
        assert (await ask(ada, "GET", "/api/v1/me"))[0] == 401
        status, page = await ask(ada, "GET", "/sign-in")
        assert (status, "Sign in" in page) == (200, True), page
        status, me = await ask(ada, "GET", "/api/v1/me")
        assert (status, me) == (
            200,
            {
                "kind": "person",
                "id": f"{name}-ada",
                "name": "Ada",
                "role": "developer",
                "tenant": "default",
                "contexts": None,
            },
        )
        cookies = {cookie.key: cookie for cookie in ada.cookie_jar}
        assert set(cookies) == {"hookstream_session"}
        session = cookies["hookstream_session"]
        assert (session["httponly"], session["samesite"]) == (True, "Strict")
        # as the role lets them, from the console's own page
        tool = f"/api/v1/tools/{name}"
        assert (await ask(ada, "PUT", tool, {"provider": "none"}, **own))[0] == 201
        assert (await ask(ada, "POST", "/api/v1/replays", {"tool": name}, **own))[0] == 403
        assert (await ask(ada, "GET", "/api/v1/partitions"))[0] == 403
        # a page of another site has the browser's cookie at best
        for headers in ({}, {"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            assert (await ask(ada, "DELETE", tool, **headers))[0] == 403, headers
        # the trail names the person
        rows = (await stack.get("/audit", actor=f"{name}-ada"))["rows"]
        found = {row["record"]["action"]: row["record"] for row in rows}
        assert found["tool.made"]["actor"] == {"kind": "person", "id": f"{name}-ada", "name": "Ada"}
        assert found["tool.made"]["role"] == "developer"

        async def begun() -> bool:
            rows = (await stack.get("/audit", actor=f"{name}-ada", action="session.made"))["rows"]
            return len(rows) == 1

        await eventually(begun, "the sign-in is in the trail")
        # a WebSocket is for pages of ours alone, and ends with the session
        await ask(ada, "PUT", f"/api/v1/contexts/{name}", {}, **own)
        await ask(ada, "PUT", f"/api/v1/contexts/{name}/subscriptions/s", {"tool": name}, **own)
        path = f"/contexts/{name}/updates?after=0"
        for headers in ({}, {"Origin": "https://evil.example"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await ada.ws_connect(path, headers=headers)
            assert refused.value.status == 403
        token = session.value
        async with ada.ws_connect(path, headers=own) as socket:
            await stack.hook(name, b'{"n": 1}')
            assert (await socket.receive_json(timeout=20))["seq"] == 1
            assert (await ask(ada, "POST", "/sign-out"))[0] == 403
            status, ended = await ask(ada, "POST", "/sign-out", **own)
            assert status == 200
            assert ended["end_session"].startswith(f"{provider.issuer}/out?")
            await stack.hook(name, b'{"n": 2}')
            closing = await socket.receive(timeout=20)
            assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        # also for who has kept a copy of the cookie
        stolen = {"Cookie": f"hookstream_session={token}"}
        assert (await ask(stranger, "GET", "/api/v1/me", **stolen))[0] == 401
        assert (await ask(ada, "GET", "/api/v1/me"))[0] == 401


async def test_who_has_no_role_or_no_such_attempt_is_not_let_in(here: Here, stack: Stack) -> None:
    url, provider = here
    for person in ({"groups": ["others"], "org": "default"}, {"groups": ["admins"]}):
        provider.person = {"sub": "eve", **person}
        async with browser(url) as eve:
            status, problem = await ask(eve, "GET", "/sign-in")
            assert (status, problem["type"].rpartition("/")[2]) == (403, "forbidden")
            assert (await ask(eve, "GET", "/api/v1/me"))[0] == 401
    provider.person = {"sub": "ada", "groups": ["admins"], "org": "default"}
    async with browser(url) as ada, browser(url) as eve:
        # somebody is made to come back with another one's code
        async with ada.get("/sign-in", allow_redirects=False) as begun:
            place = begun.headers["Location"]
        async with ada.get(place, allow_redirects=False) as there:
            back = there.headers["Location"]
        assert (await ask(eve, "GET", back))[0] == 401
        async with eve.get("/sign-in", allow_redirects=False):
            pass
        assert (await ask(eve, "GET", back))[0] == 401
        assert (await ask(ada, "GET", back.replace("iss=", "iss=x")))[0] == 401
        assert (await ask(ada, "GET", back.replace("code=", "error=no%0Aways&c=")))[0] == 401
        assert (await ask(ada, "GET", back))[0] == 200
        assert (await ask(ada, "GET", "/api/v1/me"))[1]["role"] == "owner"
    # where no provider is named nobody signs in
    async with aiohttp.ClientSession(stack.url) as session:
        assert (await ask(session, "GET", "/sign-in"))[0] == 404
        assert "Sign in" not in (await ask(session, "GET", "/"))[1]


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install `chromium`")
async def test_who_signs_in_by_a_browser_is_offered_what_their_role_may(
    here: Here, tmp_path: Path
) -> None:
    url, provider = here
    erasures = f"{url}/console/erasures"
    async with chromium(tmp_path / "profile") as page:

        async def says(selector: str, text: str) -> None:
            async def said() -> bool:
                return await page.sees(selector) and text in await page.text(selector)

            await eventually(said, f"{selector} says {text!r}")

        for groups, role, begins in ((["devs"], "developer", False), (["admins"], "owner", True)):
            provider.person = {"sub": "ada", "name": "Ada", "groups": groups, "org": "default"}
            await page.open(erasures)
            assert not await page.sees("[data-may]")
            await page.click("#person a")
            await says("#person", f"Signed in as Ada, {role} of default.")
            await page.open(erasures)
            await says("#state", f"Ada: {role} of default.")
            assert await page.sees("section:has(#policies)")
            offered = {one: await page.sees(one) for one in ("#begin", "#add-policy")}
            assert offered == dict.fromkeys(offered, begins)
            if begins:
                # the session is enough to begin one: the browser says from which page
                await page.type("#values", "nobody.at.all@example.net")
                await page.click("#begin button")
                await says("#state", "It is being counted")
            await page.click("#person button")

            async def left() -> bool:
                return "/out" in await page.run("location.href")

            await eventually(left, "the provider signs out, too")
            assert page.troubles == []
