"""A WebSocket, and MCP through the SDK's own client, on another tenant's things."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.isolation.calls import NAMING, PLAIN, CannotFillError
from tests.isolation.things import Things
from tests.support.stack import Stack

__all__ = ["Answer", "over_mcp", "over_websocket"]

#: How long a socket that opens is listened to.
LISTENED_SECONDS = 1.0
#: Arguments of MCP's tools that are no texts.
NUMBERS = {"after": 0, "budget": 1000, "generation": 0, "limit": 20, "seq": 1}

#: What was asked, in words, and what was answered.
Answer = tuple[str, str]


async def over_websocket(stack: Stack, key: str, things: Things) -> list[Answer]:
    """What a client hears that follows the tenant's context from its first update on."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    path = f"/contexts/{things.ids['context_id']}/updates?after=0&generation=0"
    heard: list[Answer] = []
    async with aiohttp.ClientSession(stack.url, headers=headers) as session:
        async with session.get(path) as response:
            heard.append(("GET without an upgrade", await response.text()))
        try:
            async with session.ws_connect(path) as socket:
                await socket.send_json({"type": "ack", "seq": 1})
                with suppress(TimeoutError):
                    async with asyncio.timeout(LISTENED_SECONDS):
                        async for message in socket:
                            heard.append(("frame", str(message.data)))
        except aiohttp.WSServerHandshakeError as refused:
            heard.append(("refused", f"{refused.status} {refused.message}"))
    return heard


async def over_mcp(stack: Stack, key: str, things: Things) -> list[Answer]:
    """What each tool and each resource says; without a key, that there is none."""
    if not key:
        async with aiohttp.ClientSession(stack.url) as session, session.post("/mcp") as response:
            return [("no key", await response.text())]
    heard: list[Answer] = []
    async with _client(stack, key) as client:
        for tool in (await client.list_tools()).tools:
            arguments = {
                name: _argument(tool.name, name, things) for name in tool.input_schema["properties"]
            }
            wanted = tool.input_schema.get("required", [])
            for given in (
                {name: arguments[name] for name in wanted},
                {name: value for name, value in arguments.items() if name != "cursor"},
            ):
                result = await client.call_tool(tool.name, given)
                heard.append((f"{tool.name} {given}", result.model_dump_json()))
        resources = await client.list_resources()
        heard.append(("resources", resources.model_dump_json()))
        templates = await client.list_resource_templates()
        heard.append(("templates", templates.model_dump_json()))
        context, event = things.ids["context_id"], things.ids["event_id"]
        for uri in (
            f"hookstream://contexts/{context}",
            f"hookstream://contexts/{context}/updates?after=0",
            f"hookstream://events/{event}",
        ):
            try:
                found = await client.read_resource(uri)
                heard.append((uri, found.model_dump_json()))
            except MCPError as error:
                heard.append((uri, str(error)))
    return heard


@asynccontextmanager
async def _client(stack: Stack, key: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=60)) as http,
        Client(streamable_http_client(f"{stack.url}/mcp", http_client=http)) as made,
    ):
        yield made


def _argument(tool: str, name: str, things: Things) -> object:
    if name in NUMBERS:
        return NUMBERS[name]
    if name == "cursor":
        return things.ids["context_id"]
    if name in NAMING:
        return things.ids[NAMING[name]]
    if name in PLAIN:
        return PLAIN[name]
    raise CannotFillError(
        f"the MCP tool {tool}: tests/isolation does not know what the argument {name!r} is: put it "
        "into NAMING or PLAIN of calls.py, or NUMBERS of sockets.py"
    )
