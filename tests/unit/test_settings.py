"""Settings that are refused, and what is shown of them."""

import resource
import threading
import traceback
from pathlib import Path

import pytest

from hookstream.app.commands.everything import listened_on
from hookstream.app.commands.worker import shown
from hookstream.app.errors import SettingsError, UnavailableError
from hookstream.app.settings import Settings, http_address, listen_hosts, load_settings


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
        ("[::]", "http://[::1]:6066"),
        ("fe80::1", "http://[fe80::1]:6066"),
        ("0.0.0.0, ::", "http://127.0.0.1:6066"),
        ("::1,127.0.0.1", "http://[::1]:6066"),
        ("example.com", "http://example.com:6066"),
    ],
)
def test_an_address_can_be_called(host: str, address: str) -> None:
    assert http_address(host, 6066) == address


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::", ["::", "0.0.0.0"]),
        ("0.0.0.0, [::]", ["0.0.0.0", "::"]),
        ("[::1],,10.0.0.1", ["::1", "10.0.0.1"]),
    ],
)
def test_several_hosts_are_listened_on(hosts: str, found: list[str]) -> None:
    assert listen_hosts(hosts) == found
    settings = Settings(web_host=hosts, web_port=6066)
    listened = [(host, port) for host, port, _ in listened_on(settings)]
    assert listened == [(host, port) for port in (6066, 6067) for host in found]


@pytest.mark.parametrize(
    ("proxies", "says"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("proxy.internal", "is no network"),
        ("0.0.0.0/0", "everybody could then say"),
        ("10.0.0.0/8,::/0", "everybody could then say"),
    ],
)
def test_trusted_proxies_are_networks_and_not_everybody(proxies: str, says: str) -> None:
    with pytest.raises(SettingsError, match=f"HOOKSTREAM_TRUSTED_PROXIES: .*{says}"):
        load_settings({"HOOKSTREAM_TRUSTED_PROXIES": proxies})
    assert load_settings({"HOOKSTREAM_TRUSTED_PROXIES": ""}).trusted_networks == ()
    known = load_settings({"HOOKSTREAM_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).trusted_networks
    assert list(map(str, known)) == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("x", "can be guessed"),
        ("short-key", "can be guessed"),
        ("aaaaaaaaaaaaaaaaaaaa", "can be guessed"),
        ("password1234", "can be guessed"),
        ("hookstream-admin", "can be guessed"),
        ("123456789012345", "can be guessed"),
        ("changemechangeme", "can be guessed"),
        ("with a space in it", "has a space"),
        ("schl\u00fcssel-schl\u00fcssel", "not ASCII"),
    ],
)
def test_a_weak_admin_key_is_refused(key: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKSTREAM_ADMIN_KEY", key)
    with pytest.raises(SettingsError, match=says) as refused:
        load_settings()
    assert len(key) < 5 or key not in str(refused.value), "a key is not for the terminal"


def test_nothing_that_is_shown_of_settings_has_a_secret() -> None:
    mark = "n0b0dyreadsme123"
    url = f"https://alerts.example.com/{mark}"
    settings = load_settings(
        {
            "HOOKSTREAM_ADMIN_KEY": mark,
            "HOOKSTREAM_REDIS_URL": f"redis://:{mark}@127.0.0.1:1",
            "HOOKSTREAM_POSTGRES_URL": f"postgresql://user:{mark}@127.0.0.1:1/db",
            "HOOKSTREAM_ALERT_URL": url,
            "HOOKSTREAM_ALERT_SECRET": f"whsec_{mark}",
            "HOOKSTREAM_SUMMARISER_URL": url,
            "HOOKSTREAM_SUMMARISER_MODEL": "m",
            "HOOKSTREAM_SUMMARISER_KEY": mark,
        }
    )
    for text in (repr(settings), str(settings)):
        assert "web_port" in text
        assert mark not in text


def test_a_refused_setting_shows_no_secret_in_its_traceback() -> None:
    key = "-".join(("sh0rt", "k3y"))
    for more in ({"HOOKSTREAM_WEB_PORT": "99999999"}, {}):
        with pytest.raises(SettingsError) as refused:
            load_settings({"HOOKSTREAM_ADMIN_KEY": key, **more})
        assert key not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o701])
@pytest.mark.parametrize("inside", [(), ("spool", "tables", "notes.txt"), ("lost+found",)])
def test_an_open_state_folder_is_closed(tmp_path: Path, mode: int, inside: tuple[str, ...]) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    for name in inside:
        (folder / name).mkdir()
    folder.chmod(mode)
    Settings(state_dir=folder).ensure_state_dir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_no_state_folder_is_left_as_it_is_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "home"
    (folder / "documents").mkdir(parents=True)
    for mode in (0o755, 0o750):
        folder.chmod(mode)
        caplog.clear()
        Settings(state_dir=folder).ensure_state_dir()
        assert folder.stat().st_mode & 0o777 == mode
        assert "may look into" in caplog.text
    for mode in (0o777, 0o1777):
        folder.chmod(mode)
        with pytest.raises(SettingsError, match="everybody may write"):
            Settings(state_dir=folder).ensure_state_dir()
    # nor is a home, or what a checkout lies in, whatever is there
    (folder / "documents").rmdir()
    (folder / "admin.key").touch()
    (folder / "work").mkdir()
    folder.chmod(0o755)
    monkeypatch.chdir(folder / "work")
    Settings(state_dir=folder).ensure_state_dir()
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_kept_key_is_closed_to_others_and_refused_where_they_could_write_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    made = settings.api_key()
    path = tmp_path / "state" / "admin.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert settings.api_key() == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert "could read" in caplog.text
    assert made not in caplog.text
    path.chmod(0o666)
    with pytest.raises(SettingsError, match="could write"):
        settings.api_key()
    path.write_text("admin")
    with pytest.raises(SettingsError, match="can be guessed: delete it"):
        settings.known_api_key()


def test_a_key_that_another_process_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    path = Settings(state_dir=tmp_path / "state").ensure_state_dir() / "admin.key"
    path.touch(0o600)
    writer = threading.Timer(0.1, path.write_text, ["hs_0123456789abcdefghij"])
    writer.start()
    assert Settings(state_dir=tmp_path / "state").api_key() == "hs_0123456789abcdefghij"
    writer.join()


def test_an_empty_key_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookstream.app.settings.BEING_WRITTEN_SECONDS", 0.0)
    path = Settings(state_dir=tmp_path / "state").ensure_state_dir() / "admin.key"
    path.touch(0o600)
    with pytest.raises(SettingsError, match=r"admin\.key is empty: delete it"):
        Settings(state_dir=tmp_path / "state").api_key()


def test_a_key_that_cannot_be_written_leaves_no_empty_file(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    folder = settings.ensure_state_dir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(UnavailableError, match=r"admin\.key cannot be written"):
            settings.api_key()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (folder / "admin.key").exists()
    assert settings.api_key().startswith("hs_")


def test_a_setting_in_small_letters_is_not_passed_over() -> None:
    with pytest.raises(
        SettingsError, match=r"hookstream_web_port is not a setting.*HOOKSTREAM_WEB_PORT"
    ):
        load_settings({"hookstream_web_port": "1"})


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "localhost:5432",
        "",
        "postgresql:/x",
        "postgresql://u:p@h:port/d",
        "postgresql://u:se/c@r:et@host:5432/db",
    ],
)
def test_what_is_no_address_of_postgresql_is_refused(url: str) -> None:
    """The process would go on without a database for good."""
    with pytest.raises(SettingsError, match=r"^HOOKSTREAM_POSTGRES_URL is no address"):
        load_settings({"HOOKSTREAM_POSTGRES_URL": url})


@pytest.mark.parametrize(
    "url",
    [
        "embedded://",
        "postgresql://u:p@h:5432/d?sslmode=require",
        "postgres://h1:5432,h2/d",
        "postgresql://u:se%2Fc%40r:et@host:5432/db",
        "postgresql://[::1]:5432/d",
        "postgresql:///d?host=/run/postgresql",
    ],
)
def test_addresses_of_postgresql_are_taken(url: str) -> None:
    assert load_settings({"HOOKSTREAM_POSTGRES_URL": url}).postgres_url == url


def test_a_good_admin_key_is_taken() -> None:
    assert Settings(admin_key="rel-admin-key").admin_key == "rel-admin-key"


@pytest.mark.parametrize("name", ["HOOKSTREAM_WEB_PORT", "HOOKSTREAM_WORKER_WEB_PORT"])
def test_the_operators_port_is_no_other_s(name: str) -> None:
    with pytest.raises(SettingsError, match="HOOKSTREAM_ADMIN_PORT must be another port"):
        load_settings({"HOOKSTREAM_ADMIN_PORT": "7000", name: "7000"})


def test_there_is_one_operators_port_however_many_receivers() -> None:
    ports = {port for _, port, _ in listened_on(Settings(receiver_processes=3))}
    assert ports == {6066, 6067}
    several = Settings(admin_port=65_535, receiver_processes=3)
    assert {port for _, port, _ in listened_on(several)} == {6066, 6067, 65_535}


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


@pytest.mark.parametrize("name", ["find", "names:", ":find", "my-names:find", "names.py:find()"])
def test_a_model_for_names_is_named_as_python_imports_it(name: str) -> None:
    with pytest.raises(ValueError, match="HOOKSTREAM_NER: module:function"):
        Settings(ner=name)
    assert Settings(ner="my_project.names:find").ner_seconds == 5
