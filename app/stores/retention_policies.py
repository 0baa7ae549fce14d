"""Retention policies in PostgreSQL: what goes before its tool's time, and proof of that."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final
from uuid import UUID

from hookstream.app.errors import ConflictError
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.postgres.sql import statement

__all__ = ["MIN_SECONDS", "Policy", "PolicyStore", "Proof", "shortest"]

#: Sooner nothing is deleted: what is worked on, tried again and read for the first time has to be
#: there.
MIN_SECONDS: Final = 3600
#: Rows of the event log that one statement marks.
BATCH: Final = 1000


#: Of a tenant: each event's tool and type is compared with all of them.
MOST_POLICIES: Final = 200


@dataclass(frozen=True, slots=True)
class Policy:
    """Events of a tenant that are deleted after a time; "" of tool, types and class: any."""

    tenant: str
    policy_id: str
    tool_id: str = ""
    types: str = ""
    data_class: str = ""
    delete_after_seconds: int = 0
    reason: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def concerns(self, tenant: str, tool_id: str, event_type: str | None = None) -> bool:
        """Whether it may be about events of a tool, of a type (None: of any).

        >>> Policy("t", "p", "shop", "order.*").concerns("t", "shop", "order.paid")
        True
        """
        return (
            tenant == self.tenant
            and self.tool_id in ("", tool_id)
            and (event_type is None or not self.types or fnmatchcase(event_type, self.types))
        )

    def is_over(self, received_ms: int, now_ms: int) -> bool:
        """Whether the time of an event is over."""
        return received_ms + self.delete_after_seconds * 1000 <= now_ms

    def rule(self) -> dict[str, Any]:
        """What it said, for the proof."""
        return {
            "tool": self.tool_id,
            "types": self.types,
            "data_class": self.data_class,
            "delete_after_seconds": self.delete_after_seconds,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """What one run has deleted by a policy, of one tool and tier."""

    run_id: int
    policy_id: str
    rule: dict[str, Any]
    at: datetime
    tier: str
    tool_id: str
    deleted: int
    first_event: str
    last_event: str
    ids_sha256: str


def shortest(policies: Sequence[Policy]) -> list[Policy]:
    """Policies in the order in which they count: what several concern goes by the shortest."""
    return sorted(policies, key=lambda one: (one.delete_after_seconds, one.policy_id))


class PolicyStore:
    """Every method raises UnavailableError while PostgreSQL is away."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = WholePostgres(postgres)
        self._schema = postgres.schema

    async def all(self) -> list[Policy]:
        """Those of all tenants."""
        known = self._schema.known
        if known is not None and not known.has("holds_and_policies"):
            return []
        rows = await self._postgres.fetch(statement("retention_policies"), None, None)
        return shortest([_policy(row) for row in rows])

    async def page(self, tenant: str, policy_id: str | None = None) -> list[Policy]:
        """Those of a tenant, or one of them, by their ids."""
        rows = await self._postgres.fetch(statement("retention_policies"), tenant, policy_id)
        return [_policy(row) for row in rows]

    async def put(self, policy: Policy) -> Policy:
        """Make or change one.

        Raises:
            ConflictError: the tenant has :data:`MOST_POLICIES` already.
        """
        row = await self._postgres.fetchrow(
            statement("put_retention_policy"),
            policy.tenant,
            policy.policy_id,
            policy.tool_id,
            policy.types,
            policy.data_class,
            policy.delete_after_seconds,
            policy.reason,
            MOST_POLICIES,
        )
        if row is None:
            raise ConflictError(
                f"a tenant has {MOST_POLICIES} retention policies at most: delete one, or change it"
            )
        return _policy(row)

    async def delete(self, tenant: str, policy_id: str) -> bool:
        """Delete one; what it has deleted stays proven. False where there is none."""
        tag = await self._postgres.execute(statement("delete_retention_policy"), tenant, policy_id)
        return tag != "DELETE 0"

    async def note(self, policy: Policy, tier: str, tool_id: str, events: Sequence[str]) -> None:
        """Note what has gone by a policy: in the proof, and with each event's row in the log."""
        ids = sorted(UUID(one) for one in set(events))
        if not ids:
            return
        hashed = hashlib.sha256(b"".join(one.bytes for one in ids)).digest()
        async with self._postgres.transaction() as connection:
            await connection.execute(
                statement("note_retention_proof"),
                policy.tenant,
                policy.policy_id,
                policy.rule(),
                tier,
                tool_id,
                len(ids),
                ids[0],
                ids[-1],
                hashed,
            )
            for start in range(0, len(ids), BATCH):
                await connection.execute(
                    statement("note_gone"),
                    policy.tenant,
                    ids[start : start + BATCH],
                    f"policy {policy.policy_id}",
                )

    async def proof(
        self, tenant: str, policy_id: str, below: int | None, limit: int
    ) -> list[Proof]:
        """What a policy has deleted, the newest run first."""
        rows = await self._postgres.fetch(
            statement("retention_proof"), tenant, policy_id, below, limit
        )
        return [
            Proof(
                row["run_id"],
                row["policy_id"],
                row["rule"],
                row["at"],
                row["tier"],
                row["tool_id"],
                row["deleted"],
                str(row["first_event"]),
                str(row["last_event"]),
                bytes(row["ids_sha256"]).hex(),
            )
            for row in rows
        ]


def _policy(row: Any) -> Policy:
    return Policy(
        row["tenant"],
        row["policy_id"],
        row["tool_id"],
        row["types"],
        row["data_class"],
        row["delete_after_seconds"],
        row["reason"],
        row["created_at"],
        row["updated_at"],
    )
