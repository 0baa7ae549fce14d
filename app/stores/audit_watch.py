"""Notes, outside PostgreSQL, where the audit trail ends, and whether it still has what was noted.

Who may do everything in the database can write the chain anew, so that it fits by itself. The log
and a file in the state folder are not in the database.
"""

import asyncio
import json
from pathlib import Path

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.stores.audit_chain import Link
from hookstream.app.stores.audit_trail import AuditTrail

__all__ = ["AuditWatch"]

logger = get_logger(__name__)

#: How often it is looked, and noted.
LOOK_MS = 3_600_000


class AuditWatch:
    """Looks once an hour; for one process at a time."""

    def __init__(self, trail: AuditTrail, path: Path) -> None:
        """``path``: the file of what was noted."""
        self._trail = trail
        self._path = path
        self._looked_ms = 0

    async def look(self, now_ms: int) -> None:
        """Compare each chain with what was noted of it, unless that was done within the hour.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        if now_ms - self._looked_ms < LOOK_MS:
            return
        noted = await asyncio.to_thread(self._read)
        heads = await self._trail.heads()
        for tenant in noted.keys() | heads.keys():
            await self._compare(tenant, noted.get(tenant), heads.get(tenant))
        await asyncio.to_thread(self._write, heads)
        self._looked_ms = now_ms

    async def _compare(self, tenant: str, noted: Link | None, head: Link | None) -> None:
        if noted == head:
            return
        if noted is not None:
            for problem in await self._trail.lacking(tenant, noted):
                metrics.AUDIT_REWRITTEN.inc()
                logger.error(
                    "the audit trail of tenant %s was written anew, or is from an older copy of "
                    "the database: it ended %s when it was looked at last, and %s",
                    tenant,
                    noted,
                    problem.detail,
                )
        if head is not None:
            logger.info("the audit trail of tenant %s ends %s", tenant, head)

    def _read(self) -> dict[str, Link]:
        try:
            found = json.loads(self._path.read_text())
            return {tenant: Link.parse(text) for tenant, text in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            logger.warning("what was noted of the audit trail cannot be read: %s", error)
            return {}

    def _write(self, heads: dict[str, Link]) -> None:
        part = self._path.with_suffix(".part")
        try:
            part.write_text(json.dumps({tenant: str(head) for tenant, head in heads.items()}))
            part.replace(self._path)
        except OSError as error:
            logger.warning("where the audit trail ends cannot be noted: %s", error)
