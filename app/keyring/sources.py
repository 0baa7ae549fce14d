"""Where keys are, by URL: what ``HOOKSTREAM_KEY_URL`` may say."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from hookstream.app.errors import SettingsError
from hookstream.app.keyring.aws import AwsKms
from hookstream.app.keyring.gcp import GcpKms
from hookstream.app.keyring.vault import VaultTransit
from hookstream.app.keyring.wrapping import KeyEnvironment, KeyFile, KeySource

__all__ = ["key_sources"]

_KINDS: Final = (
    "file:///path, env://NAME, awskms:///KEY, "
    "gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K or vault:///KEY"
)
_GCP_KEY: Final = re.compile("projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")


def key_sources(urls: str, environ: Mapping[str, str] = os.environ) -> list[KeySource]:
    """The sources that URLs name, separated by commas.

    Raises:
        SettingsError: one is no such URL.
    """
    return [_source(url.strip(), environ) for url in urls.split(",") if url.strip()]


def _source(url: str, environ: Mapping[str, str]) -> KeySource:
    parts = urlsplit(url)
    rest = parts.query or parts.fragment
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1 and not rest:
        return KeyFile(Path(unquote(parts.path)))
    if parts.scheme == "env" and parts.netloc and parts.path in ("", "/") and not rest:
        return KeyEnvironment(parts.netloc, environ.get(parts.netloc))
    if parts.scheme == "awskms" and not parts.netloc and len(parts.path) > 1 and not rest:
        return AwsKms(unquote(parts.path[1:]))
    if parts.scheme == "gcpkms" and not rest:
        key = unquote(parts.netloc + parts.path)
        if _GCP_KEY.fullmatch(key):
            return GcpKms(key, environ)
    if parts.scheme == "vault" and len(parts.path) > 1 and "/" not in parts.path[1:] and not rest:
        return VaultTransit(unquote(parts.path[1:]), unquote(parts.netloc) or "transit", environ)
    raise SettingsError(f"HOOKSTREAM_KEY_URL: {url[:100]!r} is not {_KINDS}")
