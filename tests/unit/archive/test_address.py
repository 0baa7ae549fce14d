"""Where the archive is: what an address may say, and what the start is refused for."""

from pathlib import Path

import pytest
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from hookstream.app.archive.objects import Objects
from hookstream.app.archive_address import ArchiveAddress, parse_archive_url
from hookstream.app.errors import SettingsError
from hookstream.app.settings import load_settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("file:///var/lib/archive", ArchiveAddress("file", "", "/var/lib/archive")),
        ("file://localhost/a%20b/", ArchiveAddress("file", "", "/a b")),
        ("s3://bucket", ArchiveAddress("s3", "bucket", "")),
        ("s3://my.bucket-1/a/b/", ArchiveAddress("s3", "my.bucket-1", "a/b")),
        ("gs://bucket/prefix", ArchiveAddress("gs", "bucket", "prefix")),
        ("az://container/prefix", ArchiveAddress("az", "container", "prefix")),
    ],
)
def test_addresses_are_what_they_say(url: str, address: ArchiveAddress) -> None:
    assert parse_archive_url(url) == address
    assert load_settings({"HOOKSTREAM_ARCHIVE_URL": url}).archive_address == address
    # as it is handed to other processes
    assert parse_archive_url(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        "/var/lib/archive",
        "archive",
        "file:archive",
        "file://archive",
        "file://",
        "file:///",
        "file:///a/../b",
        "file:///a%00b",
        "file:///a/%2e%2e/b",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://user:secret@bucket/prefix",
        "s3://bucket:9000/prefix",
        "s3://bucket/prefix?region=x",
        "s3://bucket/prefix#x",
        "s3://bucket/../x",
        "s3://b$cket/x",
        "s3://[::1/x",
        "http://bucket/prefix",
        "https://account.blob.core.windows.net/x",
        "memory:///",
    ],
)
def test_an_address_of_nothing_refuses_the_start_with_a_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^HOOKSTREAM_ARCHIVE_URL [\w ]+") as error:
        load_settings({"HOOKSTREAM_ARCHIVE_URL": url})
    assert "file:///" in str(error.value)
    assert "secret" not in str(error.value)


def test_without_an_address_it_is_in_the_state_folder(tmp_path: Path) -> None:
    settings = load_settings({"HOOKSTREAM_STATE_DIR": str(tmp_path)})
    assert settings.archive_address == ArchiveAddress("file", "", str(tmp_path / "archive"))


def test_a_folder_whose_name_has_percents_is_handed_on_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "100%25 #1?"
    settings = load_settings({"HOOKSTREAM_STATE_DIR": str(folder)})
    handed = load_settings({"HOOKSTREAM_ARCHIVE_URL": str(settings.archive_address)})
    assert handed.archive_address == settings.archive_address


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://bucket/prefix", S3Store),
        ("gs://bucket/prefix", GCSStore),
        ("az://container/prefix", AzureStore),
    ],
)
def test_each_cloud_is_opened_by_its_own_variables(
    url: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    store = Objects(parse_archive_url(url))._open()
    assert isinstance(store, kind)
    assert store.prefix == "prefix"  # type: ignore[attr-defined]


def test_a_folder_is_opened(tmp_path: Path) -> None:
    assert isinstance(Objects(ArchiveAddress("file", "", str(tmp_path)))._open(), LocalStore)
