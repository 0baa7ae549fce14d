"""The last known tools, contexts and subscriptions, on this machine's own disk.

A process that starts while PostgreSQL is away begins with it: webhooks are verified and accepted.
The file holds what the database holds, the tools' secrets among it, and only its owner reads it.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.stores.catalog_rows import Rows, decode_rows, encode_rows, head

__all__ = ["CatalogCopy"]

logger = get_logger(__name__)


class CatalogCopy:
    """One file, replaced whole. Its time of change says when PostgreSQL last confirmed it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Rows, float] | None:
        """The rows and their age in seconds; None where there are none that can be read."""
        try:
            data = self.path.read_bytes()
            age = max(0.0, time.time() - self.path.stat().st_mtime)
            return decode_rows(data), age
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be used: %s", self.path, error)
            return None

    def holds(self, version: int, token: int) -> bool:
        """Whether it is of this state: processes that share a folder keep one for all of them."""
        begins = head(version, token) + b","
        try:
            with self.path.open("rb") as file:
                return file.read(len(begins)) == begins
        except OSError:
            return False

    def keep(self, rows: Rows) -> bool:
        """Have ``rows`` on the disk: another process may have written them. False where not."""
        if self.holds(rows.version, rows.token):
            self.confirm()
            return True
        return self.write(rows)

    def write(self, rows: Rows) -> bool:
        """Write ``rows``; False, with a line in the log, where the disk does not take them."""
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.writelines(encode_rows(rows))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            metrics.CATALOG_COPIES.inc()
        except (OSError, TypeError) as error:
            logger.warning("tools and subscriptions are not kept in %s: %s", self.path, error)
            with suppress(OSError):
                draft.unlink()
            return False
        return True

    def confirm(self) -> None:
        """Note that PostgreSQL still says the same."""
        with suppress(OSError):
            os.utime(self.path)
