"""Settings that are refused, and what is shown of them."""

from pathlib import Path

import pytest

from hookstream.app.commands.worker import shown
from hookstream.app.errors import SettingsError
from hookstream.app.settings import Settings, http_address, load_settings


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://user:secret@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:sec@ret@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:se/c@r:et@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://user@host", "redis://user@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("embedded://", "embedded://"),
    ],
)
def test_no_part_of_a_password_is_shown(url: str, seen: str) -> None:
    assert shown(url) == seen


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:6066"),
        ("0.0.0.0", "http://127.0.0.1:6066"),
        ("::", "http://[::1]:6066"),
        ("fe80::1", "http://[fe80::1]:6066"),
        ("example.com", "http://example.com:6066"),
    ],
)
def test_an_address_can_be_called(host: str, address: str) -> None:
    assert http_address(host, 6066) == address


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("x", "can be guessed"),
        ("short-key", "can be guessed"),
        ("aaaaaaaaaaaaaaaaaaaa", "can be guessed"),
        ("with a space in it", "has a space"),
        ("schl\u00fcssel-schl\u00fcssel", "not ASCII"),
    ],
)
def test_a_weak_admin_key_is_refused(key: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKSTREAM_ADMIN_KEY", key)
    with pytest.raises(SettingsError, match=says) as refused:
        load_settings()
    assert len(key) < 5 or key not in str(refused.value), "a key is not for the terminal"


def test_a_good_admin_key_is_taken() -> None:
    assert Settings(admin_key="rel-admin-key").admin_key == "rel-admin-key"


@pytest.mark.parametrize("name", ["HOOKSTREAM_WEB_PORT", "HOOKSTREAM_WORKER_WEB_PORT"])
def test_the_operators_port_is_no_other_s(name: str) -> None:
    with pytest.raises(SettingsError, match="HOOKSTREAM_ADMIN_PORT must be another port"):
        load_settings({"HOOKSTREAM_ADMIN_PORT": "7000", name: "7000"})


def test_a_state_folder_says_where_the_api_is_and_where_webhooks_go(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    here = Settings(state_dir=folder)
    assert here.known_address() == here.known_hooks_address() == "http://127.0.0.1:6066"
    Settings(state_dir=folder, web_port=7001).note_address()
    assert here.known_address() == here.known_hooks_address() == "http://127.0.0.1:7001"
    split = Settings(state_dir=folder, web_port=7001, admin_host="::1", admin_port=7002)
    split.note_address()
    for settings in (here, split):
        assert settings.known_address() == "http://[::1]:7002"
        assert settings.known_hooks_address() == "http://127.0.0.1:7001"
