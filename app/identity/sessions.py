"""Sessions of people, in Redis: whoever has the token of one is that person until it ends."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.roles import Role

__all__ = ["Person", "Sessions", "digest_of"]

logger = get_logger(__name__)

#: How often it is looked whether sessions of open connections are there yet.
LOOK_SECONDS: Final = 2.0
MOST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Person:
    """Who has signed in. ``until``: when the session ends, in Unix seconds."""

    subject: str
    name: str
    tenant: str
    role: Role
    until: float


def digest_of(token: str) -> bytes:
    """What is kept of a session's token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Sessions(Service):
    """Makes, finds and ends sessions."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        seconds: float,
        now: Callable[[], float] = time.time,
        **kwargs: Any,
    ) -> None:
        """``seconds``: how long one lasts."""
        super().__init__(**kwargs)
        self._redis = redis
        self._seconds = seconds
        self._now = now
        #: Until when each lasts that a connection of this process has gone by.
        self._followed: dict[bytes, float] = {}

    @property
    def seconds(self) -> float:
        """How long one lasts."""
        return self._seconds

    async def begin(self, subject: str, name: str, tenant: str, role: Role) -> str:
        """The token of a new session. Raises UnavailableError: Redis is away."""
        token = secrets.token_urlsafe(32)
        until = self._now() + self._seconds
        text = orjson.dumps(
            {
                "subject": subject[:MOST_NAME],
                "name": name[:MOST_NAME],
                "tenant": tenant,
                "role": role,
                "until": until,
            }
        )
        key = keys.session(digest_of(token).hex())
        try:
            await self._redis.set(key, text, ex=max(1, int(self._seconds)))
        except REDIS_ERRORS as error:
            raise _away() from error
        return token

    async def find(self, token: str) -> Person | None:
        """Whose session it is; None where there is none (any more).

        Raises:
            UnavailableError: Redis is away.
        """
        digest = digest_of(token)
        try:
            text = await self._redis.get(keys.session(digest.hex()))
        except REDIS_ERRORS as error:
            raise _away() from error
        if text is None:
            return None
        try:
            found = orjson.loads(text)
            person = Person(
                found["subject"],
                found["name"],
                found["tenant"],
                Role(found["role"]),
                float(found["until"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            logger.error("a session cannot be read: %r", error)
            return None
        if self._now() >= person.until:
            return None
        return person

    async def end(self, token: str) -> None:
        """End a session; its connections end within seconds. Raises UnavailableError."""
        digest = digest_of(token)
        try:
            await self._redis.delete(keys.session(digest.hex()))
        except REDIS_ERRORS as error:
            raise _away() from error
        self._followed.pop(digest, None)

    def follow(self, digest: bytes, until: float) -> None:
        """Look after a session until it ends: a connection goes by it."""
        self._followed[digest] = until

    def still(self, digest: bytes) -> bool:
        """Whether a session that is followed has neither ended nor been ended."""
        return self._now() < self._followed.get(digest, 0.0)

    @tasks.loop
    async def _look(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except REDIS_ERRORS as error:
                logger.debug("sessions are looked at later: %s", error)

    async def look(self) -> None:
        """Forget sessions that have ended, here or elsewhere. Redis's errors as they come."""
        for digest in list(self._followed):
            if not self.still(digest) or not await self._redis.exists(keys.session(digest.hex())):
                self._followed.pop(digest, None)


def _away() -> UnavailableError:
    return UnavailableError("sessions cannot be read at the moment: try again, or use a key")
