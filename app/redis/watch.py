"""Whether Redis may lose what it was given: its eviction policy, persistence and memory.

Looked at when a process starts, and again each minute. What makes it drop streams refuses the
start; what shows only later is a line in ``/health``, and ends nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import TimeoutError as RedisTimeoutError

from hookstream.app import metrics, tasks
from hookstream.app.errors import SettingsError
from hookstream.app.redis import keys
from hookstream.app.redis.client import by_node, info_by_node, is_cluster
from hookstream.app.redis.errors import REDIS_ERRORS, redis_kind

__all__ = ["Findings", "RedisWatch", "judge", "together"]

logger = get_logger(__name__)

WATCH_SECONDS = 60.0
#: A server that takes longer to answer is slow.
PROBE_SECONDS = 1.0
PROBE_TTL_MS = 60_000
#: From this share of its memory on a server is nearly full.
NEARLY_FULL = 0.9
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Findings:
    """What one server, or the worst of several, is set to and uses.

    ``dangers`` lose events, each with what to set; ``warnings`` may come to matter.
    """

    policy: str = UNKNOWN
    persistence: str = UNKNOWN
    used_bytes: int = 0
    max_bytes: int = 0
    dangers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(info: Mapping[str, Any], config: Mapping[str, str] | None) -> Findings:
    """Judge a server by INFO and, where a user may read it, CONFIG (None where not).

    >>> judge({"maxmemory_policy": "allkeys-lru", "aof_enabled": 1}, None).dangers[0][:36]
    'maxmemory-policy is allkeys-lru: set'
    """
    dangers: list[str] = []
    warnings: list[str] = []
    policy = str(info.get("maxmemory_policy", UNKNOWN))
    if policy.startswith("allkeys-"):
        dangers.append(
            f"maxmemory-policy is {policy}: set it to noeviction, or a full server drops streams"
        )
    elif policy not in ("noeviction", UNKNOWN):
        warnings.append(f"maxmemory-policy is {policy}: it may drop dedup history; set noeviction")
    persistence = _persistence(info, config)
    if persistence == "none":
        dangers.append("nothing is written to disk: set appendonly yes, or a restart loses all")
    elif persistence == "snapshots":
        warnings.append("only snapshots are written: set appendonly yes, or a crash loses minutes")
    for name in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            warnings.append(f"{name} is {info[name]}: look at its disk")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used >= NEARLY_FULL * most:
        warnings.append(f"{used} of {most} bytes of its maxmemory are used")
    notes: tuple[str, ...] = ()
    if "maxmemory" in info and not most:
        notes = ("maxmemory is 0: set it, or a full Redis takes the whole machine's memory",)
    if info.get("cluster_enabled") and (config or {}).get("cluster-require-full-coverage") == "yes":
        # the default: good to know, and no reason for an alarm
        notes += ("cluster-require-full-coverage: while one master is away, none takes anything",)
    return Findings(policy, persistence, used, most, tuple(dangers), tuple(warnings), notes)


def _persistence(info: Mapping[str, Any], config: Mapping[str, str] | None) -> str:
    if "aof_enabled" not in info:
        return UNKNOWN
    if info["aof_enabled"]:
        return "aof"
    if config is None or "save" not in config:
        return UNKNOWN
    return "snapshots" if config["save"] else "none"


def together(every: Sequence[Findings]) -> Findings:
    """The worst of several servers: any of them may be a master tomorrow."""
    if not every:
        return Findings()
    fullest = max(every, key=lambda one: one.used_bytes / (one.max_bytes or 1 << 60))
    dangers = tuple(dict.fromkeys(text for one in every for text in one.dangers))
    warnings = tuple(dict.fromkeys(text for one in every for text in one.warnings))
    worst = max(every, key=lambda one: (len(one.dangers), len(one.warnings)))
    return Findings(
        worst.policy,
        worst.persistence,
        fullest.used_bytes,
        fullest.max_bytes,
        dangers,
        warnings,
        tuple(dict.fromkeys(text for one in every for text in one.notes)),
    )


class RedisWatch(Service):
    """Looks at the servers from time to time, and says whether they take anything now."""

    mundane_level = "debug"

    def __init__(self, redis: Any, *, allow_unsafe: bool, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._allow_unsafe = allow_unsafe
        self.findings = Findings()

    async def check(self) -> None:
        """Look at the servers before anything is given to them.

        Raises:
            SettingsError: they may lose it, and nobody has said that this is all right.
        """
        await self.look()
        if self.findings.dangers and not self._allow_unsafe:
            raise SettingsError(
                f"Redis may lose events: {'; '.join(self.findings.dangers)}. With "
                "HOOKSTREAM_REDIS_ALLOW_UNSAFE=true this starts all the same"
            )

    async def look(self) -> None:
        """Ask every server. Raises RedisError where one does not answer."""
        infos = [
            await info_by_node(self._redis, section)
            for section in ("memory", "persistence", "cluster")
        ]
        configs = await self._configs()
        every = [
            judge({**infos[0][node], **infos[1].get(node, {}), **infos[2].get(node, {})}, config)
            for node, config in ((node, configs.get(node)) for node in infos[0])
        ]
        before, self.findings = self.findings, together(every)
        for text in (*self.findings.dangers, *self.findings.warnings):
            if text not in (*before.dangers, *before.warnings):
                logger.warning("Redis: %s", text)
        metrics.REDIS_DANGERS.set(len(self.findings.dangers))
        metrics.REDIS_MEMORY_BYTES.labels(kind="used").set(self.findings.used_bytes)
        metrics.REDIS_MEMORY_BYTES.labels(kind="max").set(self.findings.max_bytes)

    async def _configs(self) -> dict[str, dict[str, str]]:
        """What CONFIG says by node; nothing where the user may not read it."""
        command = ("CONFIG GET", "save"), ("CONFIG GET", "cluster-require-full-coverage")
        options = {"target_nodes": "all"} if is_cluster(self._redis) else {}
        found: dict[str, dict[str, str]] = {}
        for words in command:
            try:
                reply = await self._redis.execute_command(*words, **options)
            except REDIS_ERRORS as error:
                logger.debug("CONFIG cannot be read: %s", error)
                return {}
            for node, values in by_node(reply, nested=(dict, list)).items():
                found.setdefault(node, {}).update(_texts(values))
        return found

    async def probe(self) -> tuple[str, str]:
        """Whether Redis takes a write now, and the kind of its refusal.

        ``ok``; ``slow``: no answer in time; ``refusing``: it answers, with an error; ``down``.
        """
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._redis.set(keys.PROBE, "", px=PROBE_TTL_MS)
        except (TimeoutError, RedisTimeoutError):
            return "slow", ""
        except REDIS_ERRORS as error:
            kind = redis_kind(error)
            return ("refusing" if kind.isupper() else "down"), kind
        return "ok", ""

    @tasks.loop
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(WATCH_SECONDS)
            try:
                await self.look()
            except REDIS_ERRORS as error:
                # that it does not answer is told elsewhere
                logger.debug("Redis cannot be looked at: %s", error)


def _texts(values: Any) -> dict[str, str]:
    pairs: Iterable[Any] = (
        values.items() if isinstance(values, dict) else zip(values[::2], values[1::2], strict=True)
    )
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
