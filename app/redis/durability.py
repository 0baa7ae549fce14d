"""Appends that are durable when they return: on this server, on its disk, or on a replica."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from hookstream.app import tasks
from hookstream.app.errors import SettingsError, UnconfirmedError
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster

__all__ = ["Durability", "append_all", "append_groups"]

#: How long a replica, or the disk, has to confirm an append.
CONFIRM_MS = 1000
Call = tuple[str, Sequence[Any]]


class Durability:
    """What ``HOOKSTREAM_DURABILITY`` asks for: ``local``, ``fsync`` or ``replicated``.

    A confirmation (WAIT, WAITAOF) covers what the same connection wrote before it, so it always
    travels in the pipeline of the writes it is for.
    """

    def __init__(self, redis: Any, mode: str) -> None:
        self.mode = mode
        self._redis = redis
        self._always_synced = False
        self._waiting: list[tuple[Sequence[Call], asyncio.Future[list[Any]]]] = []

    async def check(self) -> None:
        """Ask whether the server can do what is wanted.

        Raises:
            SettingsError: it cannot; the message says what to set.
            RedisError: it does not say; ask again.
        """
        if self.mode != "fsync":
            return
        try:
            await self._redis.execute_command("WAITAOF", 1, 0, 1)
        except ResponseError as error:
            said = str(error).lower()
            if "appendonly is disabled" in said:
                raise SettingsError(
                    f"HOOKSTREAM_DURABILITY=fsync: {error}. Set appendonly yes on the server"
                ) from error
            if "unknown command" not in said:
                raise  # a replica after a failover, say
            config = await self._redis.config_get("appendfsync")
            if config.get("appendfsync") not in ("always", b"always") and config.get(
                b"appendfsync"
            ) not in ("always", b"always"):
                raise SettingsError(
                    "HOOKSTREAM_DURABILITY=fsync: this server has no WAITAOF (Redis 7.2 or Valkey "
                    "has); upgrade it, or set appendfsync always there"
                ) from error
            self._always_synced = True

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run commands on keys, each group confirmed; replies in order, errors among them.

        ``calls`` are (key, command and arguments). What was written and not confirmed in time
        has UnconfirmedError for a reply: it may or may not survive a failover. What a server of a
        cluster refused because its slot has moved is sent on once, in its order.
        """
        replies = await self._run(calls)
        if is_cluster(self._redis) and (again := sent_on([key for key, _ in calls], replies)):
            if self.confirms:
                found = await self._run([calls[at] for at in again])
            else:
                found = await self._follow([calls[at] for at in again])
            for at, reply in zip(again, found, strict=True):
                replies[at] = reply
        return replies

    async def _follow(self, calls: Sequence[Call]) -> list[Any]:
        """Run commands one by one where their keys are; none behind one of its key that fails."""
        replies: list[Any] = []
        failed: dict[str, Exception] = {}
        for key, command in calls:
            if key not in failed:
                try:
                    replies.append(await self._redis.execute_command(*command))
                    continue
                except REDIS_ERRORS as error:
                    failed[key] = error
            replies.append(failed[key])
        return replies

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        confirms: list[tuple[int, set[int]]] = []
        for _, command in calls:
            pipe.execute_command(*command)
        confirm = self._confirmation()
        if confirm is None:
            return list(await self._execute(pipe))
        if is_cluster(self._redis):
            nodes: dict[str, tuple[Any, set[int]]] = {}
            for at, (key, _) in enumerate(calls):
                node = await self._redis.node_of(key)
                nodes.setdefault(node.name, (node, set()))[1].add(at)
            for node, members in nodes.values():
                confirms.append((len(calls) + len(confirms), members))
                pipe.execute_command(*confirm, target_nodes=node)
        else:
            confirms.append((len(calls), set(range(len(calls)))))
            pipe.execute_command(*confirm)
        replies = list(await self._execute(pipe))
        for place, members in confirms:
            if not _confirmed(self.mode, replies[place]):
                for at in members:
                    if not isinstance(replies[at], Exception):
                        replies[at] = UnconfirmedError(_LATE[self.mode], replies[at])
        return replies[: len(calls)]

    async def run_together(self, calls: Sequence[Call]) -> list[Any]:
        """As :meth:`run`, in one round trip with what others want to run in the same moment."""
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((calls, done))
        if len(self._waiting) == 1:
            tasks.spawn("Durability._send", self._send())
        return await done

    async def _send(self) -> None:
        """Run what has come together since this was asked for, and hand out the replies."""
        waiting, self._waiting = self._waiting, []
        try:
            replies = await self.run([call for calls, _ in waiting for call in calls])
        except asyncio.CancelledError:
            for _, done in waiting:
                done.cancel()
            raise
        except Exception as error:  # noqa: BLE001 every caller must hear of it
            for _, done in waiting:
                if not done.done():
                    done.set_exception(error)
            return
        at = 0
        for calls, done in waiting:
            if not done.done():
                done.set_result(replies[at : at + len(calls)])
            at += len(calls)

    async def barrier(self, key: str) -> bool:
        """Whether everything that this server holds now is on a replica too.

        Only for ``replicated``: what a reader has shown to a client must not be taken back by a
        failover. ``key``, of the same slot as what was read, is written to have something to wait
        for; that covers all that came before it.
        """
        if self.mode != "replicated":
            return True
        [reply] = await self.run([(key, ("SET", key, ""))])
        return not isinstance(reply, Exception)

    @property
    def confirms(self) -> bool:
        """Whether it takes a word of a replica, or of the disk, for a write to be durable."""
        return self._confirmation() is not None

    def _confirmation(self) -> tuple[Any, ...] | None:
        if self.mode == "replicated":
            return ("WAIT", 1, CONFIRM_MS)
        if self.mode == "fsync" and not self._always_synced:
            return ("WAITAOF", 1, 0, CONFIRM_MS)
        return None

    async def _execute(self, pipe: Any) -> Any:
        if is_cluster(self._redis):
            # a redirected command would go to another server than its confirmation
            replies = await pipe.execute(raise_on_error=False, allow_redirections=False)
            for reply in replies:
                if isinstance(reply, MovedError):
                    await self._redis.has_moved(reply)
                elif isinstance(reply, ResponseError) and not isinstance(reply, _KNOWN_PLACES):
                    self._redis.look_again()
            return replies
        return await pipe.execute(raise_on_error=False)


def sent_on(names: Sequence[str], replies: Sequence[Any]) -> list[int]:
    """Which commands were refused because the slot of their key has moved, and may be sent on.

    ``names``: the key of each. None of a key of which a later command was taken, or may have been:
    it would come behind that.

    >>> sent_on(["a", "b", "b"], [b"1-0", MovedError("7 host:1"), b"1-0"])
    []
    """
    refused: dict[str, list[int]] = {}
    for at, (key, reply) in enumerate(zip(names, replies, strict=False)):
        if isinstance(reply, (AskError, MovedError)):
            refused.setdefault(key, []).append(at)
        else:
            refused.pop(key, None)
    return sorted(at for places in refused.values() for at in places)


#: Refusals that say nothing of who has what.
_KNOWN_PLACES = (AskError, NoScriptError, TryAgainError)
_LATE = {
    "replicated": f"no replica confirmed the write within {CONFIRM_MS} ms",
    "fsync": f"the disk did not confirm the write within {CONFIRM_MS} ms",
}


def _confirmed(mode: str, reply: Any) -> bool:
    if isinstance(reply, Exception):
        return False
    return int(reply[0] if isinstance(reply, list) else reply) >= 1


async def append_groups(
    durability: Durability, scripts: Scripts, groups: Sequence[tuple[str, Sequence[bytes]]]
) -> None:
    """As :func:`append_all`.

    Raises:
        UnconfirmedError: a group was appended and is not confirmed.
        redis.exceptions.RedisError: a group was refused; others may have been appended.
    """
    for error in await append_all(durability, scripts, groups):
        if error is not None:
            raise error


async def append_all(
    durability: Durability, scripts: Scripts, groups: Sequence[tuple[str, Sequence[bytes]]]
) -> list[Exception | None]:
    """Append each group to its stream, a group all or none; one round trip a server, shared with
    what others append in the same moment.

    Gives what each group failed with: UnconfirmedError where it was appended and is not confirmed,
    else it was refused, or nothing is known of it.
    """
    if not groups:
        return []
    try:
        sha = await scripts.sha("append")
        calls = [(key, ("EVALSHA", sha, 1, key, *values)) for key, values in groups]
        replies = await durability.run_together(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # a server that came up anew has no scripts; what others have taken already is
            # recognised by its origin
            await scripts.load()
            replies = await durability.run_together(calls)
    except REDIS_ERRORS as error:
        return [error] * len(groups)
    return [reply if isinstance(reply, Exception) else None for reply in replies]
