"""Where the archive is, as ``HOOKSTREAM_ARCHIVE_URL`` says it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

__all__ = ["ArchiveAddress", "parse_archive_url"]

_KINDS: Final = ("file", "s3", "gs", "az")
#: Buckets and containers of all three clouds are of these characters.
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_HINT: Final = (
    "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; "
    "credentials, region and endpoint are the cloud's own environment variables"
)


@dataclass(frozen=True, slots=True)
class ArchiveAddress:
    """``place``: a bucket or container; "" for ``file``, whose ``path`` is absolute."""

    kind: str
    place: str
    path: str

    def __str__(self) -> str:
        between = "/" if self.place and self.path else ""
        return f"{self.kind}://{self.place}{between}{quote(self.path)}"


def parse_archive_url(url: str) -> ArchiveAddress:
    """What a URL says.

    Raises:
        ValueError: it is none that an archive can be at; the message says what one looks like.
    """
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
    except ValueError as error:
        raise ValueError(f"is no address ({error}): {_HINT}") from error
    if parts.scheme not in _KINDS or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(f"is no address of an archive: {_HINT}")
    if "@" in parts.netloc or has_port or parts.query or parts.fragment:
        raise ValueError(f"has more in it than a place and a path: {_HINT}")
    path = unquote(parts.path)
    if "\0" in path or any(part in (".", "..") for part in path.split("/")):
        raise ValueError(f"has . or .. or NUL in its path: {_HINT}")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or len(path) < 2:
            raise ValueError("a folder has an absolute path: file:///var/lib/hookstream/archive")
        return ArchiveAddress("file", "", str(Path(path)))
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"names no bucket or container: {_HINT}")
    return ArchiveAddress(parts.scheme, parts.netloc, path.strip("/"))
