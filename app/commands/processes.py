"""Several processes of one command: their names, and what each is started with."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from hookstream.app import embedded
from hookstream.app.embedded.supervisor import Child, answers_on
from hookstream.app.errors import BadRequestError, SealingKeyError, UnavailableError
from hookstream.app.settings import EMBEDDED, Settings
from hookstream.app.siblings import Siblings, named

__all__ = [
    "MOST",
    "Group",
    "embedded_servers",
    "make_children",
    "private_folder",
    "wanted_processes",
]

#: Most processes of a kind that one command runs.
MOST = 64


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that do the same: how many, by which arguments, with what in their environment."""

    kind: str
    count: int
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whether nothing else is of use when one of them cannot run as it is set up.
    vital: bool = True
    #: Without, nobody can ask whether they are ready, nor what they have counted.
    serves_http: bool = True


def wanted_processes(count: int, option: str) -> int:
    """The number of processes that an option says.

    Raises:
        BadRequestError: none, or very many.
    """
    if not 1 <= count <= MOST:
        raise BadRequestError(f"{option}: at least 1, and at most {MOST}")
    return count


def make_children(settings: Settings, groups: Sequence[Group], folder: Path) -> list[Child]:
    """What the supervisor runs. In ``folder`` they listen for each other.

    Processes of a kind share their ports (``SO_REUSEPORT``). A worker's tables are one process's:
    the first has the state folder itself, as one that is alone, the others have one below it.
    """
    names = tuple(
        name for group in groups if group.serves_http for name in named(group.kind, group.count)
    )
    children = []
    for group in groups:
        for number, name in enumerate(named(group.kind, group.count), 1):
            siblings = Siblings(name, names, folder)
            environment = {**os.environ, **group.environment}
            if group.kind == "worker" and number > 1:
                environment |= _of_its_own(settings, number)
            if group.serves_http:
                environment |= siblings.environment()
            children.append(
                Child(
                    name,
                    [sys.executable, "-m", "hookstream.app.cli", *group.arguments],
                    environment,
                    stop_seconds=settings.stop_seconds,
                    is_ready=_is_ready(siblings.socket()) if group.serves_http else None,
                    vital=group.vital,
                )
            )
    return children


def _is_ready(path: Path) -> Callable[[], bool]:
    return lambda: answers_on(path, "/health/ready")


def _of_its_own(settings: Settings, number: int) -> dict[str, str]:
    """A state folder for a worker that is not the first, and the key that is in the first's."""
    own = {
        "HOOKSTREAM_STATE_DIR": str(settings.state_path / "workers" / str(number)),
        # one archive for all of them
        "HOOKSTREAM_ARCHIVE_URL": str(settings.archive_address),
    }
    # on a full disk, say, there is none: pages of stages want another key then
    with suppress(UnavailableError):
        own["HOOKSTREAM_ADMIN_KEY"] = settings.api_key()
    return own


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that nobody else may enter, with a short name: sockets' paths are bounded."""
    folder = Path(tempfile.mkdtemp(prefix="hookstream-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def embedded_servers(
    settings: Settings, say: Callable[[str], None]
) -> Iterator[tuple[list[embedded.EmbeddedServer], dict[str, str]]]:
    """Start what the settings have no URL for; the servers, and settings that say where they are.

    Children are told: one that is started again does not look after servers itself, which takes as
    long as they do, but listens.
    """
    services: list[embedded.EmbeddedServer] = []
    urls: dict[str, str] = {}
    try:
        if settings.redis_url == EMBEDDED:
            say("starting Redis (embedded)")
            services.append(
                embedded.start_valkey(
                    settings.ensure_state_dir(), max_bytes=settings.embedded_redis_max_bytes
                )
            )
            urls["HOOKSTREAM_REDIS_URL"] = services[-1].url
        if settings.postgres_url == EMBEDDED:
            say("starting PostgreSQL (embedded)")
            services.append(embedded.start_postgres(settings.ensure_state_dir()))
            urls["HOOKSTREAM_POSTGRES_URL"] = services[-1].url
        if own := settings.own_key_file:
            with suppress(SealingKeyError):  # receivers say so, and take webhooks
                own.wrapping_keys()  # made here, once
            urls["HOOKSTREAM_KEY_URL"] = f"file://{quote(str(own.path))}"
        yield services, urls
    finally:
        for service in reversed(services):
            service.stop()
