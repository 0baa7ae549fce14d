"""Pages of other sites, over HTTP: what they may not do, and what answers tell browsers."""

import json
import secrets

import aiohttp
import pytest

from tests.support.stack import Stack, eventually

pytestmark = pytest.mark.browser

SECRET = secrets.token_hex(16)
EVIL = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://evil.example:6066", "Host": "evil.example:6066"},
]


@pytest.mark.parametrize("provider", ["none", "basic"])
async def test_a_page_cannot_post_where_a_browser_has_all_it_needs(
    stack: Stack, name: str, provider: str
) -> None:
    tool = {"provider": provider, "secrets": [f"ada:{SECRET}"] if provider == "basic" else []}
    await stack.put(f"/tools/{name}", tool)
    login = aiohttp.encode_basic_auth("ada", SECRET) if provider == "basic" else "none"
    async with aiohttp.ClientSession(stack.url, headers={"Authorization": login}) as session:
        for headers in EVIL:
            for kind in ("text/plain", "application/x-www-form-urlencoded"):
                async with session.post(
                    f"/hooks/{name}", data=b"{}", headers={**headers, "Content-Type": kind}
                ) as answer:
                    problem = await answer.json(content_type=None)
                    assert answer.status == 403, headers
                    assert problem["type"].endswith("/other-site")
                    assert "HOOKSTREAM_PUBLIC_URL" in problem["detail"]
        for headers in ({}, {"Origin": stack.url, "Sec-Fetch-Site": "same-origin"}):
            async with session.post(f"/hooks/{name}", data=b"{}", headers=headers) as answer:
                assert answer.status == 202

    async def kept() -> bool:
        found = (await stack.get(f"/tools/{name}/refusals"))["refusals"]
        return {(one["status"], one["reason"]) for one in found} == {(403, "other-site")}

    await eventually(kept, "the refusals can be looked at")


async def test_a_signed_webhook_comes_from_wherever_it_comes(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "bearer", "secrets": [SECRET]})
    headers = {"Authorization": f"Bearer {SECRET}", **EVIL[0]}
    async with (
        aiohttp.ClientSession(stack.url, headers=headers) as session,
        session.post(f"/hooks/{name}", data=b"{}") as answer,
    ):
        assert answer.status == 202


async def test_a_page_cannot_change_schemas_with_a_remembered_password(stack: Stack) -> None:
    login = aiohttp.encode_basic_auth("any", stack.key)
    async with aiohttp.ClientSession(stack.url, headers={"Authorization": login}) as session:
        for headers in EVIL[:4]:
            async with session.put(
                "/registry/mode", data=b'{"mode": "READONLY"}', headers=headers
            ) as answer:
                assert answer.status == 403
                assert (await answer.json(content_type=None))["error_code"] == 403
        async with session.get("/registry/subjects", headers={"Origin": stack.url}) as answer:
            assert answer.status == 200


async def test_an_origin_that_is_none_is_refused_by_mcp_and_no_500(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url, headers=stack.headers) as session:
        for origin in ("http://[", "http://[::1", "null", "https://evil.example"):
            async with session.post("/mcp", data=b"{}", headers={"Origin": origin}) as answer:
                assert answer.status == 403


async def test_no_answer_is_guessed_at_or_kept(stack: Stack, name: str) -> None:
    async with stack.session() as session:
        for method, path in (
            ("GET", "/api/v1/tools"),
            ("GET", "/api/v1/nothing"),
            ("GET", "/api/v1/openapi.json"),
            ("GET", "/registry/subjects"),
            ("POST", "/mcp"),
            ("POST", f"/hooks/{name}"),
            ("GET", "/health"),
            ("GET", "/metrics"),
        ):
            async with session.request(method, path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff", path
                assert answer.headers["Cache-Control"] == "no-store", path
        async with session.get("/") as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_an_id_with_a_line_break_is_refused_by_every_route(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "bearer", "secrets": [SECRET]})
    await stack.put(f"/contexts/{name}", {})
    tool = {"provider": "none"}
    async with stack.session() as session:
        for path, body in (
            (f"/tools/{name}%0A", tool),
            (f"/contexts/{name}%0A", {}),
            (f"/contexts/{name}/subscriptions/s%0A", {"tool": name}),
            (f"/contexts/{name}/subscriptions/s", {"tool": f"{name}\n"}),
        ):
            async with session.put(f"/api/v1{path}", data=json.dumps(body)) as answer:
                assert answer.status == 400, path
        async with session.post(f"/hooks/{name}%0A", data=b"{}") as answer:
            assert answer.status == 404


async def test_a_guessable_secret_is_refused_and_a_weak_one_is_counted(
    stack: Stack, name: str
) -> None:
    async with (
        stack.session() as session,
        session.put(
            f"/api/v1/tools/{name}", json={"provider": "github", "secrets": ["secret"]}
        ) as answer,
    ):
        assert answer.status == 400
        assert "openssl rand" in (await answer.json(content_type=None))["detail"]
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": ["s3cret", SECRET]})
    shown = await stack.get(f"/tools/{name}")
    assert (shown["secret_count"], shown["weak_secret_count"]) == (2, 1)
