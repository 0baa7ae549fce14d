"""The commands, as an operator runs them; and every provider through the real receiver."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from hookstream.app import embedded
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.senders import OTHER, SIGNING, VERIFYING, body_of
from tests.support.stack import Stack, eventually, free_port

SECRET = "a plain secret"
NEW, OLD = "the secret from now on", "the secret until now"


def run(*arguments: str, stack: Stack, **extra: str) -> "subprocess.CompletedProcess[str]":
    """A `hookstream` command against the stack."""
    return subprocess.run(
        stack.command(*arguments),
        env={**stack.environment(), **extra},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_provider_is_received_and_a_wrong_secret_is_not(
    stack: Stack, name: str, provider: str
) -> None:
    kind = PROVIDERS[provider]
    secrets = [VERIFYING.get(provider, SECRET)] if kind.needs_secret else []
    await stack.context(name, {"provider": provider, "secrets": secrets})
    now = time.time()
    url = f"{stack.url}/hooks/{name}"
    body = body_of(provider, now)
    body = kind.stamp(body, now) if kind.stamp else body
    body = kind.seal(body, SIGNING.get(provider, SECRET)) if kind.seal else body
    url = kind.address(url, SIGNING.get(provider, SECRET)) if kind.address else url
    headers = kind.sign(
        body,
        SIGNING.get(provider, SECRET),
        SignatureOptions(),
        now=now,
        event_type="",
        delivery_id="d-1",
        url=url,
    )
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as response,
    ):
        # what a provider wants to be answered may have no room for the id
        assert response.status in (200, 202, 204)
        event_id = response.headers["Hookstream-Event-Id"]
    [update] = await stack.updates(name, 1)
    assert event_id == update["event_id"]
    if kind.needs_secret:
        wrong = OTHER.get(provider, "another secret")
        await stack.put(f"/tools/{name}", {"provider": provider, "secrets": [wrong]})
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=headers) as response,
        ):
            assert response.status == 401
            problem = await response.json()
            assert problem["type"].endswith("/bad-signature")
            assert wrong not in json.dumps(problem)


async def test_slack_challenge_is_answered_only_when_signed(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "slack", "secrets": [SECRET]})
    body = b'{"type": "url_verification", "challenge": "3eZbrw1a", "token": "t"}'
    url = f"{stack.url}/hooks/{name}"
    headers = PROVIDERS["slack"].sign(
        body,
        SECRET,
        SignatureOptions(),
        now=time.time(),
        event_type="",
        delivery_id="",
        url=url,
    )
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=body, headers=headers) as response:
            assert response.status == 200
            assert "3eZbrw1a" in await response.text()
        async with session.post(url, data=body) as response:
            assert response.status == 401
            assert "3eZbrw1a" not in await response.text()


async def test_old_and_new_secret_both_count_during_rotation(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [NEW, OLD]})
    for number, secret in enumerate((NEW, OLD)):
        body = b'{"n": %d}' % number
        headers = PROVIDERS["github"].sign(
            body, secret, SignatureOptions(), now=0, event_type="push", delivery_id="d", url=""
        )
        await stack.hook(name, body, headers)


async def test_send_signs_and_posts(stack: Stack, name: str, tmp_path: Path) -> None:
    payload = tmp_path / "issue.json"
    payload.write_text('{"type": "Issue", "action": "create", "data": {"title": "It is slow"}}')
    await stack.context(name, {"provider": "linear", "secrets": [SECRET]})
    url = ("--url", stack.url)
    done = run(
        "send", "linear", str(payload), "--tool", name, "--secret", SECRET, *url, stack=stack
    )
    assert (done.returncode, done.stdout[:4]) == (0, "200 "), done.stderr
    [update] = await stack.updates(name, 1)
    assert update["event_type"] == "Issue.create"
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    for given, extra in ((("--secret-file", str(secret)), {}), ((), {"HOOK_SECRET": SECRET})):
        arguments = ("send", "linear", str(payload), "--tool", name, *given, *url)
        done = run(*arguments, stack=stack, **extra)
        assert (done.returncode, done.stdout[:4]) == (0, "200 "), done.stderr
    refused = run(
        "send", "linear", str(payload), "--tool", name, *url, stack=stack, HOOK_SECRET="x"
    )
    assert (refused.returncode, refused.stdout[:4]) == (1, "401 ")
    for arguments, hint in (
        (("send", "nobody", str(payload)), "there is no provider"),
        (("send", "linear", str(payload)), "--secret-file"),
        (("send", "linear", "-", "--secret-file", "-"), "only one of"),
        (("send", "linear", str(payload), "--secret-file", "no-such-file"), "no-such-file"),
        (("send", "linear", str(payload), "--secret-file", str(payload.parent)), "--secret-file"),
        (("send", "none", "no-such-file"), "no-such-file"),
        (("send", "generic", str(payload), "--secret", "s", "--option", "x=1"), "options.x"),
    ):
        failed = run(*arguments, "--tool", name, stack=stack)
        assert failed.returncode == 2
        assert hint in failed.stderr
        assert "Traceback" not in failed.stderr


def test_agents_and_tables_are_listed(stack: Stack) -> None:
    agents = run("agents", stack=stack).stdout
    rows = [line.split("|")[1].strip() for line in agents.splitlines() if line.startswith("| @")]
    assert rows == [
        "@audit",
        "@check",
        "@commit",
        "@dedupe",
        "@deliver",
        "@deliver_high",
        "@deliver_low",
        "@deliver_normal",
        "@mask",
        "@render",
        "@route",
    ]
    assert "| dedup" in run("tables", stack=stack).stdout


def test_misspelt_setting_stops_the_start(stack: Stack) -> None:
    done = run("agents", stack=stack, HOOKSTREAM_REDIS_ULR="redis://x")
    assert done.returncode == 78
    assert "Did you mean HOOKSTREAM_REDIS_URL?" in done.stderr


def test_busy_port_is_named_with_the_setting_to_change(stack: Stack, tmp_path: Path) -> None:
    done = run("up", stack=stack, HOOKSTREAM_STATE_DIR=str(tmp_path))
    assert done.returncode == 78
    assert "HOOKSTREAM_WEB_PORT" in done.stderr


async def test_receivers_share_a_port_and_serve_no_api(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    state = stack.state_dir / "state"
    port = free_port()
    environment = stack.environment() | {
        "HOOKSTREAM_STATE_DIR": str(stack.state_dir / "receivers"),
        "HOOKSTREAM_REDIS_URL": embedded.find_valkey(state) or "",
        "HOOKSTREAM_POSTGRES_URL": embedded.find_postgres(state) or "",
        "HOOKSTREAM_WEB_PORT": str(port),
    }
    receivers = subprocess.Popen(
        stack.command("--quiet", "receive", "--processes", "2"),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=(stack.state_dir / "receivers.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        sent = 0

        async def answered() -> bool:
            nonlocal sent
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(f"{url}/hooks/{name}", data=f"{sent}") as response,
                ):
                    assert response.status == 202
                    sent += 1
            except aiohttp.ClientConnectionError:
                return False
            return len(listeners(receivers.pid, port)) == 2

        await eventually(answered, "two processes listen on one port")
        assert len(await stack.updates(name, sent)) == sent
        async with (
            aiohttp.ClientSession(headers=stack.headers) as session,
            session.get(f"{url}/api/v1/events") as response,
        ):
            assert response.status == 404
    finally:
        receivers.send_signal(signal.SIGTERM)
        assert receivers.wait(30) == 0


def listeners(parent: int, port: int) -> set[int]:
    """The processes below ``parent`` that listen on a port."""
    return {
        process.pid
        for process in psutil.Process(parent).children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }


def test_worker_says_where_it_is_connected_without_the_password(tmp_path: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HOOKSTREAM_")},
        "HOOKSTREAM_STATE_DIR": str(tmp_path),
        "HOOKSTREAM_REDIS_URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0",
        "HOOKSTREAM_WEB_PORT": str(free_port()),
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "hookstream.app.cli", "worker", "--without-web"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert worker.stdout is not None
    said = ""
    for line in worker.stdout:
        said += line
        if "trying on" in line:
            break
    worker.send_signal(signal.SIGTERM)
    said += worker.communicate(timeout=30)[0]
    assert "redis://:***@127.0.0.1" in said
    assert "Redis cannot be used yet (ConnectionError" in said
    assert "hunter2" not in said
