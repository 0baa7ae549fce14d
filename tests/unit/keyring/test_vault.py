"""Keys of Vault's transit engine, asked of a stand-in that speaks its HTTP API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hookstream.app.errors import SealingKeyError, SettingsError
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.sources import key_sources
from hookstream.app.keyring.vault import VaultTransit
from tests.support.vault import VaultStandIn

KEY = bytes(range(32))


@pytest.fixture
def vault() -> Iterator[VaultStandIn]:
    standing_in = VaultStandIn()
    yield standing_in
    standing_in.close()


async def test_vault_wraps_and_unwraps_and_its_own_rotation_needs_nothing(
    vault: VaultStandIn,
) -> None:
    ring = KeyRing(key_sources("vault:///hooks", vault.environ))
    name, wrapped = await ring.wrap(KEY)
    assert name.startswith("vault-")
    assert ":" not in name
    assert wrapped.startswith(b"vault:v1:")
    vault.rotate()
    assert await ring.unwrap(name, wrapped) == KEY
    assert (await ring.wrap(KEY))[1].startswith(b"vault:v2:")
    assert vault.requests[0] == "/v1/transit/encrypt/hooks"


async def test_a_mount_of_ones_own_and_a_token_in_a_file(tmp_path: Path) -> None:
    vault = VaultStandIn("k", mount="keys")
    token = tmp_path / "token"
    token.write_text(f"{vault.token}\n")
    environ = {"VAULT_ADDR": vault.environ["VAULT_ADDR"], "VAULT_TOKEN_FILE": str(token)}
    [source] = key_sources("vault://keys/k", environ)
    [key] = source.wrapping_keys()
    assert await key.unwrap(await key.wrap(KEY)) == KEY
    # read with each question: somebody renews it
    token.write_text("s.another")
    with pytest.raises(SealingKeyError, match="Forbidden"):
        await key.wrap(KEY)
    vault.close()


async def test_what_is_wrong_with_vault_is_said_without_its_words(vault: VaultStandIn) -> None:
    [key] = VaultTransit("hooks", environ=vault.environ).wrapping_keys()
    with pytest.raises(SealingKeyError, match=r"does not decrypt \(InvalidRequest\)"):
        await key.unwrap(b"vault:v1:AAAA")
    vault.sealed = True
    with pytest.raises(SealingKeyError, match=r"\(VaultDown\)") as said:
        await key.wrap(KEY)
    assert "is sealed" not in str(said.value)
    [other] = VaultTransit("nothing", environ=vault.environ).wrapping_keys()
    vault.sealed = False
    with pytest.raises(SealingKeyError, match="InvalidPath"):
        await other.wrap(KEY)
    vault.close()
    with pytest.raises(SealingKeyError, match="ConnectionError"):
        await key.wrap(KEY)
    with pytest.raises(SealingKeyError, match="VAULT_ADDR"):
        await VaultTransit("hooks", environ={}).wrap(KEY)
    with pytest.raises(SealingKeyError, match="VAULT_TOKEN"):
        await VaultTransit("hooks", environ={"VAULT_ADDR": "http://127.0.0.1:9"}).wrap(KEY)


@pytest.mark.parametrize("url", ["vault://", "vault:///", "vault:///a/b", "vault:///a?x=1"])
def test_a_url_that_names_no_key_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="vault:///KEY"):
        key_sources(url)
