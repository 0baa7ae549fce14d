"""Who sends, through which proxy, and which address it called: over real sockets of both kinds."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import pytest

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.settings import load_settings
from tests.support import ROOT
from tests.support.stack import Stack, eventually, fresh

PAYLOAD = ROOT / "examples" / "payloads" / "twilio-message.form"
TOKEN = "the account's auth token"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system that believes a proxy on this machine."""
    with Stack(
        tmp_path_factory.mktemp("proxied"),
        HOOKSTREAM_WEB_HOST="::" if has_ipv6() else "127.0.0.1",
        HOOKSTREAM_TRUSTED_PROXIES="127.0.0.1,::1/128",
        HOOKSTREAM_LOG_REPEATS_PER_MINUTE="0",
    ) as running:
        yield running


async def post(
    url: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None, method: str = "POST"
) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text and "json" in response.content_type else {}


async def refusals(stack: Stack, tool: str, count: int) -> list[dict[str, Any]]:
    async def enough() -> Any:
        found = (await stack.get(f"/tools/{tool}/refusals"))["refusals"]
        return len(found) >= count and found

    found: list[dict[str, Any]] = await eventually(enough, f"{count} refusals of {tool}")
    return found


def through(address: str, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"X-Forwarded-For": address, **named}


async def test_a_tool_takes_from_its_networks_only(proxied: Stack, name: str) -> None:
    tool = await proxied.put(
        f"/tools/{name}",
        {
            "provider": "none",
            "allow_from": ["198.51.100.0/24", "2001:db8::/32", "::ffff:192.0.2.7", "192.0.2.7"],
        },
    )
    assert tool["allow_from"] == ["198.51.100.0/24", "2001:db8::/32", "192.0.2.7/32"]
    hook = f"{proxied.url}/hooks/{name}"
    for address in ("198.51.100.7", "9.9.9.9, 198.51.100.7", "2001:db8::1", "::ffff:192.0.2.7"):
        assert (await post(hook, headers=through(address)))[0] == 202, address
    refused: list[dict[str, str]] = [
        through("203.0.113.1"),
        through("198.51.100.7, 203.0.113.1"),
        through("198.51.100.7, nobody"),
        through("198.51.100.7", Forwarded="for=203.0.113.1"),
        {},
    ]
    for number, headers in enumerate(refused):
        if number == 3:
            # so many are kept in a second
            await refusals(proxied, name, number)
        status, problem = await post(hook, headers=headers)
        assert (status, problem["type"]) == (
            403, "https://hookstream.dev/problems/address-not-allowed",
        )  # fmt: skip
    found = await refusals(proxied, name, len(refused))
    assert {(one["status"], one["reason"]) for one in found} == {(403, "address-not-allowed")}
    assert [one["address"] for one in reversed(found)] == [
        "203.0.113.1", "203.0.113.1", *["unknown (through 127.0.0.1)"] * 2, "127.0.0.1",
    ]  # fmt: skip
    async with proxied.session() as session, fresh(session, "/metrics") as response:
        assert f'reason="address-not-allowed",tool="{name}"}} 5.0' in await response.text()


async def test_one_refused_for_its_address_is_taken_once_that_is_allowed(
    proxied: Stack, name: str
) -> None:
    only = {"provider": "none", "allow_from": ["198.51.100.0/24"]}
    await proxied.put(f"/tools/{name}", only)
    headers = through("203.0.113.1")
    assert (await post(f"{proxied.url}/hooks/{name}", b'{"a": 1}', headers))[0] == 403
    [refusal] = await refusals(proxied, name, 1)
    path = f"{proxied.api_url}/api/v1/tools/{name}/refusals/{refusal['refusal_id']}/replay"
    status, problem = await post(path, headers=proxied.headers)
    assert status == 409
    assert "refused again (address-not-allowed)" in problem["detail"]
    await proxied.put(f"/tools/{name}", {**only, "allow_from": ["203.0.113.0/24"]})
    status, accepted = await post(path, headers=proxied.headers)
    assert status == 202
    event = await proxied.get(f"/events/{accepted['event_id']}")
    assert event["payload"] == {"a": 1}


async def test_who_only_tries_out_the_address_is_refused_too(proxied: Stack, name: str) -> None:
    await proxied.put(
        f"/tools/{name}",
        {
            "provider": "meta",
            "secrets": ["app secret", "verify me"],
            "allow_from": ["192.0.2.0/24"],
        },
    )
    asked = "hub.mode=subscribe&hub.challenge=123&hub.verify_token=verify%20me"
    hook = f"{proxied.url}/hooks/{name}?{asked}"
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (await post(hook, b"", through("203.0.113.1"), method))[0] == 403
    assert len(await refusals(proxied, name, 3)) == 3
    assert (await post(hook, b"", through("192.0.2.1"), "GET"))[0] == 200


async def test_nobody_is_believed_who_is_no_trusted_proxy(stack: Stack, name: str) -> None:
    spoofed = {
        **through("198.51.100.7", X_Forwarded_Host="hooks.example.com", X_Forwarded_Proto="https"),
        "Forwarded": "for=198.51.100.7;host=hooks.example.com;proto=https",
        "X-Real-IP": "198.51.100.7",
    }
    await stack.put(f"/tools/{name}", {"provider": "none", "allow_from": ["198.51.100.0/24"]})
    hook = f"{stack.url}/hooks/{name}"
    assert (await post(hook, headers=spoofed))[0] == 403
    [refusal] = await refusals(stack, name, 1)
    assert refusal["address"] == "127.0.0.1"
    await stack.put(f"/tools/{name}", {"provider": "twilio", "secrets": [TOKEN]})
    for url, status in ((f"https://hooks.example.com/hooks/{name}", 401), (hook, 200)):
        assert (await post(hook, b"A=1", {**spoofed, **twilio(url)}))[0] == status
    await stack.put(f"/tools/{name}", {"provider": "none"})
    other = {**spoofed, "Origin": "https://hooks.example.com"}
    assert (await post(hook, headers=other))[1]["type"].endswith("/other-site")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"allow_from": ["10.0.0.1/8"]}, "allow_from: '10.0.0.1/8' has more bits than its mask"),
        ({"allow_from": ["github.com"]}, "allow_from: 'github.com' is no network"),
        ({"allow_from": ["1.1.1.1"] * 257}, "allow_from"),
        ({"allow_from": "10.0.0.0/8"}, "allow_from"),
        ({"public_url": "hooks.example.com"}, "public_url: https://"),
        ({"public_url": "ftp://hooks.example.com"}, "public_url: https://"),
        ({"public_url": "https://u:p@hooks.example.com"}, "public_url: https://"),
        ({"public_url": "https://hooks.example.com/a?b=c"}, "public_url: https://"),
        ({"public_url": "https://hooks.example.com/a b"}, "public_url: https://"),
        ({"public_url": "https://hooks.example.com/" + "a" * 2048}, "public_url"),
    ],
)
async def test_what_cannot_be_used_is_refused_when_it_is_set(
    stack: Stack, name: str, change: dict[str, Any], said: str
) -> None:
    async with (
        stack.session() as session,
        session.put(f"/api/v1/tools/{name}", json={"provider": "none", **change}) as response,
    ):
        assert response.status == 400
        assert said in (await response.json())["detail"]


def twilio(url: str, body: bytes = b"A=1") -> dict[str, str]:
    signed = PROVIDERS["twilio"].sign(
        body, TOKEN, SignatureOptions(), now=0, event_type="", delivery_id="d", url=url
    )
    return {**signed, **FORM}


async def test_a_request_for_a_whole_address_is_one_for_its_path(proxied: Stack, name: str) -> None:
    await proxied.put(f"/tools/{name}", {"provider": "twilio", "secrets": [TOKEN]})
    hook = f"{proxied.url}/hooks/{name}?b=%20c"
    host = proxied.url.removeprefix("http://")
    head = [f"POST {hook} HTTP/1.1", f"Host: {host}", "Content-Length: 3", "Connection: close"]
    head += [f"{header}: {value}" for header, value in twilio(hook).items()]
    reader, writer = await asyncio.open_connection(*host.rsplit(":", 1))
    writer.write("\r\n".join([*head, "", "A=1"]).encode())
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"200"
    writer.close()


async def test_the_signed_url_is_that_of_the_tool_then_what_a_trusted_proxy_says(
    proxied: Stack, name: str
) -> None:
    tool: dict[str, Any] = {"provider": "twilio", "secrets": [TOKEN], "dedup": {"strategy": "none"}}
    hook = f"{proxied.url}/hooks/{name}?b=%20c"
    said = through("1.1.1.1", X_Forwarded_Host="a.example", X_Forwarded_Proto="https")
    path = f"/hooks/{name}?b=%20c"

    async def taken(url: str, headers: Mapping[str, str]) -> bool:
        status, _ = await post(hook, b"A=1", {**headers, **twilio(url)})
        assert status in (202, 200, 401)
        return status != 401

    await proxied.put(f"/tools/{name}", tool)
    assert await taken(hook, {})
    assert await taken(f"https://a.example{path}", said)
    assert not await taken(hook, said)
    shown = await proxied.put(f"/tools/{name}", {**tool, "public_url": "https://b.example:8443/"})
    assert shown["public_url"] == "https://b.example:8443/"
    assert await taken(f"https://b.example:8443{path}", said)
    assert not await taken(f"https://a.example{path}", said)
    # a proxy that writes paths anew: the whole address as the sender has it
    await proxied.put(f"/tools/{name}", {**tool, "public_url": "https://c.example/in/twilio"})
    assert await taken("https://c.example/in/twilio?b=%20c", said)
    assert not await taken(f"https://c.example/in/twilio{path}", {})
    # left out is taken back, as all of a tool is
    shown = await proxied.put(f"/tools/{name}", tool)
    assert (shown["public_url"], shown["allow_from"]) == ("", [])
    assert await taken(hook, {})


async def test_the_command_signs_the_address_that_it_is_told(proxied: Stack, name: str) -> None:
    known = "https://c.example/in/twilio"
    tool = {"provider": "twilio", "secrets": [TOKEN], "public_url": known}
    await proxied.put(f"/tools/{name}", tool)

    async def send(*more: str) -> int | None:
        command = ("send", "twilio", str(PAYLOAD), "--tool", name, "--url", proxied.url, *more)
        process = await asyncio.create_subprocess_exec(
            *proxied.command(*command),
            env={**proxied.environment(), "HOOK_SECRET": TOKEN},
            stdout=subprocess.DEVNULL,
        )
        return await process.wait()

    assert await send() == 1
    assert await send("--signed-url", known) == 0


async def test_a_page_of_the_tool_s_own_address_is_of_this_site(proxied: Stack, name: str) -> None:
    hook = f"{proxied.url}/hooks/{name}"
    origin = {"Origin": "https://forms.example"}
    await proxied.put(f"/tools/{name}", {"provider": "none"})
    assert (await post(hook, headers=origin))[0] == 403
    await proxied.put(f"/tools/{name}", {"provider": "none", "public_url": "https://forms.example"})
    assert (await post(hook, headers=origin))[0] == 202
    other = {"Origin": "https://evil.example"}
    assert (await post(hook, headers=other))[0] == 403
    # a name that leads here is nobody's word, whichever header has it
    named = through("1.1.1.1", X_Forwarded_Host="evil.example", **other)
    assert (await post(hook, headers=named))[0] == 403


async def test_logs_and_learnt_secrets_name_the_sender(proxied: Stack, name: str) -> None:
    await proxied.put(f"/tools/{name}", {"provider": "asana"})
    hook = f"{proxied.url}/hooks/{name}"
    status, _ = await post(hook, b"", {**through("198.51.100.77"), "X-Hook-Secret": "s" * 32})
    assert status == 200
    assert (await post(f"{hook}x", headers=through("198.51.100.78")))[0] == 404
    log = proxied.log.read_text()
    assert f"tool {name} has learnt its secret from 198.51.100.77" in log
    assert '"remote":"198.51.100.78"' in log.replace(": ", ":").replace(" ", "") or (
        "198.51.100.78" in log
    )


@ipv6
async def test_both_kinds_of_socket_are_listened_on(proxied: Stack, name: str) -> None:
    await proxied.put(f"/tools/{name}", {"provider": "none", "dedup": {"strategy": "none"}})
    port, worker = proxied.port, proxied.worker_port
    for host in ("127.0.0.1", "[::1]"):
        hook = f"http://{host}:{port}/hooks/{name}"
        assert (await post(hook))[0] == 202
        assert (await post(hook, headers={"Origin": f"http://{host}:{port}"}))[0] == 202
        for at in (port, worker):
            assert (await post(f"http://{host}:{at}/health/live", method="GET"))[0] == 200
        # each is itself a trusted proxy here: without a word of it, it is the sender
        assert (await post(f"{hook}/more", headers={}))[0] == 404
    found = await refusals(proxied, name, 2)
    assert {one["address"] for one in found} == {"127.0.0.1", "::1"}
    assert f"http://[::1]:{port}/" in proxied.log.read_text()
    assert f"http://[::1]:{worker}/health" in proxied.log.read_text()


@ipv6
async def test_a_url_with_an_ipv6_address_is_signed_as_it_is(proxied: Stack, name: str) -> None:
    await proxied.put(f"/tools/{name}", {"provider": "twilio", "secrets": [TOKEN]})
    hook = f"http://[::1]:{proxied.port}/hooks/{name}"
    assert (await post(hook, b"A=1", twilio(hook)))[0] in (200, 202)
    # with its port or without, as Twilio's libraries have it
    headers = through("1.1.1.1", X_Forwarded_Host="[2001:db8::1]", X_Forwarded_Proto="https")
    for url in ("https://[2001:db8::1]", "https://[2001:db8::1]:443"):
        signed = twilio(f"{url}/hooks/{name}", b"A=2")
        assert (await post(hook, b"A=2", {**headers, **signed}))[0] in (200, 202)


@ipv6
def test_commands_find_an_ipv6_address(proxied: Stack) -> None:
    settings = load_settings({"HOOKSTREAM_STATE_DIR": str(proxied.state_dir / "state")})
    assert settings.known_address() == f"http://[::1]:{proxied.port}"
    assert settings.known_hooks_address() == f"http://[::1]:{proxied.port}"
