"""What is tried, one kind a function: each is called again and again while the system runs.

An attack returns what it was answered, for the table. What the system refuses, it may refuse; what
it takes, it has to live with.
"""

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import aiohttp
import brotli

from tests.chaos.system import KEY, System

__all__ = ["ATTACKS", "Attacker"]

SECRET = "a-secret-of-the-attackers-own"
MCP = {"Accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"},
    },
}
#: So many elements, in a body of a few KB.
ELEMENTS = 1_700_000
ATTACKS: dict[str, Callable[["Attacker"], Awaitable[str]]] = {}


def attack(function: Callable[["Attacker"], Awaitable[str]]) -> Any:
    """Enter a function into the table of attacks."""
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


@dataclass
class Attacker:
    """Somebody with a tool that needs no signature, one of GitHub's, and an agent's key."""

    system: System
    session: aiohttp.ClientSession
    key: str = ""
    event_id: str = ""
    sockets: list[Any] = field(default_factory=list)

    async def prepare(self) -> None:
        """Make what attackers may use: their own tools, contexts and key."""
        call = self.system.call
        await call("PUT", "/tools/open", {"provider": "none"})
        await call("PUT", "/tools/gh", {"provider": "github", "secrets": [SECRET]})
        for name in ("open", "gh", "ratio"):
            await call("PUT", f"/contexts/hostile-{name}", {})
        await call("PUT", "/contexts/hostile-open/subscriptions/s", {"tool": "open"})
        await call(
            "PUT",
            "/contexts/hostile-gh/subscriptions/s",
            {"tool": "gh", "types": ["security_advisory.*"], "priority": "critical"},
        )
        await call(
            "PUT",
            "/contexts/hostile-ratio/subscriptions/s",
            {"tool": "open", "where": "payload.failed / payload.total > 0"},
        )
        made = await call("POST", "/keys", {"name": "hostile", "contexts": ["hostile-open"]})
        self.key = made["key"]
        answer = await self.post("open", json.dumps({"d": os.urandom(70_000).hex()}).encode())
        self.event_id = answer.get("event_id", "")

    async def post(self, tool: str, body: bytes, **headers: str) -> dict[str, Any]:
        """Post a webhook; returns its answer with ``status``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(f"/hooks/{tool}", data=body, headers=named) as response:
            try:
                found = json.loads(await response.read())
            except ValueError:
                found = {}
            return {**found, "status": response.status} if isinstance(found, dict) else {}

    async def ask(self, method: str, path: str, *, admin: bool = False, **options: Any) -> int:
        """Ask anything; returns the status."""
        headers = {"Authorization": f"Bearer {KEY if admin else self.key}"}
        headers |= options.pop("headers", {})
        async with self.session.request(method, path, headers=headers, **options) as response:
            await response.read()
            return response.status

    async def session_id(self) -> str:
        """Begin an MCP session; returns its id."""
        headers = {"Authorization": f"Bearer {self.key}", **MCP}
        async with self.session.post("/mcp", json=INITIALIZE, headers=headers) as response:
            await response.read()
            return response.headers.get("Mcp-Session-Id", "")


async def _posted(attacker: Attacker, body: bytes, **headers: str) -> str:
    return str((await attacker.post("open", body, **headers))["status"])


@attack
async def unfolding(attacker: Attacker) -> str:
    """A few KB of deflate that are millions of lists, objects or keys"""
    # made aside: honest clients live in this process too
    body = await asyncio.to_thread(_unfolding, time.time_ns())
    return await _posted(attacker, body, Content_Encoding="deflate")


def _unfolding(number: int) -> bytes:
    kind = number % 3
    if kind == 2:
        body = b"{" + b",".join(b'"%x":1' % (number + at) for at in range(400_000)) + b"}"
    else:
        body = b"[" + (b"[],", b"{},")[kind] * ELEMENTS + b"%d]" % number
    return zlib.compress(body, 6)


# what is the same each time is made once: that holds up the honest clients in this process


@cache
def _empty_members() -> bytes:
    return gzip.compress(b"", mtime=0) * 262_000


@cache
def _deflate_bomb() -> bytes:
    return zlib.compress(b" " * 50_000_000, 6)


@cache
def _brotli_bomb() -> bytes:
    return brotli.compress(brotli.compress(b" " * 50_000_000))


@cache
def _many_fields() -> bytes:
    return json.dumps({f"a{number}": 1 for number in range(200_000)}).encode()


@attack
async def gzip_members(attacker: Attacker) -> str:
    """A gzip body of 262,000 empty members"""
    last = gzip.compress(b'{"x":%d}' % time.time_ns())
    body = _empty_members() + last
    return await _posted(attacker, body, Content_Encoding="gzip")


@attack
async def bombs(attacker: Attacker) -> str:
    """50 KB of deflate that are 50 MB, Brotli within Brotli, and a body beyond the limit"""
    body = await asyncio.to_thread(_deflate_bomb)
    one = await _posted(attacker, body, Content_Encoding="deflate")
    body = await asyncio.to_thread(_brotli_bomb)
    both = await _posted(attacker, body, Content_Encoding="br, br")
    return f"{one}, {both}, {await _posted(attacker, b' ' * 6_000_000)}"


@attack
async def forms(attacker: Attacker) -> str:
    """Forms of a million escapes, of `%` alone, and of JSON that is escaped twice over"""
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    bodies = (
        b"a=%d" % time.time_ns() + b"%41" * 1_600_000,
        b"a=%d" % time.time_ns() + b"%" * 4_900_000,
        b"payload=%5B" + b"%5B%5D%2C" * 500_000 + b"%d%%5D" % time.time_ns(),
    )
    return ", ".join([await _posted(attacker, body, **kind) for body in bodies])


@attack
async def characters(attacker: Attacker) -> str:
    """5 MB in characters that take the square of that to read, or hide what is counted"""
    number = b"%d" % time.time_ns()
    hidden = ("[" + "[]," * 1_600_000).encode("cp037") + (number.decode() + "]").encode("cp037")
    bodies = (("punycode", b"-" + b"a9" * 2_400_000 + number), ("cp037", hidden))
    said = [
        await _posted(attacker, body, Content_Type=f"application/json; charset={name}")
        for name, body in bodies
    ]
    name = os.urandom(40).hex()
    kind = f"text/plain; charset={name}"
    return ", ".join([*said, await _posted(attacker, b"\xff" + number, Content_Type=kind)])


@attack
async def documents(attacker: Attacker) -> str:
    """XML whose elements have thousands of attributes that are declared once"""
    declared = b" ".join(b'a%d CDATA ""' % number for number in range(2000))
    head = b"<!DOCTYPE r [<!ATTLIST a " + declared + b">]><r>" + b"<a/>" * 9000
    return await _posted(
        attacker, head + b"<b>%d</b></r>" % time.time_ns(), Content_Type="text/xml"
    )


@attack
async def copies(attacker: Attacker) -> str:
    """Conditions whose lists are copied for each element, and 600 commits for them"""
    texts = (
        "payload.commits.filter(c, c.id >= 0).size() > 0",
        "payload.commits.map(c, payload).size() > 0",
        "[payload.s]" + ".map(a, a + a + a)" * 9 + " == ['y']",
    )
    for number, where in enumerate(texts):
        path = f"/api/v1/contexts/hostile-ratio/subscriptions/copies-{number}"
        await attacker.ask("PUT", path, admin=True, json={"tool": "open", "where": where})
    commits = [{"id": number, "by": {"name": "x" * 20}} for number in range(600)]
    body = {"commits": commits, "s": "x" * 3000, "n": time.time_ns()}
    return await _posted(attacker, json.dumps(body).encode())


@attack
async def fields(attacker: Attacker) -> str:
    """An acknowledgement of 200,000 fields that there are not"""
    body = await asyncio.to_thread(_many_fields)
    path = "/api/v1/contexts/hostile-open/ack"
    return str(await attacker.ask("POST", path, data=body))


@attack
async def folding(attacker: Attacker) -> str:
    """16 clients of one key that come back and want all of their feed as one digest"""
    headers = {"Authorization": f"Bearer {attacker.key}"}

    async def one() -> str:
        try:
            async with attacker.session.ws_connect(
                "/contexts/hostile-open/updates?after=0&fold=1", headers=headers
            ) as socket:
                await socket.receive(timeout=20)
                return "101"
        except aiohttp.WSServerHandshakeError as error:
            return str(error.status)

    return ", ".join(sorted(set(await asyncio.gather(*(one() for _ in range(16))))))


@attack
async def schemas(attacker: Attacker) -> str:
    """A tool whose payloads are a message of 1,000 fields each, and 100 KB of empty ones"""
    fields = "".join(f"string f{number} = {number};" for number in range(2, 1002))
    text = f'syntax = "proto3"; message M {{ repeated M c = 1; {fields} }}'
    path, setting = "/registry/subjects/wide/versions", {"schema": text, "schemaType": "PROTOBUF"}
    said = [str(await attacker.ask("POST", path, admin=True, json=setting))]
    tool = {"provider": "none", "schema": {"subject": "wide", "on_violation": "reject"}}
    said.append(str(await attacker.ask("PUT", "/api/v1/tools/wide", admin=True, json=tool)))
    body = b'{"c":[' + b"{}," * 33_000 + b'{"f2":"%d"}]}' % time.time_ns()
    said.append(str((await attacker.post("wide", body))["status"]))
    return ", ".join(said)


@attack
async def depth(attacker: Attacker) -> str:
    """JSON nested 254, 980 and 100,000 deep, read back through the API"""
    said = []
    for deep in (254, 980, 100_000):
        body = b"[" * deep + b"%d" % time.time_ns() + b"]" * deep
        answer = await attacker.post("open", body)
        said.append(str(answer["status"]))
        if event_id := answer.get("event_id"):
            said.append(str(await attacker.ask("GET", f"/api/v1/events/{event_id}", admin=True)))
    return ", ".join(said)


@attack
async def conditions(attacker: Attacker) -> str:
    """A condition with nested comprehensions, and a payload of 158 KB for it"""
    where = "payload.files.exists(f, payload.reviewed.exists(r, r == f))"
    path = "/api/v1/contexts/hostile-ratio/subscriptions/nested"
    setting = {"tool": "open", "where": where}
    status = await attacker.ask("PUT", path, admin=True, json=setting)
    body = {"files": list(range(11_000)), "reviewed": list(range(-11_000, 0)), "n": time.time_ns()}
    return f"{status}, {await _posted(attacker, json.dumps(body).encode())}"


@attack
async def division(attacker: Attacker) -> str:
    """25 events for which a condition of one subscription divides by zero"""
    for number in range(25):
        body = {"failed": 1, "total": 0, "n": time.time_ns() + number}
        status = await _posted(attacker, json.dumps(body).encode())
    return status


@attack
async def templates(attacker: Attacker) -> str:
    """Templates that nest, repeat, round and concatenate"""
    texts = (
        "{{ " + "not " * 478 + "1 }}",
        '{{ 1.5 | round(4000000, "ceil") }}',
        "{% for a in range(9999999) %}x{% endfor %}",
        "{{ " + "event ~ " * 400 + "event }}",
        '{{ ("x" * 99999999) | replace("", "y") }}',
    )
    said = []
    for number, text in enumerate(texts):
        path = f"/api/v1/templates/hostile-{number}"
        setting = {"provider": "none", "types": "*", "template": text}
        said.append(str(await attacker.ask("PUT", path, admin=True, json=setting)))
    return ", ".join(said)


@attack
async def texts(attacker: Attacker) -> str:
    """Megabytes of one character, of marks, of keys and of digits where a summary is made"""
    body = {
        "title": "a" * 1_000_000,
        "message": "![x](https://evil.example/" + "(" * 50_000 + ")",
        "text": "\u2028\u202e\u200b" * 100_000,
        "id": 10**400,
        "url": "https://evil.example/" + "a" * 100_000,
        "n": time.time_ns(),
    }
    return await _posted(attacker, json.dumps(body).encode())


@attack
async def not_json(attacker: Attacker) -> str:
    """Bodies that are no JSON: cut, NaN, lone surrogates, bytes"""
    bodies = (b'{"a":', b'{"a": NaN}', b'{"a": "\\ud800"}', os.urandom(1000), b"1" * 100_000)
    said = {await _posted(attacker, body + b" " * (time.time_ns() % 1000)) for body in bodies}
    return ", ".join(sorted(said))


@attack
async def other_types(attacker: Attacker) -> str:
    """One signed delivery again and again as types of the attacker's choice"""
    body = b'{"action":"opened","number":1,"pull_request":{"title":"t"}}'
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    for kind in ("pull_request", "security_advisory", "deployment_status"):
        answer = await attacker.post(
            "gh",
            body,
            X_GitHub_Event=kind,
            X_GitHub_Delivery=os.urandom(8).hex(),
            X_Hub_Signature_256=f"sha256={digest}",
        )
    return str(answer["status"])


@attack
async def refused(attacker: Attacker) -> str:
    """Unknown tools, wrong signatures, wrong keys"""
    said = set()
    for number in range(20):
        said.add(str((await attacker.post(f"no-{number}", b"{}" * 1000))["status"]))
        said.add(str((await attacker.post("gh", b"{}", X_Hub_Signature_256="sha256=0"))["status"]))
        wrong = {"Authorization": f"Bearer hs_{os.urandom(20).hex()}"}
        said.add(str(await attacker.ask("GET", "/api/v1/contexts", headers=wrong)))
    return ", ".join(sorted(said))


@attack
async def made_up_events(attacker: Attacker) -> str:
    """16 agents ask for events that there are not"""
    now = int(time.time() * 1000) - 20_000
    middle = (attacker.event_id or "0" * 36)[15:18]
    made_up = f"{now >> 16:08x}-{now & 0xFFFF:04x}-7{middle}-8000-000000000001"
    asked = (attacker.ask("GET", f"/api/v1/events/{made_up}") for _ in range(16))
    return ", ".join(sorted({str(status) for status in await asyncio.gather(*asked)}))


@attack
async def health(attacker: Attacker) -> str:
    """200 requests of /health and /metrics at once"""
    paths = ("/health", "/metrics") * 100
    asked = (attacker.ask("GET", path, admin=True) for path in paths)
    return ", ".join(sorted({str(status) for status in await asyncio.gather(*asked)}))


@attack
async def replays(attacker: Attacker) -> str:
    """One event replayed as often as it goes"""
    body = {"event_ids": [attacker.event_id], "context_id": "hostile-open"}
    said = {str(await attacker.ask("POST", "/api/v1/replays", json=body)) for _ in range(30)}
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {
            "name": "replay_event",
            "arguments": {"event_id": attacker.event_id, "context_id": "hostile-open"},
        },
    }
    # without a session it would be no call at all
    headers = {**MCP, "Mcp-Session-Id": await attacker.session_id()}
    for _ in range(30):
        said.add(str(await attacker.ask("POST", "/mcp", json=call, headers=headers)))
    return ", ".join(sorted(said))


@attack
async def mcp_sessions(attacker: Attacker) -> str:
    """50 MCP sessions that nobody ends"""
    statuses = [
        str(await attacker.ask("POST", "/mcp", json=INITIALIZE, headers=MCP)) for _ in range(50)
    ]
    return ", ".join(sorted(set(statuses)))


@attack
async def idle_sockets(attacker: Attacker) -> str:
    """WebSockets that read nothing, up to 300 of one key"""
    said = "101"
    headers = {"Authorization": f"Bearer {attacker.key}"}
    for _ in range(max(0, min(30, 300 - len(attacker.sockets)))):
        try:
            socket = await attacker.session.ws_connect(
                "/contexts/hostile-open/updates?after=0", headers=headers
            )
            attacker.sockets.append(socket)
        except aiohttp.WSServerHandshakeError as error:
            said = str(error.status)
    attacker.sockets = [socket for socket in attacker.sockets if not socket.closed]
    return said


@attack
async def slow(attacker: Attacker) -> str:
    """Connections that send a byte a second, and some that read nothing of a large answer"""
    port = attacker.system.doors[0].port
    held = []
    for number in range(10):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if number % 2:
            writer.write(b"POST /hooks/open HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        else:
            path = f"/api/v1/events/{attacker.event_id}"
            lines = (
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {attacker.key}\r\n\r\n"
            )
            writer.write(lines.encode() * 20)
        held.append(writer)
    for _ in range(5):
        await asyncio.sleep(1)
        for writer in held[1::2]:
            with contextlib.suppress(ConnectionError):
                writer.write(b" ")
    for writer in held:
        writer.close()
    return "closed"


@attack
async def half_open(attacker: Attacker) -> str:
    """Heads without an end, senders that ask first and then say nothing, and a refused body"""
    port = attacker.system.doors[0].port
    post = b"POST /hooks/%s HTTP/1.1\r\nHost: x\r\n"
    begun = [
        (post % b"open") + (b"A: %s\r\n" % (b"x" * 8000)) * 3,
        (post % b"open") + (b"A: %s\r\n" % (b"x" * 8000)) * 60,
        b"GET /" + b"x" * 100_000,
        (post % b"open") + b"Expect: 100-continue\r\nContent-Length: 99\r\n\r\n",
        (post % b"nobody") + b"Expect: 100-continue\r\nContent-Length: 99\r\n\r\n",
        (post % b"open") + b"Content-Length: 99999999\r\n\r\n" + b"x" * 1_000_000,
        (post % b"open") + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        (post % b"open") + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhellozz\r\n",
    ]
    answers: Counter[str] = Counter()

    async def hold(sent: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            writer.write(sent)
            async with asyncio.timeout(3):
                line = await reader.readuntil(b"\r\n")
                answers[line.split()[1].decode()] += 1
                await reader.read()
        writer.close()

    await asyncio.gather(*(hold(sent) for sent in begun * 10))
    return ", ".join(f"{status} {count}" for status, count in sorted(answers.items()))


@attack
async def made_up_addresses(attacker: Attacker) -> str:
    """Headers of proxies that nobody trusts, long ones, and ones that are no list"""
    worst = (
        {"X_Forwarded_For": ", ".join(["10.0.0.1"] * 700)},
        {"Forwarded": 'for="' + "\\a" * 3900},
        {"Forwarded": ("for=_x" + " " * 20 + ";") * 250, "X_Forwarded_Host": "[" * 8000},
    )
    return ", ".join([await _posted(attacker, b"{}", **headers) for headers in worst])
