"""Key files, variables and URLs: what is taken, and what is refused with a sentence."""

import base64
from pathlib import Path

import pytest

from hookstream.app.errors import SealingKeyError, SettingsError
from hookstream.app.keyring.aws import AwsKms
from hookstream.app.keyring.sources import key_sources
from hookstream.app.keyring.wrapping import (
    KeyEnvironment,
    KeyFile,
    LocalKey,
    new_key_line,
    read_keys,
)

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def file_of(path: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


async def test_a_key_unwraps_what_it_has_wrapped_and_no_other_does() -> None:
    wrapped = await LocalKey(ONE).wrap(TWO)
    assert TWO not in wrapped
    assert await LocalKey(ONE).unwrap(wrapped) == TWO
    with pytest.raises(SealingKeyError, match="has not wrapped"):
        await LocalKey(TWO).unwrap(wrapped)
    with pytest.raises(SealingKeyError):
        await LocalKey(ONE).unwrap(wrapped[:-1])


def test_a_keys_name_is_its_own_and_does_not_show_it() -> None:
    assert LocalKey(ONE).name == LocalKey(ONE).name != LocalKey(TWO).name
    assert ":" not in LocalKey(ONE).name


@pytest.mark.parametrize(
    "content",
    [
        ONE,
        text(ONE),
        f"{text(ONE)}\n",
        f"# since May\n\n  {text(ONE)}  \n",
        text(ONE).rstrip("=") + "=",
        base64.urlsafe_b64encode(ONE).decode(),
    ],
)
def test_a_key_may_be_raw_or_in_base64(content: bytes | str, tmp_path: Path) -> None:
    [key] = KeyFile(file_of(tmp_path / "key", content)).wrapping_keys()
    assert key.name == LocalKey(ONE).name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no key"),
        ("# nothing yet\n", "holds no key"),
        ("s3cret", "no key: 32 random bytes"),
        (text(ONE)[:-4], "no key: 32 random bytes"),
        (text(bytes(32)), "no key: 32 random bytes"),
        (f"{text(ONE)}\nand more", "no key: 32 random bytes"),
        (b"\xff" * 40, "no key: 32 random bytes"),
    ],
)
def test_what_is_no_key_is_refused(content: bytes | str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SealingKeyError, match=said) as refused:
        KeyFile(file_of(tmp_path / "key", content)).wrapping_keys()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o620, 0o606])
def test_a_file_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    with pytest.raises(SealingKeyError, match="chmod 600"):
        KeyFile(file_of(tmp_path / "key", text(ONE), mode)).wrapping_keys()


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(SealingKeyError, match="/no/such/key cannot be read"):
        KeyFile(Path("/no/such/key")).wrapping_keys()


def test_an_installations_own_file_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    [made] = KeyFile(path, make=True).wrapping_keys()
    assert path.stat().st_mode & 0o777 == 0o600
    [again] = KeyFile(path, make=True).wrapping_keys()
    assert again.name == made.name
    KeyFile(path).make()  # another process came first
    assert [key.name for key in KeyFile(path).wrapping_keys()] == [made.name]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [ONE, text(ONE), f"# old\n{text(ONE)}\n"])
def test_a_file_is_rotated_while_it_is_used(content: bytes | str, tmp_path: Path) -> None:
    file = KeyFile(file_of(tmp_path / "key", content))
    [old] = file.wrapping_keys()
    KeyFile(file.path).rotate()
    new, kept = file.wrapping_keys()
    assert kept.name == old.name != new.name
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file.path]


def test_a_variable_may_hold_several_keys() -> None:
    found = KeyEnvironment("KEYS", f"{text(ONE)} {text(TWO)}").wrapping_keys()
    assert [key.name for key in found] == [LocalKey(ONE).name, LocalKey(TWO).name]
    for empty in (None, ""):
        with pytest.raises(SealingKeyError, match="the environment has no KEYS"):
            KeyEnvironment("KEYS", empty).wrapping_keys()


def test_new_keys_are_keys() -> None:
    assert len(read_keys((new_key_line() + new_key_line()).encode(), "")) == 2


def test_urls_name_sources_in_their_order(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a key", text(ONE))
    found = key_sources(
        f"file://{tmp_path}/a%20key, env://KEYS,awskms:///alias/hooks", {"KEYS": text(TWO)}
    )
    assert [type(source) for source in found] == [KeyFile, KeyEnvironment, AwsKms]
    assert found[0].wrapping_keys()[0].name == LocalKey(ONE).name
    assert found[1].wrapping_keys()[0].name == LocalKey(TWO).name
    assert isinstance(found[2], AwsKms)
    assert found[2].key_id == "alias/hooks"
    assert path.exists()
    assert key_sources("") == []


@pytest.mark.parametrize(
    "url",
    [
        "s3cret", "file://host/path", "file:///", "file:///key?x=1", "env://", "env://A/B",
        "awskms://alias/hooks", "awskms:///", "azurekv://vault/hooks", "gcpkms://key",
        "https://keys.example.com",
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"HOOKSTREAM_KEY_URL: .* is not file:///path, env"):
        key_sources(url)
