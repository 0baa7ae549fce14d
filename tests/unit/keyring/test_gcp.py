"""Keys of Google Cloud KMS, by Google's credentials, of a stand-in that speaks its HTTP API."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hookstream.app.errors import SealingKeyError, SettingsError
from hookstream.app.keyring.gcp import ENDPOINT, GcpKms
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.sources import key_sources
from tests.support.gcp_kms import GcpKmsStandIn

KEY = bytes(range(32))


@pytest.fixture
def kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcpKmsStandIn]:
    standing_in = GcpKmsStandIn(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(standing_in.credentials))
    # without a file Google's library would look for the machine's own account
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    yield standing_in
    standing_in.close()


def key_of(kms: GcpKmsStandIn, name: str = "") -> GcpKms:
    return GcpKms(name or kms.key, {ENDPOINT: f"{kms.url}/"})


async def test_kms_wraps_and_unwraps_and_its_own_rotation_needs_nothing(
    kms: GcpKmsStandIn,
) -> None:
    ring = KeyRing(key_sources(f"gcpkms://{kms.key}", {ENDPOINT: f"{kms.url}/"}))
    name, wrapped = await ring.wrap(KEY)
    assert name.startswith("gcpkms-")
    assert ":" not in name
    assert KEY not in wrapped
    kms.rotate()
    assert await ring.unwrap(name, wrapped) == KEY
    # by the new version
    assert (await ring.wrap(KEY))[1][0] == 2
    assert kms.requests[:2] == ["/token", f"/v1/{kms.key}:encrypt"]
    assert kms.requests.count("/token") == 1


async def test_what_is_wrong_with_kms_is_said_without_its_words(
    kms: GcpKmsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(kms)
    wrapped = await key.wrap(KEY)
    with pytest.raises(SealingKeyError, match=r"does not decrypt \(INVALID_ARGUMENT\)"):
        await key.unwrap(wrapped[:-1])
    kms.may = False
    with pytest.raises(SealingKeyError, match=r"does not encrypt \(PERMISSION_DENIED\)") as said:
        await key.wrap(KEY)
    assert "a-project" not in str(said.value)
    kms.may = True
    with pytest.raises(SealingKeyError, match="NOT_FOUND"):
        await key_of(kms, f"{kms.key}x").wrap(KEY)
    kms.close()
    with pytest.raises(SealingKeyError, match="ConnectionError"):
        await key.wrap(KEY)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    with pytest.raises(SealingKeyError, match="DefaultCredentialsError"):
        await key_of(kms).wrap(KEY)


async def test_without_googles_library_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(SealingKeyError, match=r"pip install 'hookstream\[gcpkms\]'"):
        await GcpKms("projects/p/locations/l/keyRings/r/cryptoKeys/k").wrap(KEY)


@pytest.mark.parametrize(
    "url",
    [
        "gcpkms://key",
        "gcpkms:///projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k?x=1",
    ],
)
def test_a_url_that_names_no_key_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="gcpkms://projects/P/locations/L"):
        key_sources(url)
