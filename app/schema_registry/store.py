"""Subjects and versions of schemas: kept in PostgreSQL, understood once a process.

What is decided about them is in :mod:`hookstream.codecs.schemas`; this is the shell around it.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from mode.utils.logging import get_logger

from hookstream.app.errors import SchemaRegistryError, UnavailableError
from hookstream.app.ids import own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas import (
    Mode,
    Parsed,
    Reference,
    Schema,
    SchemaType,
    incompatibilities,
    parse,
)

__all__ = ["MOST_LISTED", "Part", "SchemaStore", "Version"]

logger = get_logger(__name__)

#: Understood schemas that a process keeps.
CACHED = 1024
#: Schemas that one refers to, directly or not.
MAX_REFERENCES = 100
#: How often a version is tried when others come first each time.
ATTEMPTS = 10
EVERYWHERE = ""

#: Of a list: how many are passed over, and how many come at most.
Part = tuple[int, int]
#: Most names or numbers in one list: Confluent's clients ask for all, and go on by ``offset``.
MOST_LISTED = 20_000
ALL_LISTED: Part = (0, MOST_LISTED)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a subject."""

    subject: str
    number: int
    schema_id: int
    schema: Schema
    identity: bytes
    compiled: bytes
    deleted: bool


class SchemaStore:
    """Registers, reads and deletes; every refusal is a SchemaRegistryError with Confluent's code.

    Every method raises UnavailableError while PostgreSQL is away.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._parsed: OrderedDict[int, Parsed] = OrderedDict()
        self._by_id: dict[tuple[str, int], tuple[Schema, bytes]] = {}
        #: How often something was forgotten: what was read before is not kept after it.
        self._forgotten = 0

    def forget(self, schema_ids: Collection[int] | None = None) -> None:
        """Subjects have got or lost these schemas, or they are gone; None: whatever it may be.

        Where anything may have changed, ids may stand for other schemas: an older copy of the
        database, once restored, gives them again.
        """
        self._forgotten += 1
        if schema_ids is None:
            self._by_id.clear()
            self._parsed.clear()
            return
        for known in [known for known in self._by_id if known[1] in schema_ids]:
            del self._by_id[known]

    async def register(self, tenant: str, subject: str, schema: Schema) -> Version:
        """A new version; the one that says the same where there is one."""
        new = await self.understand(tenant, schema)
        return await self.register_parsed(tenant, subject, schema, new)

    async def register_parsed(
        self, tenant: str, subject: str, schema: Schema, new: Parsed
    ) -> Version:
        """As :meth:`register`, with a schema that is understood already."""
        identity = identify(schema, new)
        for _ in range(ATTEMPTS):
            every = await self.versions(tenant, subject, deleted=True)
            live = [version for version in every if not version.deleted]
            for version in live:
                if version.identity == identity:
                    return version
            problems = await self._incompatibilities(tenant, subject, new, live)
            if problems:
                raise SchemaRegistryError(409, 409, _refusal(subject, problems))
            highest = every[-1].number if every else 0
            row = await self._postgres.fetchrow(
                statement("register_schema"),
                tenant,
                subject,
                schema.type,
                schema.text,
                [_reference_out(reference) for reference in schema.references],
                identity,
                new.compiled,
                highest,
            )
            if row is not None:
                return Version(
                    subject,
                    row["version"],
                    row["schema_id"],
                    schema,
                    identity,
                    new.compiled,
                    False,
                )
        raise UnavailableError(f"others register versions of {subject} all the time: try again")

    async def look_up(
        self, tenant: str, subject: str, schema: Schema, *, deleted: bool = False
    ) -> Version:
        """The version that says what ``schema`` says."""
        versions = await self._existing(tenant, subject, deleted=deleted)
        wanted = identify(schema, await self.understand(tenant, schema))
        for version in versions:
            if version.identity == wanted:
                return version
        raise SchemaRegistryError(404, 40403, "Schema not found")

    async def incompatibilities(
        self, tenant: str, subject: str, schema: Schema, number: int | None = None
    ) -> list[str]:
        """What speaks against ``schema`` beside one version (-1: the latest), or beside all."""
        new = await self.understand(tenant, schema)
        if number is None:
            earlier = await self.versions(tenant, subject)
        else:
            earlier = [await self.version(tenant, subject, number)]
        return await self._incompatibilities(tenant, subject, new, earlier)

    async def _incompatibilities(
        self, tenant: str, subject: str, new: Parsed, earlier: Sequence[Version]
    ) -> list[str]:
        mode = await self.mode(tenant, subject) or await self.mode(tenant) or Mode.BACKWARD
        if not mode.transitive:
            earlier = earlier[-1:]
        if mode is Mode.NONE or not earlier:
            return []
        known = [(v.number, await self.parsed(tenant, v)) for v in earlier]
        # a proof may take its time
        return await asyncio.to_thread(incompatibilities, mode, new, known)

    async def versions(self, tenant: str, subject: str, *, deleted: bool = False) -> list[Version]:
        """Versions of a subject, the oldest first; none where there is no such subject."""
        rows = await self._postgres.fetch(statement("schema_versions"), tenant, subject)
        return [_version(row) for row in rows if deleted or not row["deleted"]]

    async def _existing(self, tenant: str, subject: str, *, deleted: bool = False) -> list[Version]:
        versions = await self.versions(tenant, subject, deleted=deleted)
        if not versions:
            raise SchemaRegistryError(404, 40401, f"Subject '{subject}' not found.")
        return versions

    async def numbers(
        self, tenant: str, subject: str, *, deleted: bool = False, part: Part = ALL_LISTED
    ) -> list[int]:
        """A part of the numbers of a subject's versions."""
        query = statement("version_numbers")
        rows = await self._postgres.fetch(query, tenant, subject, deleted, *part)
        # past the end there is nothing, without any version no subject
        if not rows and not await self._postgres.fetch(query, tenant, subject, deleted, 0, 1):
            raise SchemaRegistryError(404, 40401, f"Subject '{subject}' not found.")
        return [row["version"] for row in rows]

    async def version(
        self, tenant: str, subject: str, number: int, *, deleted: bool = False
    ) -> Version:
        """One version; -1 is the latest."""
        versions = await self._existing(tenant, subject, deleted=deleted)
        if number == -1:
            return versions[-1]
        for version in versions:
            if version.number == number:
                return version
        raise SchemaRegistryError(404, 40402, f"Version {number} not found.")

    async def subjects(
        self, tenant: str, *, prefix: str = "", which: str = "live", part: Part = ALL_LISTED
    ) -> list[str]:
        """A part of the subjects: ``live`` ones, those ``deleted`` in all versions, or ``all``."""
        rows = await self._postgres.fetch(statement("subjects"), tenant, prefix, which, *part)
        return [row["subject"] for row in rows]

    async def by_id(self, tenant: str, schema_id: int) -> tuple[Schema, bytes]:
        """A schema by its id, deleted or not, and its compiled form."""
        known = self._by_id.get((tenant, schema_id))
        if known is not None:
            return known
        forgotten = self._forgotten
        row = await self._postgres.fetchrow(
            "SELECT * FROM schemas WHERE tenant = $1 AND schema_id = $2", tenant, schema_id
        )
        if row is None:
            raise SchemaRegistryError(404, 40403, f"Schema {schema_id} not found")
        found = _schema(row), row["compiled"]
        if forgotten == self._forgotten:
            if len(self._by_id) >= CACHED:
                self._by_id.clear()
            self._by_id[tenant, schema_id] = found
        return found

    async def uses(
        self,
        tenant: str,
        schema_id: int,
        *,
        deleted: bool = False,
        subject: str | None = None,
        part: Part = ALL_LISTED,
    ) -> list[tuple[str, int]]:
        """A part of the subjects and versions of a schema."""
        await self.by_id(tenant, schema_id)
        rows = await self._postgres.fetch(
            statement("schema_uses"), tenant, schema_id, deleted, subject, *part
        )
        return [(row["subject"], row["version"]) for row in rows]

    async def referrers(self, tenant: str, subject: str, number: int) -> list[int]:
        """Ids of schemas that refer to a version."""
        return await self._referrers(tenant, await self.version(tenant, subject, number))

    async def _referrers(self, tenant: str, version: Version) -> list[int]:
        rows = await self._postgres.fetch(
            statement("schema_referrers"), tenant, version.subject, version.number
        )
        return [row["schema_id"] for row in rows]

    async def delete_version(
        self, tenant: str, subject: str, number: int, *, permanent: bool
    ) -> int:
        """Delete one version; for good only when it is deleted already."""
        # the latest is the latest that is not deleted
        found = await self.version(tenant, subject, number, deleted=number != -1)
        place = f"Subject '{subject}' Version {found.number}"
        if permanent:
            if not found.deleted:
                raise SchemaRegistryError(
                    404, 40407, f"{place} was not deleted first before being permanently deleted"
                )
            await self._purge(tenant, subject, [found])
            return found.number
        if found.deleted:
            raise SchemaRegistryError(
                404, 40406, f"{place} was soft deleted. Set permanent=true to delete permanently"
            )
        await self._refuse_if_used(tenant, subject, [found])
        await self._hide(tenant, subject, [found])
        return found.number

    async def delete_subject(self, tenant: str, subject: str, *, permanent: bool) -> list[int]:
        """Delete all versions; for good only when all are deleted already."""
        every = await self._existing(tenant, subject, deleted=True)
        live = [version for version in every if not version.deleted]
        if permanent:
            if live:
                raise SchemaRegistryError(
                    404,
                    40405,
                    f"Subject '{subject}' was not deleted first before being permanently deleted",
                )
            await self._purge(tenant, subject, every)
            await self.set_mode(tenant, None, subject)
            return [version.number for version in every]
        if not live:
            raise SchemaRegistryError(
                404,
                40404,
                f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently",
            )
        await self._refuse_if_used(tenant, subject, live)
        await self._hide(tenant, subject, live)
        return [version.number for version in live]

    async def _refuse_if_used(self, tenant: str, subject: str, going: Sequence[Version]) -> None:
        """A version that another schema imports, or the last one that a tool needs, stays."""
        await self._refuse_if_referred(tenant, going)
        if len(going) < len(await self.versions(tenant, subject)):
            return
        tools = await self._postgres.fetch(
            "SELECT tool_id FROM tools WHERE tenant = $1 AND payload_schema ->> 'subject' = $2",
            tenant,
            subject,
        )
        if tools:
            names = ", ".join(own_tool_id(row["tool_id"]) for row in tools)
            raise SchemaRegistryError(422, 42206, f"payloads of {names} must fit it: change that")

    async def _refuse_if_referred(self, tenant: str, going: Sequence[Version]) -> None:
        for version in going:
            if await self._referrers(tenant, version):
                raise SchemaRegistryError(
                    422,
                    42206,
                    f"One or more references exist to the schema {{subject={version.subject},"
                    f"version={version.number}}}",
                )

    async def _hide(self, tenant: str, subject: str, versions: Sequence[Version]) -> None:
        await self._postgres.execute(
            "UPDATE schema_versions SET deleted = true "
            "WHERE tenant = $1 AND subject = $2 AND version = ANY($3)",
            tenant,
            subject,
            [version.number for version in versions],
        )

    async def _purge(self, tenant: str, subject: str, versions: Sequence[Version]) -> None:
        # a schema may refer to one that is hidden already
        await self._refuse_if_referred(tenant, versions)
        await self._postgres.execute(
            "DELETE FROM schema_versions WHERE tenant = $1 AND subject = $2 AND version = ANY($3)",
            tenant,
            subject,
            [version.number for version in versions],
        )
        await self._postgres.execute(
            "DELETE FROM schemas AS s WHERE schema_id = ANY($1) AND NOT EXISTS "
            "(SELECT FROM schema_versions AS v WHERE v.schema_id = s.schema_id)",
            [version.schema_id for version in versions],
        )

    async def mode(self, tenant: str, subject: str = EVERYWHERE) -> Mode | None:
        """The compatibility mode that was set for a subject, or for all; None for none."""
        row = await self._postgres.fetchrow(
            "SELECT mode FROM schema_modes WHERE tenant = $1 AND subject = $2", tenant, subject
        )
        return Mode(row["mode"]) if row else None

    async def set_mode(self, tenant: str, mode: Mode | None, subject: str = EVERYWHERE) -> None:
        """Set a compatibility mode; None takes it back."""
        if mode is None:
            await self._postgres.execute(
                "DELETE FROM schema_modes WHERE tenant = $1 AND subject = $2", tenant, subject
            )
            return
        await self._postgres.execute(
            "INSERT INTO schema_modes VALUES ($1, $2, $3) "
            "ON CONFLICT (tenant, subject) DO UPDATE SET mode = $3",
            tenant,
            subject,
            mode,
        )

    async def understood(
        self, rows: Iterable[Mapping[str, Any]], passed: list[str], *, offline: bool = False
    ) -> dict[tuple[str, str], Parsed]:
        """Rows of schemas, by tenant and subject; ``passed`` is given what the others are called.

        ``offline``: what refers to other schemas, which are not among the rows, is left out.
        """
        found: dict[tuple[str, str], Parsed] = {}
        for row in rows:
            try:
                schema = await self._cached(row["tenant"], row["schema_id"], row)
            except Exception as error:  # a row may hold anything, and libraries raise all
                if isinstance(error, UnavailableError) and not offline:
                    raise
                passed.append(f"schema {row['subject']}")
                # one schema's trouble is not that of the tools without it
                logger.error("payloads are not measured by %s: %s", row["subject"], error)
                continue
            found[row["tenant"], row["subject"]] = schema
        return found

    async def understand(self, tenant: str, schema: Schema) -> Parsed:
        """A schema with what it refers to; 42201 when it is none."""
        try:
            return await asyncio.to_thread(parse, schema, await self._references(tenant, schema))
        except InvalidSchemaError as error:
            raise SchemaRegistryError(422, 42201, f"Invalid schema: {error}") from error

    async def parsed(self, tenant: str, version: Version) -> Parsed:
        """A version, understood."""
        found = self._parsed.get(version.schema_id)
        return found or await self._keep(
            tenant, version.schema_id, version.schema, version.compiled
        )

    async def _cached(self, tenant: str, schema_id: int, row: Mapping[str, Any]) -> Parsed:
        found = self._parsed.get(schema_id)
        return found or await self._keep(tenant, schema_id, _schema(row), row["compiled"])

    async def _keep(self, tenant: str, schema_id: int, schema: Schema, compiled: bytes) -> Parsed:
        """A schema's text never changes: neither does what was understood."""
        # what was compiled carries its imports
        references = {} if compiled else await self._references(tenant, schema)
        made = await asyncio.to_thread(parse, schema, references, compiled=compiled)
        self._parsed[schema_id] = made
        if len(self._parsed) > CACHED:
            self._parsed.popitem(last=False)
        return made

    async def _references(self, tenant: str, schema: Schema) -> dict[str, Parsed]:
        """What a schema's references, and theirs, stand for."""
        found: dict[str, Parsed] = {}
        waiting = list(schema.references)
        while waiting:
            reference = waiting.pop()
            if reference.name in found:
                continue
            if len(found) == MAX_REFERENCES:
                raise SchemaRegistryError(
                    422, 42201, f"Invalid schema: more than {MAX_REFERENCES} references"
                )
            try:
                version = await self.version(
                    tenant, reference.subject, reference.version, deleted=True
                )
            except SchemaRegistryError as error:
                raise SchemaRegistryError(
                    422, 42201, f"Invalid schema: reference {reference.name}: {error}"
                ) from error
            found[reference.name] = await self.parsed(tenant, version)
            if version.schema.type is SchemaType.JSON:
                waiting += version.schema.references
        return found


def identify(schema: Schema, parsed: Parsed) -> bytes:
    """What two schemas have in common that say the same and refer to the same versions."""
    references = sorted((r.name, r.subject, r.version) for r in schema.references)
    return hashlib.sha256(parsed.fingerprint + orjson.dumps(references)).digest()


def _refusal(subject: str, problems: Sequence[str]) -> str:
    shown = "; ".join(problems[:5])
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return (
        "Schema being registered is incompatible with an earlier schema for subject "
        f'"{subject}": {shown}{more}'
    )


def _schema(row: Mapping[str, Any]) -> Schema:
    references = tuple(Reference(**reference) for reference in row["refs"])
    return Schema(SchemaType(row["type"]), row["source"], references)


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        row["subject"],
        row["version"],
        row["schema_id"],
        _schema(row),
        row["identity"],
        row["compiled"],
        row["deleted"],
    )


def _reference_out(reference: Reference) -> dict[str, Any]:
    return {
        "name": reference.name,
        "subject": reference.subject,
        "version": reference.version,
    }
