"""What is remembered of erasures in more than one place, so that no older copy forgets them.

PostgreSQL, Redis, the archive and the state folders of workers each have all of them. Whichever is
restored from a backup of before gets back what it lacks from the others, and what it brought back
is erased again.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from mode.utils.logging import get_logger

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.objects import MissingObjectError
from hookstream.app.archive.verification import REMEMBERED
from hookstream.app.errors import UnavailableError
from hookstream.app.redis import keys
from hookstream.app.stores.erasures import ErasureStore

__all__ = ["Memory"]

logger = get_logger(__name__)

Documents = dict[str, dict[str, Any]]
FILE: Final = "erasures.json"


class Memory:
    """Brings the places that remember erasures in line."""

    def __init__(self, redis: Any, store: ErasureStore, archive: Archive, state_path: Path) -> None:
        self._redis = redis
        self._store = store
        self._archive = archive
        self._path = state_path / FILE

    async def settle(self) -> set[str]:
        """Have every place know what any of them knows; erasures that the archive did not know.

        Those are to be carried out in the archive again: it may be an older copy.

        Raises:
            UnavailableError: PostgreSQL or the archive is away.
            redis.exceptions.RedisError: Redis does not answer.
        """
        known = await self._store.documents()
        others = [await self._of_redis(), await asyncio.to_thread(self._of_folder)]
        begun = await self._has_begun()
        archived = await self._of_archive() if begun else {}
        for documents in (*others, archived):
            for erasure_id in sorted(documents.keys() - known.keys()):
                logger.warning(
                    "the database did not know the erasure %s: it is carried out again", erasure_id
                )
                await self._store.restore(erasure_id, documents[erasure_id])
                known[erasure_id] = documents[erasure_id]
        in_redis, in_folder = others
        if changed := _changed(known, in_redis):
            await self._redis.hset(
                keys.ERASURES, mapping={one: orjson.dumps(known[one]) for one in changed}
            )
        if _changed(known, in_folder):
            await asyncio.to_thread(self._write, known)
        if not begun:
            return set()
        if _changed(known, archived):
            await self._archive.objects.put(REMEMBERED, orjson.dumps(known))
        return set(known) - set(archived)

    async def _has_begun(self) -> bool:
        """Whether there is an archive: one of which nothing is there yet is not made for this."""
        if await self._archive.objects.begun():
            return True
        if await self._archive.tools():
            raise UnavailableError("the archive's folder is not there: is its disk?")
        return False

    async def _of_redis(self) -> Documents:
        found = await self._redis.hgetall(keys.ERASURES)
        return _documents({name.decode(): value for name, value in found.items()})

    async def _of_archive(self) -> Documents:
        try:
            return _all(await self._archive.objects.get(REMEMBERED))
        except MissingObjectError:
            return {}

    def _of_folder(self) -> Documents:
        try:
            return _all(self._path.read_bytes())
        except FileNotFoundError:
            return {}

    def _write(self, known: Documents) -> None:
        draft = self._path.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(known))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _changed(known: Documents, there: Documents) -> list[str]:
    return [one for one, document in known.items() if there.get(one) != document]


def _all(data: bytes) -> Documents:
    try:
        found = json.loads(data)
    except ValueError as error:
        logger.error("what is remembered of erasures cannot be read in one place: %s", error)
        return {}
    return {name: value for name, value in found.items() if _is_document(value)}


def _documents(found: Mapping[str, bytes]) -> Documents:
    documents: Documents = {}
    for name, data in found.items():
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue
        if _is_document(value):
            documents[name] = value
    return documents


def _is_document(value: Any) -> bool:
    wanted = ("tenant", "kind", "target", "reason", "events", "sent", "objects")
    return isinstance(value, dict) and all(name in value for name in wanted)
