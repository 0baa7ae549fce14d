"""Tools' secrets where they are kept: sealed, also those of before, and by whichever key is new."""

import asyncio
import hashlib
import hmac
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from hookstream.app import embedded
from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.aws import AwsKms
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.tool_secrets import ToolSecrets
from hookstream.app.keyring.wrapping import KeyFile, LocalKey
from hookstream.app.postgres.migrations import MIGRATIONS
from hookstream.app.postgres.migrations.run import finish, upgrade
from hookstream.app.postgres.pool import Postgres
from hookstream.app.stores.secret_sealing import SecretSealing
from tests.integration.postgres.test_upgrades import database
from tests.support.s3 import S3
from tests.support.stack import Stack, eventually

SECRET = "5eCReT-of-a-tool-that-signs"
TOOL = """
INSERT INTO tools (tool_id, tenant, provider, secrets, learnt_secret, dedup, ordering, ttl)
VALUES ($1, 'default', 'github', $2, $3, '{}', '{}', '{}')
"""
BODY = b'{"zen": "Keep it logically awesome."}'


@pytest.fixture
async def dsn(postgres_url: str) -> AsyncIterator[str]:
    async with database(postgres_url) as url:
        yield url


async def post(stack: Stack, tool: str, secret: str = SECRET) -> tuple[int, str]:
    """Status and body of what a signed webhook is answered."""
    signature = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "ping", "X-Hub-Signature-256": f"sha256={signature}"}
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(f"/hooks/{tool}", data=BODY, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def kept(stack: Stack, tool: str) -> list[str]:
    """A tool's secrets as the database has them."""
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    try:
        found: list[str] = await connection.fetchval(
            "SELECT secrets FROM tools WHERE tool_id = $1", tool
        )
        return found
    finally:
        await connection.close()


async def sealing_part(stack: Stack) -> dict[str, Any]:
    part: dict[str, Any] = (await stack.health())["parts"]["sealing"]
    return part


async def test_a_newcomers_secrets_are_sealed_in_the_database_and_on_the_disk(
    stack: Stack, name: str
) -> None:
    shown = await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [SECRET, "short1"]})
    assert (shown["secret_count"], shown["weak_secret_count"]) == (2, 1)
    assert shown["secrets_trouble"] == ""
    found = await kept(stack, name)
    assert all(text.startswith("sealed:1:local-") for text in found)
    status, _ = await post(stack, name)
    assert status == 202
    assert (await post(stack, name, "another-secret"))[0] == 401
    part = await sealing_part(stack)
    assert (part["status"], part["tool_secrets"], part["detail"]) == ("ok", "sealed", "")
    copy = stack.state_dir / "state" / "registry.json"

    async def is_copied() -> bool:
        return name in copy.read_text()

    await eventually(is_copied, "the copy has the tool")
    assert SECRET not in copy.read_text()
    assert (stack.state_dir / "state" / "sealing.key").stat().st_mode & 0o777 == 0o600


async def test_without_its_key_a_tool_is_503_and_others_go_on_until_it_is_back(
    tmp_path: Path, cluster: None
) -> None:
    """A restart without the key file; it comes back to the running system."""
    key = tmp_path / "keys" / "hooks.key"
    key.parent.mkdir()
    KeyFile(key).make()
    with Stack(tmp_path, HOOKSTREAM_KEY_URL=f"file://{key}") as stack:
        await stack.put("/tools/signed", {"provider": "github", "secrets": [SECRET]})
        await stack.put("/tools/open", {"provider": "none"})
        assert (await post(stack, "signed"))[0] == 202
        # a process that has opened them goes on
        key.rename(key.with_suffix(".away"))
        assert (await post(stack, "signed"))[0] == 202
        async with (
            stack.session() as session,
            session.put(
                "/api/v1/tools/more", json={"provider": "github", "secrets": [SECRET]}
            ) as answer,
        ):
            assert answer.status == 503
            assert (await answer.json())["type"].endswith("sealing-key")
        await asyncio.to_thread(stack.stop)
        await asyncio.to_thread(stack.start)
        status, text = await post(stack, "signed")
        assert (status, "sealing" in text) == (503, True)
        assert await stack.hook("open", b"{}")
        part = await sealing_part(stack)
        assert part["status"] == "degraded"
        assert part["locked_tools"] == ["signed"]
        assert f"{key} cannot be read" in part["detail"]
        assert str(key) in (await stack.get("/tools/signed"))["secrets_trouble"]
        key.with_suffix(".away").rename(key)

        async def is_open() -> bool:
            return (await post(stack, "signed"))[0] == 202

        await eventually(is_open, "the key is back")

        async def is_well() -> bool:
            return (await sealing_part(stack))["status"] == "ok"

        await eventually(is_well, "health says so")


async def test_a_key_is_rotated_in_a_running_system(tmp_path: Path, cluster: None) -> None:
    with Stack(tmp_path) as stack:
        await stack.put("/tools/signed", {"provider": "github", "secrets": [SECRET]})
        [before] = await kept(stack, "signed")
        done = await asyncio.to_thread(
            subprocess.run,
            stack.command("keys", "rotate"),
            env=stack.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        new, old = done.stdout.splitlines()
        assert new.endswith("  seals and opens")
        assert before.startswith(f"sealed:1:{old.split()[0]}:")

        async def is_sealed_anew() -> bool:
            [now] = await kept(stack, "signed")
            return now.startswith(f"sealed:1:{new.split()[0]}:")

        await eventually(is_sealed_anew, "secrets are sealed by the new key", 40)
        assert (await post(stack, "signed"))[0] == 202
        # the old key is not needed any more
        key = stack.state_dir / "state" / "sealing.key"
        key.write_text(key.read_text().splitlines()[0])
        await asyncio.to_thread(stack.stop)
        await asyncio.to_thread(stack.start)
        assert (await post(stack, "signed"))[0] == 202


async def test_nothing_is_sealed_while_an_older_release_may_run(dsn: str) -> None:
    """What is sealed is no secret to a release before: it would refuse what is genuine."""
    before = MIGRATIONS[: next(m.number for m in MIGRATIONS if m.name == "sealed_secrets") - 1]
    await upgrade(dsn, before)
    async with Postgres(dsn) as postgres:
        secrets = ToolSecrets(
            KeyRing([Local()]), lambda: bool(postgres.schema.known and has_it(postgres))
        )
        sealing = SecretSealing(secrets, postgres)
        await postgres.execute(TOOL, "first", [SECRET], None)
        await postgres.execute(TOOL, "learnt", [SECRET], SECRET)
        await sealing.seal()
        assert await secrets.sealed("default", "put", [SECRET]) == [SECRET]
        assert await rows(postgres) == {"first": ([SECRET], None), "learnt": ([SECRET], SECRET)}
        await finish(dsn, anyway=True)
        await sealing.seal()
        found = await rows(postgres)
        assert SECRET not in str(found)
        assert found["first"][1] is None
        await sealing.seal()
        assert await rows(postgres) == found, "what is sealed is left"
        for row in await postgres.fetch("SELECT * FROM tools"):
            await secrets.prepare([row])
            assert secrets.opened(row) == (SECRET,)


async def test_what_cannot_be_opened_is_left_as_it_is(dsn: str) -> None:
    await upgrade(dsn)
    lost = await ToolSecrets(KeyRing([Local(b"lost")])).sealed("default", "lost", [SECRET])
    async with Postgres(dsn) as postgres:
        secrets = ToolSecrets(KeyRing([Local()]))
        await postgres.execute(TOOL, "a-clear", [SECRET], None)
        await postgres.execute(TOOL, "lost", lost, None)
        await postgres.execute(TOOL, "z-clear", [SECRET], None)
        sealing = SecretSealing(secrets, postgres)
        await sealing.seal()
        found = await rows(postgres)
        assert found["lost"] == (lost, None)
        assert all(found[name][0][0].startswith("sealed:") for name in ("a-clear", "z-clear"))
        assert sealing.left == 1


async def test_many_processes_seal_the_same_tools_and_none_is_lost(dsn: str) -> None:
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        for number in range(250):
            await postgres.execute(TOOL, f"tool-{number}", [f"{SECRET}-{number}"], None)
        every = [SecretSealing(ToolSecrets(KeyRing([Local()])), postgres) for _ in range(4)]
        await asyncio.gather(*(sealing.seal() for sealing in every))
        secrets = ToolSecrets(KeyRing([Local()]))
        found = await postgres.fetch("SELECT * FROM tools")
        await secrets.prepare(found)
        for row in found:
            number = row["tool_id"].removeprefix("tool-")
            assert row["secrets"][0].startswith("sealed:")
            assert secrets.opened(row) == (f"{SECRET}-{number}",)


async def test_aws_kms_wraps_and_unwraps_on_motos_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for KMS: moto's, which keeps keys and checks the encryption context."""
    with_kms = S3()
    try:
        for variable, value in with_kms.environ.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        made = await asyncio.to_thread(make_kms_key, with_kms)
        key = AwsKms("alias/hooks")
        kept = await ToolSecrets(KeyRing([key])).sealed("default", "tool", [SECRET])
        assert kept[0].startswith(f"sealed:1:{key.name}:")
        row = {"tenant": "default", "tool_id": "tool", "secrets": kept, "learnt_secret": None}
        again = ToolSecrets(KeyRing([AwsKms("alias/hooks")]))
        await again.prepare([row])
        assert again.opened(row) == (SECRET,)
        with pytest.raises(SealingKeyError, match="AWS KMS does not encrypt"):
            await AwsKms("alias/nobody").wrap(b"k" * 32)
        with pytest.raises(SealingKeyError, match="AWS KMS does not decrypt"):
            await AwsKms(made).unwrap(b"what KMS has not wrapped")
    finally:
        with_kms.stop()
    with pytest.raises(SealingKeyError, match="AWS KMS does not encrypt"):
        await AwsKms(made).wrap(b"k" * 32)


def make_kms_key(server: S3) -> str:
    import boto3

    client = boto3.client(
        "kms",
        endpoint_url=server.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="hookstream",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    made: str = client.create_key()["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName="alias/hooks", TargetKeyId=made)
    return made


class Local:
    """A source with one key."""

    def __init__(self, seed: bytes = b"here") -> None:
        self._key = LocalKey(hashlib.sha256(seed).digest())

    def wrapping_keys(self) -> list[Any]:
        return [self._key]


def has_it(postgres: Postgres) -> bool:
    known = postgres.schema.known
    return known is not None and known.has("sealed_secrets")


async def rows(postgres: Postgres) -> dict[str, tuple[list[str], str | None]]:
    found = await postgres.fetch("SELECT * FROM tools")
    return {row["tool_id"]: (row["secrets"], row["learnt_secret"]) for row in found}
