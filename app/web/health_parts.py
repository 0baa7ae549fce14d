"""The parts of ``/health``: of each what state it is in, and what to do where it is not well."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hookstream.app import tasks
from hookstream.app.archive.objects import Objects
from hookstream.app.circuit_breaker import BreakerState
from hookstream.app.errors import UnavailableError
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.generations import Generations
from hookstream.app.ids import partition_of
from hookstream.app.ingest.appender import Appender
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.queues.states import QueueState
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.redis.errors import redis_kind
from hookstream.app.redis.memory import SAYS, MemoryWatch
from hookstream.app.redis.watch import RedisWatch
from hookstream.app.routing.condition_judge import Name, Trouble
from hookstream.app.settings import Settings
from hookstream.app.stalls import LoopWatch
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.secret_sealing import SecretSealing
from hookstream.app.streams.lag import Assignment, DeadLetters, StreamLag
from hookstream.app.web.partitions import StreamMeter
from hookstream.app.web.worker import Endpoint, Worker
from hookstream.codecs.envelope import KNOWN_VERSIONS

__all__ = [
    "RedisHealth",
    "StreamHealth",
    "archive_out",
    "can_spool",
    "catalog_out",
    "conditions_out",
    "kafka_out",
    "postgres_out",
    "queues_out",
    "sealing_out",
    "secrets_out",
    "sockets_out",
    "spool_out",
    "stages_out",
    "stalls_out",
    "tasks_out",
    "tenants_out",
    "worker_out",
]

#: PostgreSQL is down when it does not answer a question in this time.
POSTGRES_SECONDS = 2.0
#: The catalog is looked at each second; one that was not confirmed for this long may be outdated.
OLD_SECONDS = 15.0
#: Of subscriptions in trouble.
MAX_NAMED = 20
#: How long a loss of data in Redis is told.
LOSS_TOLD_MS = 24 * 3_600_000


class RedisHealth:
    """Whether Redis takes anything now, and whether it is safe with what it has."""

    def __init__(
        self,
        watch: RedisWatch,
        met: asyncio.Event,
        met_with: Callable[[], str],
        refused: Callable[[], Mapping[str, str]],
        memory: MemoryWatch,
    ) -> None:
        """``met``: it is the one that the settings are for; ``met_with``: what it said instead.

        ``refused``: scripts that it refuses at the moment, and the kind of what it says.
        """
        self._refused = refused
        self._watch = watch
        self._met = met
        self._met_with = met_with
        self._memory = memory

    async def is_well(self) -> bool:
        """Whether this process can work with it."""
        if not self._met.is_set():
            return False
        status, _ = await self._watch.probe()
        return status == "ok"

    async def part(self) -> dict[str, Any]:
        """Its part."""
        status, kind = await self._watch.probe()
        if status == "ok" and not self._met.is_set():
            status, kind = "refusing", self._met_with()
        findings, refused = self._watch.findings, dict(self._refused())
        told = [*findings.dangers, *findings.warnings]
        pressure = self._memory.pressure
        return {
            "status": "degraded" if status == "ok" and (told or refused or pressure) else status,
            "detail": kind or ", ".join(sorted(set(refused.values()))),
            "refused": refused,
            "settings": [*told, *findings.notes],
            "policy": findings.policy,
            "persistence": findings.persistence,
            "used_bytes": self._memory.used or findings.used_bytes,
            "max_bytes": self._memory.most or findings.max_bytes,
            "memory_pressure": int(pressure),
            "memory": SAYS[pressure],
        }


def archive_out(objects: Objects) -> dict[str, Any]:
    """What this process could not do with the archive lately."""
    trouble = objects.trouble
    return {"status": "degraded" if trouble else "ok", "detail": trouble}


def queues_out(queues: Sequence[QueueState]) -> dict[str, Any]:
    """What is in the way of queues that events come out of, or are copied into."""
    troubled = [queue for queue in queues if queue.trouble]
    return {
        "status": "degraded" if troubled else "ok",
        "queues": len(queues),
        "troubled": len(troubled),
        "troubles": [
            {
                "tool": queue.tool_id,
                "queue": queue.queue,
                "trouble": queue.trouble,
                "detail": queue.detail,
            }
            for queue in troubled[:MAX_NAMED]
        ],
    }


def kafka_out(topics: Sequence[QueueState]) -> dict[str, Any]:
    """What is in the way of topics: tools' sources, mirrors, and those that agents take from."""
    troubled = [topic for topic in topics if topic.trouble]
    return {
        "status": "degraded" if troubled else "ok",
        "topics": len(topics),
        "troubled": len(troubled),
        "troubles": [
            {
                "tool": topic.tool_id or None,
                "topic": topic.queue,
                "trouble": topic.trouble,
                "detail": topic.detail,
            }
            for topic in troubled[:MAX_NAMED]
        ],
    }


class StreamHealth:
    """How far streams have come, who works on them, and what Redis has lost of feeds."""

    def __init__(
        self, meter: StreamMeter, feeds: Feeds, catalog: CatalogCache, settings: Settings
    ) -> None:
        self._meter = meter
        self._settings = settings
        self._feeds = feeds
        self._catalog = catalog

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._meter.partitions

    async def parts(self) -> dict[str, Any]:
        """The parts that Redis has to be asked for."""
        parts: dict[str, Any] = {}
        try:
            longest = self._settings.health_oldest_seconds
            parts["streams"] = lag_out(await self._meter.lag(), longest)
            most = self._settings.health_dead_letters
            parts["dead_letters"] = dead_letters_out(await self._meter.dead_letters(), most)
            parts["versions"] = versions_out(await self._meter.quarantined())
            parts["workers"] = workers_out(await self._meter.assignment())
            parts["generations"] = await self._generations()
        except REDIS_ERRORS as error:
            parts["streams"] = {"status": "down", "detail": redis_kind(error)}
        return parts

    async def _generations(self) -> dict[str, Any]:
        """Partitions whose feeds have begun anew within a day, since Redis had lost data."""
        count, now_ms = self._meter.partitions, self._meter.now_ms()
        begun = await self._feeds.generations(range(count))
        contexts = Counter(partition_of(count, *name) for name in self._catalog.current.contexts)
        return generations_out(begun, contexts, now_ms)


async def postgres_out(postgres: Postgres) -> dict[str, Any]:
    """Whether PostgreSQL answers, and takes anything."""
    try:
        async with asyncio.timeout(POSTGRES_SECONDS):
            await postgres.schema.look(postgres)
            await postgres.hold_tenants()
            row = await postgres.fetchrow(statement("postgres_state"))
    except (UnavailableError, TimeoutError):
        return {"status": "down", "detail": ", ".join(postgres.troubles())}
    if row and row["read_only"]:
        return {"status": "read-only", "detail": ", ".join(postgres.troubles())}
    refused = postgres.troubles()
    return {"status": "degraded" if refused else "ok", "detail": ", ".join(refused)}


def tenants_out(unheld: str | None, others: bool) -> dict[str, Any]:
    """Whether row-level security tells tenants apart, too; ``others``: there are several.

    ``unheld``: why it does not, "" where it does, None where that is not known.
    """
    part: dict[str, Any] = {"row_security": "on" if unheld == "" else "off"}
    if unheld:
        part["row_security_trouble"] = unheld
        if others:
            part["status"] = "degraded"
            part["do"] = (
                "tenants are told apart by statements alone, and not by row-level security, too: "
                "`row_security_trouble` says what to grant (docs/tenants.md)"
            )
    return part


def catalog_out(catalog: CatalogCache) -> dict[str, Any]:
    """How new the tools and subscriptions are that this process goes by."""
    part = {
        "status": "ok",
        "version": catalog.current.version,
        "age_seconds": round(catalog.age_seconds, 1),
        "from_disk": catalog.from_disk,
        "detail": catalog.note,
    }
    if not catalog.loaded:
        part["status"] = "down"
    elif catalog.from_disk or catalog.note or catalog.age_seconds > OLD_SECONDS:
        part["status"] = "degraded"
    return part


def sealing_out(data_keys: DataKeys, secrets: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Whether content is sealed, and which data keys cannot be had; ``secrets``: a receiver's part.

    ``missing_keys``: ids of data keys, or `tenant/month` of those that cannot be made, and why.
    What needs one waits.
    """
    detail, said = data_keys.trouble, ""
    if data_keys.missing:
        name, why = next(iter(data_keys.missing.items()))
        detail = detail or f"the data key {name} cannot be had: {why}"
    if data_keys.wanted and not data_keys.seals:
        said = "payloads are kept in the clear until `hookstream schema finish`"
    part = {
        "status": "ok",
        "payloads": "sealed" if data_keys.seals else "clear",
        "missing_keys": dict(list(data_keys.missing.items())[:MAX_NAMED]),
        "missing": len(data_keys.missing),
        **(secrets or {}),
    }
    if detail:
        part["status"] = "degraded"
    part["detail"] = "; ".join(one for one in (detail, part.get("detail", ""), said) if one)
    return part


def secrets_out(catalog: CatalogCache, sealing: SecretSealing) -> dict[str, Any]:
    """Whether tools' secrets are sealed where they are kept, and whether they can be opened.

    ``to_seal``: tools whose secrets are in the clear, or sealed by a key that is not the first one
    any more, and cannot be opened.
    """
    secrets, locked = catalog.secrets, catalog.current.sealed_tools
    detail = sealing.trouble or next(iter(locked.values()), "")
    said = ""
    if secrets.ring.is_empty:
        said = "tools' secrets are kept in the clear: set HOOKSTREAM_KEY_URL (docs/sealing.md)"
    elif not secrets.seals:
        said = "tools' secrets are kept in the clear until `hookstream schema finish`"
    return {
        "status": "degraded" if detail else "ok",
        "tool_secrets": "sealed" if secrets.seals else "clear",
        "locked_tools": sorted(locked)[:MAX_NAMED],
        "locked": len(locked),
        "to_seal": sealing.left,
        "detail": detail or said,
    }


def can_spool(appender: Appender, worker: Worker | None) -> bool:
    """Whether this process can do its work without Redis: a receiver with a spool can."""
    return worker is None and appender.writable()


def spool_out(appender: Appender) -> dict[str, Any]:
    """What waits on this machine's disk, and why.

    ``leftover_folders``: with events of processes that are gone; counted by all that see them.
    """
    spool = appender.spool
    part: dict[str, Any] = {
        "status": spool_state(appender),
        "full_streams": len(appender.backlog.full),
        "entries": spool.entries if spool else 0,
        "bytes": spool.bytes if spool else 0,
        "oldest_seconds": appender.oldest_seconds(),
        "drained_per_second": round(appender.drained_per_second, 1),
        "leftover_folders": len(appender.leftovers),
    }
    if appender.spool_trouble:
        part["detail"] = "it cannot be opened: the log says why"
    if refused := appender.refusals():
        part["refused"] = refused
    return part


def spool_state(appender: Appender) -> str:
    """The status of the spool."""
    if appender.spool_trouble:
        return "down"
    if appender.refusals():
        return "degraded"
    waits = appender.leftovers or (appender.spool and appender.spool.entries)
    return "draining" if waits else "ok"


def worker_out(worker: Worker, partitions: int) -> dict[str, Any]:
    """The parts that only a worker has; ``partitions``: how many there are."""
    leases, tripped = worker.leases, worker.tripped()
    parts: dict[str, Any] = {
        "partitions": {
            "status": "ok",
            "owned": len(leases.owned),
            "of": partitions,
            "workers": leases.workers,
        }
    }
    if refused := leases.refused():
        parts["partitions"] |= {"status": "degraded", "refused": refused}
    parts["alerts"] = endpoint_out(worker.alerts)
    if worker.model:
        parts["summariser"] = endpoint_out(worker.model)
    parts["breakers"] = {"status": "degraded" if tripped else "ok", "tools": tripped}
    return parts


def endpoint_out(endpoint: Endpoint) -> dict[str, Any]:
    """Whether something outside is asked, or its circuit breaker is open."""
    state = endpoint.breaker.state
    status = "ok" if state is BreakerState.CLOSED else "degraded"
    return {"status": status, "endpoint": state.value}


def lag_out(lags: Mapping[str, StreamLag], longest_seconds: float) -> dict[str, Any]:
    """How far behind each channel is; nothing should wait for as long as ``longest_seconds``."""
    late = [name for name, lag in lags.items() if lag.oldest_seconds >= longest_seconds]
    part: dict[str, Any] = {"status": "degraded" if late else "ok"}
    if late:
        part["late"] = late
        part["do"] = (
            "what is named stands still or is worked off too slowly: see `workers` and "
            "`partitions`, the workers' logs, and `hookstream partitions`; where all goes well, "
            "start more workers"
        )
    for name, lag in lags.items():
        part[name] = {
            "lag": lag.lag,
            "pending": lag.pending,
            "oldest_pending_seconds": lag.oldest_pending_seconds,
            "oldest_seconds": lag.oldest_seconds,
        }
    return part


def dead_letters_out(letters: DeadLetters, most: int) -> dict[str, Any]:
    """How many there are; ``most``: new ones within ten minutes (0: any number)."""
    rising = 0 < most <= letters.lately
    part: dict[str, Any] = {
        "status": "degraded" if rising else "ok",
        "total": letters.total,
        "lately": letters.lately,
    }
    if rising:
        part["do"] = (
            "`hookstream dead list` says which events, and why; mend that, then `dead retry` them"
        )
    return part


def workers_out(found: Assignment) -> dict[str, Any]:
    """Who works, which partitions nobody has, what workers cannot do, and what to do about it."""
    troubles = {name: note.values() for name, note in found.troubles.items()}
    part: dict[str, Any] = {
        "status": "degraded" if not found.workers or found.unowned or troubles else "ok",
        "alive": list(found.workers),
        "unowned_partitions": list(found.unowned),
        "troubles": troubles,
    }
    if not found.workers and troubles:
        part["do"] = "no worker can work: troubles say why; events are kept until then"
    elif not found.workers:
        part["do"] = "no worker lives: start one (hookstream worker); events are kept until then"
    elif found.unowned:
        part["do"] = "partitions without an owner stand still: see troubles, and workers' logs"
    elif troubles:
        part["do"] = "a worker cannot open what is named: see its disk, or that partition's keys"
    return part


def stages_out(missing: Mapping[str, str]) -> dict[str, Any]:
    """Modules with stages that a receiver could not import."""
    return {
        "status": "degraded",
        "missing": dict(missing),
        "do": "mend the module and restart; until then webhooks are taken, and what asks for a "
        "dedup function of it is judged by the worker",
    }


def tasks_out(failures: Sequence[tasks.TaskFailure]) -> dict[str, Any]:
    """Background tasks that have failed within the last minute, and what to do."""
    part: dict[str, Any] = {"status": "ok", "failing": []}
    for failure in failures:
        part["failing"].append(
            {
                "task": failure.task,
                "failures": failure.failures,
                "error": failure.error,
                "is": "started again" if failure.restarts else "closed, with what depends on it",
            }
        )
    if failures:
        part["status"] = "degraded"
        part["detail"] = (
            "see the log for the traceback, once a task; what fails for a minute and more is a "
            "fault of this version: report it, and restart this process if its work stands still"
        )
    return part


def stalls_out(watch: LoopWatch) -> dict[str, Any]:
    """How often this process's event loop stood still, and where within the last minute."""
    lately = watch.lately()
    part: dict[str, Any] = {
        "status": "degraded" if lately else "ok",
        "pid": os.getpid(),
        "stalls": watch.count,
        "longest_seconds": round(watch.longest_seconds, 1),
        "lately": [
            {
                "at": datetime.fromtimestamp(stall.at, UTC).isoformat(timespec="milliseconds"),
                "seconds": round(stall.seconds, 1),
                "where": stall.where,
            }
            for stall in lately
        ],
    }
    if lately:
        part["do"] = (
            "everything in this process waited meanwhile; the log has the stack. In a stage of "
            "yours: await what waits, and give what computes to asyncio.to_thread; in code of "
            "Hookstream: report it; where no code is named: give the machine more CPU"
        )
    return part


def conditions_out(troubles: Mapping[Name, Trouble], unused: Mapping[Name, str]) -> dict[str, Any]:
    """Subscriptions whose conditions go wrong here, and those that reach nobody any more.

    Errors that a payload brings along (``failing``) do not make a process unwell by themselves: a
    sender could do that.
    """
    off = {**{name: trouble.off for name, trouble in troubles.items() if trouble.off}, **unused}
    failing = {name: trouble for name, trouble in troubles.items() if name not in off}
    breached = any(trouble.breaches for trouble in failing.values())
    part: dict[str, Any] = {
        "status": "degraded" if off or breached else "ok",
        "switched_off": {"/".join(name): off[name] for name in sorted(off)[:MAX_NAMED]},
        "failing": {
            "/".join(name): f"{trouble.kind}: {trouble.error}"
            for name, trouble in list(failing.items())[-MAX_NAMED:]
        },
    }
    if off or breached:
        part["do"] = (
            "names are tenant/context/subscription; what is switched off reaches nobody until its "
            "`where` is set anew: name single fields, and no list for each element of another"
        )
    return part


def sockets_out(state: Mapping[str, Any], wakeups: str) -> dict[str, Any]:
    """Clients that follow feeds here; those that get nothing, and what to do.

    ``wakeups``: what keeps pub/sub from telling of new updates, "" for nothing.
    """
    part: dict[str, Any] = {"status": "ok", **state, "wakeups": wakeups or "ok"}
    if wakeups:
        part["status"] = "degraded"
        part["detail"] = (
            "feeds are polled each second meanwhile: see the log, and whether Redis' rights (ACL) "
            "let this user subscribe to channels"
        )
    if state["behind"] or state["failing"] or state["closed_lately"]:
        part["status"] = "degraded"
        part["detail"] = (
            "clients that are behind or whose feeds cannot be read are closed within 30 s and "
            "resume by themselves: see `errors` and the log for why, and Redis' own rights (ACL), "
            "keys and load; if it goes on here and not in other processes, restart this one"
        )
    return part


def generations_out(
    begun: Mapping[int, Generations], contexts: Mapping[int, int], now_ms: int
) -> dict[str, Any]:
    """What Redis has lost within a day; ``contexts``: how many each partition has."""
    lost = [
        {
            "partition": number,
            "generation": generations.current,
            "at": datetime.fromtimestamp(generations.current / 1000, UTC).isoformat(),
            "contexts": contexts.get(number, 0),
        }
        for number, generations in begun.items()
        if generations.start > 1 and now_ms - generations.current < LOSS_TOLD_MS
    ]
    part: dict[str, Any] = {"status": "ok", "lost": lost}
    if lost:
        part["status"] = "degraded"
        part["detail"] = (
            f"Redis has lost data of {len(lost)} partitions within a day: their feeds go on with "
            "higher numbers, and clients are told what is missing. `hookstream doctor --loss` "
            "lists it; see to Redis' persistence. This line goes after a day"
        )
    return part


def versions_out(quarantined: dict[int, int]) -> dict[str, Any]:
    """Which envelopes are read here, and what waits for a newer worker."""
    part: dict[str, Any] = {"status": "ok", "reads": sorted(KNOWN_VERSIONS), "held": []}
    waiting = {version: n for version, n in quarantined.items() if version not in KNOWN_VERSIONS}
    part["held"] = [
        {"version": version, "entries": n} for version, n in sorted(quarantined.items())
    ]
    if waiting:
        counts = ", ".join(f"{n} of version {version}" for version, n in sorted(waiting.items()))
        reads = ", ".join(map(str, sorted(KNOWN_VERSIONS)))
        part["status"] = "degraded"
        part["detail"] = (
            f"entries wait that no worker here reads: {counts} (this build reads version {reads}). "
            "They are kept: upgrade the workers, and they come by themselves"
        )
    return part
