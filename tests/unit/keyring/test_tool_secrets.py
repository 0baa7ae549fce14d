"""Secrets of tools: sealed in their rows, open to whoever has the key, for their tool only."""

from collections.abc import Sequence
from typing import Any

import pytest

from hookstream.app.errors import BadRequestError, SealingKeyError
from hookstream.app.keyring import keyring as keyring_module
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.tool_secrets import CLEAR, ToolSecrets
from hookstream.app.keyring.wrapping import LocalKey

ONE, TWO = LocalKey(bytes(range(32))), LocalKey(bytes(range(1, 33)))


class Keys:
    """A source that can be changed, and counts how often its first key is asked."""

    def __init__(self, *keys: LocalKey) -> None:
        self.found: list[Any] = list(keys)
        self.asked = 0
        self.away = False

    @property
    def name(self) -> str:
        name: str = self.found[0].name
        return name

    def wrapping_keys(self) -> Sequence[Any]:
        return [self, *self.found[1:]]

    async def wrap(self, key: bytes) -> bytes:
        return bytes(await self._first().wrap(key))

    async def unwrap(self, wrapped: bytes) -> bytes:
        return bytes(await self._first().unwrap(wrapped))

    def _first(self) -> Any:
        self.asked += 1
        if self.away:
            raise SealingKeyError("the key service is away")
        return self.found[0]


def row(secrets: Sequence[str], tool_id: str = "tool", tenant: str = "default") -> dict[str, Any]:
    return {"tool_id": tool_id, "tenant": tenant, "secrets": list(secrets), "learnt_secret": None}


async def opened(secrets: ToolSecrets, of: dict[str, Any]) -> tuple[str, ...]:
    await secrets.prepare([of])
    return secrets.opened(of)


async def sealed(ring: KeyRing, *texts: str, tool_id: str = "tool") -> dict[str, Any]:
    return row(await ToolSecrets(ring).sealed("default", tool_id, texts), tool_id)


async def test_secrets_are_sealed_and_open_in_another_process() -> None:
    kept = await sealed(KeyRing([Keys(ONE)]), "s3cret-ä", "")
    assert all(text.startswith(f"sealed:1:{ONE.name}:") for text in kept["secrets"])
    assert "s3cret" not in str(kept)
    assert await opened(ToolSecrets(KeyRing([Keys(TWO), Keys(ONE)])), kept) == ("s3cret-ä", "")


async def test_secrets_in_the_clear_are_as_they_stand() -> None:
    mixed = row(["clear", *(await sealed(KeyRing([Keys(ONE)]), "s3cret"))["secrets"]])
    assert await opened(ToolSecrets(KeyRing([Keys(ONE)])), mixed) == ("clear", "s3cret")
    assert await CLEAR.sealed("default", "tool", ["clear"]) == ["clear"]
    not_yet = ToolSecrets(KeyRing([Keys(ONE)]), lambda: False)
    assert await not_yet.sealed("default", "tool", ["clear"]) == ["clear"]


async def test_a_secret_of_another_tool_does_not_open() -> None:
    ring = KeyRing([Keys(ONE)])
    kept = await sealed(ring, "s3cret")
    for other in ({**kept, "tool_id": "mine"}, {**kept, "tenant": "me"}):
        with pytest.raises(SealingKeyError, match="sealed for something else"):
            await opened(ToolSecrets(ring), other)


async def test_without_its_key_it_says_which_and_opens_once_that_is_back() -> None:
    kept = await sealed(KeyRing([Keys(ONE)]), "s3cret")
    keys = Keys(TWO)
    secrets = ToolSecrets(KeyRing([keys]))
    with pytest.raises(SealingKeyError, match=f"{ONE.name}, which is none of the keys"):
        await opened(secrets, kept)
    with pytest.raises(SealingKeyError, match="set HOOKSTREAM_KEY_URL"):
        await opened(CLEAR, kept)
    keys.found.append(ONE)
    assert await opened(secrets, kept) == ("s3cret",)


@pytest.mark.parametrize(
    "text", ["sealed:", "sealed:2:x:AAAA", "sealed:1:", "sealed:1:k:%%", "sealed:1:k:AQAA"]
)
async def test_what_is_damaged_or_newer_is_told(text: str) -> None:
    with pytest.raises(SealingKeyError):
        await opened(ToolSecrets(KeyRing([Keys(ONE)])), row([text]))


async def test_a_secret_in_the_clear_does_not_look_sealed() -> None:
    for secrets in (CLEAR, ToolSecrets(KeyRing([Keys(ONE)]))):
        with pytest.raises(BadRequestError, match="sealed:"):
            await secrets.sealed("default", "tool", ["fine", "sealed:mine"])


async def test_where_the_key_is_away_nothing_is_kept_in_the_clear_and_what_is_known_goes_on() -> (
    None
):
    keys = Keys(ONE)
    secrets = ToolSecrets(KeyRing([keys]))
    kept = row(await secrets.sealed("default", "tool", ["s3cret"]))
    keys.away = True
    with pytest.raises(SealingKeyError, match="away"):
        await secrets.sealed("another", "tool", ["s3cret"])
    assert await opened(secrets, kept) == ("s3cret",)
    restarted = ToolSecrets(KeyRing([keys]))
    with pytest.raises(SealingKeyError, match="away"):
        await opened(restarted, kept)


async def test_a_tenant_has_one_data_key_and_processes_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = Keys(ONE)
    first = KeyRing([keys])
    rows = [await sealed(first, "s3cret", tool_id=f"tool-{n}") for n in range(20)]
    assert keys.asked == 1
    other = ToolSecrets(KeyRing([keys]))
    await other.prepare(rows)
    assert [other.opened(one) for one in rows] == [("s3cret",)] * 20
    # what 20 tools need at once is asked for at most as often as there are questions at a time
    assert keys.asked <= 1 + 8
    before = keys.asked
    await other.sealed("default", "more", ["s3cret"])
    assert keys.asked == before
    # and it is not kept in the clear for ever
    monkeypatch.setattr(keyring_module, "DATA_KEY_SECONDS", 0.0)
    await other.sealed("default", "more", ["s3cret"])
    assert keys.asked == before + 1


async def test_after_a_rotation_what_is_new_is_sealed_by_the_new_key() -> None:
    keys = Keys(ONE)
    secrets = ToolSecrets(KeyRing([keys]))
    old = row(await secrets.sealed("default", "tool", ["s3cret"]))
    keys.found.insert(0, TWO)
    new = row(await secrets.sealed("default", "tool", ["s3cret"]))
    assert new["secrets"][0].startswith(secrets.begins())
    assert not old["secrets"][0].startswith(secrets.begins())
    assert await opened(secrets, old) == await opened(secrets, new) == ("s3cret",)


async def test_a_worker_holds_no_secrets() -> None:
    keys = Keys(ONE)
    worker = ToolSecrets(KeyRing([keys]), opens=False)
    assert await opened(worker, row(["sealed:1:gone:AAAA"])) == ()
    assert keys.asked == 0
