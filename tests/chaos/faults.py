"""The kinds of faults, each a function that does it for a while and then undoes it.

A kind says which group it belongs to: two faults at once are of different groups. Which part it is
done to, for how long and with what details is drawn beforehand, so that a seed says it all.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from hookstream.app.streams.commit_scripts import COMMITS
from tests.chaos.postgres import ROLE
from tests.chaos.system import PARTITIONS, REDIS_USER, Part, System

__all__ = ["KINDS", "CannotError", "Kind"]


class CannotError(Exception):
    """This fault cannot be had here, or not now; the message says why."""


Act = Callable[[System, str, float, random.Random], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """``parts`` names what it may be done to; ``seconds``: from, to; ``act`` may return a note."""

    name: str
    group: str
    act: Act
    parts: Callable[[System], list[str]]
    seconds: tuple[float, float]
    weight: float


KINDS: dict[str, Kind] = {}


def _kind(
    name: str,
    parts: Callable[[System], list[str]] | str,
    seconds: tuple[float, float],
    weight: float = 1.0,
) -> Callable[[Act], Act]:
    which = parts if callable(parts) else lambda _: [parts]

    def keep(act: Act) -> Act:
        KINDS[name] = Kind(name, name.split("-")[0], act, which, seconds, weight)
        return act

    return keep


def _processes(system: System) -> list[str]:
    return list(system.parts)


def _workers(system: System) -> list[str]:
    return [name for name, part in system.parts.items() if part.kind == "worker"]


def _receivers(system: System) -> list[str]:
    return [name for name, part in system.parts.items() if part.kind == "receive"]


def _behind_proxies(system: System) -> list[str]:
    return [*system.processes, "all"]


async def _insist(act: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Do something with Redis until it succeeds: what undoes a fault must happen."""
    for attempt in range(int(seconds / 0.2)):
        try:
            return await asyncio.to_thread(act)
        except (RedisError, OSError):
            if attempt > seconds / 0.2 - 2:
                raise
            await asyncio.sleep(0.2)
    return None


# Processes.


@_kind("process-term", _processes, (0, 5), 3)
async def term(system: System, name: str, seconds: float, rng: random.Random) -> str | None:
    """SIGTERM, and started again a while later"""
    part = system.parts[name]
    in_time = await asyncio.to_thread(part.end, signal.SIGTERM)
    await asyncio.sleep(seconds)
    part.start()
    return None if in_time else "did not stop within 45 s: killed"


@_kind("process-kill", _processes, (0, 5), 3)
async def kill(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """kill -9, and started again a while later"""
    part = system.parts[name]
    await asyncio.to_thread(part.end, signal.SIGKILL)
    await asyncio.sleep(seconds)
    part.start()


@_kind("process-stop", _processes, (1, 16), 2)
async def stop(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """SIGSTOP, SIGCONT a while later"""
    part = system.parts[name]
    part.send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    part.send(signal.SIGCONT)


@_kind("process-terms", _workers, (1, 3), 2)
async def terms(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """SIGTERM and start, three times in a row"""
    for _ in range(3):
        await term(system, name, 0.0, rng)
        await asyncio.sleep(seconds)


@_kind("process-all-workers", "workers", (0, 3))
async def all_workers(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """all workers at once, some by SIGTERM and some by kill -9"""
    parts = [system.parts[name] for name in _workers(system)]
    hows = [rng.choice((signal.SIGTERM, signal.SIGKILL)) for _ in parts]
    await asyncio.gather(
        *(asyncio.to_thread(part.end, how) for part, how in zip(parts, hows, strict=True))
    )
    await asyncio.sleep(seconds)
    for part in parts:
        part.start()


# Disks. Files that may not grow any more are the nearest to a full disk that needs no device.


@_kind("disk-full", _processes, (1, 12), 1.5)
async def disk_full(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """no file of the process may grow (a worker's tables, a receiver's spool)"""
    part = system.parts[name]
    if not part.limit_files(0):
        raise CannotError("the limit cannot be set")
    await asyncio.sleep(seconds)
    part.limit_files(-1)


@_kind("disk-full-restart", _workers, (3, 12))
async def disk_full_restart(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """a worker is killed, and cannot write its tables when it starts"""
    part = system.parts[name]
    await asyncio.to_thread(part.end, signal.SIGKILL)
    part.start()
    for _ in range(100):
        if part.pid() is not None and part.limit_files(0):
            break
        await asyncio.sleep(0.05)
    else:
        raise CannotError("it did not start")
    await asyncio.sleep(seconds)
    part.limit_files(-1)


@_kind("disk-corrupt", _workers, (0, 1))
async def disk_corrupt(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """kill -9 of a worker, garbage written over its RocksDB files"""
    part = system.parts[name]
    await asyncio.to_thread(part.end, signal.SIGKILL)
    for path in sorted((part.state / "tables").rglob("*")):
        if path.suffix in (".sst", ".log") or path.name.startswith("MANIFEST"):
            with contextlib.suppress(OSError), path.open("r+b") as file:
                size = path.stat().st_size
                file.seek(size // 2)
                file.write(os.urandom(min(64, size)))
    await asyncio.sleep(seconds)
    part.start()


# Redis itself.


@_kind("redis-kill", "redis", (0.1, 5), 2)
async def redis_kill(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """kill -9 of Redis, started again a while later"""
    system.redis.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(system.redis.start)


@_kind("redis-stop", "redis", (0.5, 14), 2)
async def redis_stop(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """SIGSTOP of Redis, SIGCONT a while later"""
    system.redis.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    system.redis.signal(signal.SIGCONT)


@_kind("redis-busy", "redis", (1, 8), 2)
async def redis_busy(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """a script that does not end: BUSY to everybody, until SCRIPT KILL"""

    def loop() -> None:
        with contextlib.suppress(RedisError, OSError):
            system.redis.ask().eval("while true do end", 0)

    looping = asyncio.create_task(asyncio.to_thread(loop))
    await asyncio.sleep(seconds)

    def end() -> None:
        try:
            system.redis.ask().script_kill()
        except RedisError as error:
            if "NOTBUSY" not in str(error):
                raise

    await _insist(end)
    await looping


@_kind("redis-noperm", "redis", (1, 6), 2)
async def redis_noperm(system: System, _: str, seconds: float, rng: random.Random) -> str:
    """NOPERM for some commands"""
    choices = ("evalsha eval", "xadd", "xrange", "hget hgetall", "xreadgroup", "ping", "publish",
               "lrange llen", "zrangebyscore", "xinfo", "hset set", "get mget", "time")  # fmt: skip
    denied = " ".join(rng.sample(choices, rng.choice((1, 1, 2, 4)))).split()

    def change(*rights: str) -> None:
        system.redis.ask().execute_command("ACL", "SETUSER", REDIS_USER, *rights)

    await _insist(lambda: change(*(f"-{name}" for name in denied)))
    await asyncio.sleep(seconds)
    await _insist(lambda: change("+@all"))
    return " ".join(denied)


@_kind("redis-readonly", "redis", (0.5, 6))
async def redis_readonly(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """a replica of nobody: READONLY to every write"""
    ask = system.redis.ask
    await _insist(lambda: ask().execute_command("REPLICAOF", "127.0.0.1", "1"))
    await asyncio.sleep(seconds)
    await _insist(lambda: ask().execute_command("REPLICAOF", "NO", "ONE"))


@_kind("redis-misconf", "redis", (0.5, 6))
async def redis_misconf(system: System, _: str, seconds: float, rng: random.Random) -> str | None:
    """snapshots fail: MISCONF to every write"""

    def fail() -> None:
        client = system.redis.ask()
        client.config_set("save", "3600 1")
        client.bgsave()

    def end() -> str:
        client = system.redis.ask()
        status = str(client.info("persistence")["rdb_last_bgsave_status"])
        client.config_set("save", "")
        return status

    await _insist(fail)
    await asyncio.sleep(seconds)
    status = await _insist(end)
    return None if status == "err" else f"the snapshot did not fail: {status}"


@_kind("redis-full", "redis", (0.5, 8), 2)
async def redis_full(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """maxmemory below what is used: OOM to every write"""
    await _insist(lambda: system.redis.ask().config_set("maxmemory", 1024 * 1024))
    await asyncio.sleep(seconds)
    await _insist(lambda: system.redis.ask().config_set("maxmemory", 0))


#: Keys of a partition that a stranger may have put something else in the place of.
PLANTED = (
    "events", "updates", "audit", "lease", "seqs", "withheld", "origins", "holds", "retries",
    "breakers", "changelog", "daily", "deferred:low", "deferred:normal", "held-versions",
)  # fmt: skip


@_kind("redis-wrongtype", "redis", (1, 8), 2)
async def redis_wrongtype(system: System, _: str, seconds: float, rng: random.Random) -> str:
    """a string where one key of one partition is something else, until it is put right"""
    name = rng.choice(PLANTED)
    number = rng.randrange(PARTITIONS)
    key, kept = f"{{hs:{number}}}:{name}", f"{{hs:{number}}}:kept-aside"

    def plant() -> None:
        pipe = system.redis.ask().pipeline(transaction=True)
        pipe.rename(key, kept)
        pipe.set(key, "planted")
        pipe.execute(raise_on_error=False)

    def undo() -> None:
        client = system.redis.ask()
        pipe = client.pipeline(transaction=True)
        pipe.delete(key)
        pipe.rename(kept, key)
        if client.exists(kept):
            pipe.execute(raise_on_error=False)
        elif client.get(key) == "planted":
            client.delete(key)

    await _insist(plant)
    await asyncio.sleep(seconds)
    with contextlib.suppress(RedisError):  # somebody has put it right before us
        await _insist(undo)
    return key


@_kind("redis-clients", "redis", (0, 4), 2)
async def redis_clients(system: System, _: str, seconds: float, rng: random.Random) -> str:
    """connections killed, once or again and again"""
    kinds = rng.choice((("normal",), ("pubsub",), ("normal", "pubsub")))
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        for kind in kinds:
            await _insist(lambda kind=kind: system.redis.ask().client_kill_filter(_type=kind))
        if asyncio.get_running_loop().time() > deadline:
            return " ".join(kinds)
        await asyncio.sleep(0.3)


@_kind("redis-scripts", "redis", (0, 0.5))
async def redis_scripts(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """SCRIPT FLUSH"""
    await _insist(lambda: system.redis.ask().script_flush())
    await asyncio.sleep(seconds)


@_kind("redis-garbage", "redis", (0, 1))
async def redis_garbage(system: System, _: str, seconds: float, rng: random.Random) -> str:
    """entries that are none in one stream"""
    name = rng.choice(("events", "updates", "audit", "deferred:low"))
    key = f"{{hs:{rng.randrange(PARTITIONS)}}}:{name}"
    for fields in ({"zz": "notanumber"}, {"d": b"\xff\x00garbage"}, {"d": ""}):
        await _insist(lambda fields=fields: system.redis.ask().xadd(key, fields))
    await asyncio.sleep(seconds)
    return key


#: Keys whose contents can be derived from others.
DERIVED = ("seqs", "lease", "withheld")


@_kind("redis-keys", "redis", (0, 2))
async def redis_keys(system: System, _: str, seconds: float, rng: random.Random) -> str:
    """all workers killed, one kind of key that can be derived is deleted, workers started"""
    name = rng.choice((*DERIVED, "workers"))
    parts = [system.parts[each] for each in _workers(system)]
    await asyncio.gather(*(asyncio.to_thread(part.end, signal.SIGKILL) for part in parts))

    def delete() -> None:
        names = [f"{{hs:{number}}}:{name}" for number in range(PARTITIONS)]
        system.redis.ask().delete(*(["hs:workers"] if name == "workers" else names))

    await _insist(delete)
    await asyncio.sleep(seconds)
    for part in parts:
        part.start()
    return name


# What lies between a process and Redis.

LOSABLE = (
    *COMMITS, "claim", "renew", "heartbeat", "read", "look", "append", "append_blob",
    "append_again", "take_over", "in_hand",
    "acknowledge", "deferred_index", "retry_letter", "XADD", "XRANGE", "HGET", "EVALSHA", "ZADD",
    "LRANGE", "HGETALL",
)  # fmt: skip


@_kind("proxy-lose", _behind_proxies, (1, 8), 5)
async def proxy_lose(system: System, name: str, seconds: float, rng: random.Random) -> str:
    """replies of some commands are lost: carried out, and the connection closed, or silent"""
    what = rng.choice(("close", "close", "silent", "tear"))
    commands = rng.sample(LOSABLE, rng.choice((1, 1, 2, 3)))
    if rng.random() < 0.5:
        commands += COMMITS
    # a commit of one channel only: what it changes besides is where pictures part
    channel = rng.choice(("", "", "folds", "letters", "updates", "events", "deferred:low"))
    if channel:
        commands = list(COMMITS)
    times, skip = rng.choice((1, 1, 2, 5, -1)), rng.choice((0, 0, 2, 7))
    says = f"\r\n{channel}\r\n".encode() if channel else b""
    rules = [
        proxy.on_reply(what, *commands, containing=says, times=times, skip=skip)
        for proxy in _proxies(system, name)
    ]
    await asyncio.sleep(seconds)
    for proxy in _proxies(system, name):
        proxy.rules = [rule for rule in proxy.rules if rule not in rules]
        if what == "silent":
            proxy.cut()
    hits = sum(rule.hits for rule in rules)
    return f"{what} {' '.join(commands)} {channel}: {hits} lost"


@_kind("proxy-delay", _behind_proxies, (2, 8))
async def proxy_delay(system: System, name: str, seconds: float, rng: random.Random) -> str:
    """some replies come late, and what is behind them too"""
    late, skip = rng.choice((0.05, 0.4, 1.5, 4.0)), rng.choice((3, 20))
    rules = [
        proxy.on_reply("delay", times=-1, skip=skip, seconds=late)
        for proxy in _proxies(system, name)
    ]
    await asyncio.sleep(seconds)
    for proxy in _proxies(system, name):
        proxy.rules = [rule for rule in proxy.rules if rule not in rules]
    return f"{late} s, one in {skip + 1}: {sum(rule.hits for rule in rules)}"


@_kind("proxy-partition", _behind_proxies, (0.5, 15), 2)
async def proxy_partition(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """nothing passes between a process and Redis; connections stay open"""
    for proxy in _proxies(system, name):
        proxy.hang()
    await asyncio.sleep(seconds)
    for proxy in _proxies(system, name):
        if rng.random() < 0.5:
            proxy.cut()
        proxy.heal()


@_kind("proxy-refuse", _behind_proxies, (0.5, 10))
async def proxy_refuse(system: System, name: str, seconds: float, rng: random.Random) -> None:
    """connections to Redis are refused"""
    for proxy in _proxies(system, name):
        await proxy.refuse()
    await asyncio.sleep(seconds)
    for proxy in _proxies(system, name):
        await proxy.start()


def _proxies(system: System, name: str) -> list[Any]:
    named = system.processes.values() if name == "all" else [system.processes[name]]
    return [process.proxy for process in named]


# PostgreSQL.


@_kind("postgres-restart", "postgres", (0, 10), 1.5)
async def postgres_restart(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """PostgreSQL is stopped, and started a while later"""
    await asyncio.to_thread(system.postgres.stop)
    await asyncio.sleep(seconds)
    await system.postgres.start()


@_kind("postgres-kill", "postgres", (0, 3))
async def postgres_kill(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """kill -9 of PostgreSQL, started again a while later"""
    system.postgres.kill()
    await asyncio.sleep(seconds)
    await system.postgres.start()


@_kind("postgres-stop", "postgres", (1, 15))
async def postgres_stop(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """SIGSTOP of PostgreSQL, SIGCONT a while later"""
    stopped = system.postgres.processes()
    for process in stopped:
        with contextlib.suppress(Exception):
            process.suspend()
    await asyncio.sleep(seconds)
    for process in stopped:
        with contextlib.suppress(Exception):
            process.resume()


@_kind("postgres-readonly", "postgres", (1, 8))
async def postgres_readonly(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """every transaction is read-only"""
    await system.postgres.set(default_transaction_read_only="on")
    await asyncio.sleep(seconds)
    await system.postgres.set(default_transaction_read_only="")


@_kind("postgres-nologin", "postgres", (1, 8))
async def postgres_nologin(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """the role may not log in, and its connections are ended"""
    await system.postgres.run(f"ALTER ROLE {ROLE} NOLOGIN")
    await system.postgres.throw_out()
    await asyncio.sleep(seconds)
    await system.postgres.run(f"ALTER ROLE {ROLE} LOGIN")


@_kind("postgres-closed", "postgres", (1, 8))
async def postgres_closed(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """the database takes no connections, and those that were are ended"""
    await system.postgres.run("ALTER DATABASE hookstream ALLOW_CONNECTIONS false")
    await system.postgres.throw_out()
    await asyncio.sleep(seconds)
    await system.postgres.run("ALTER DATABASE hookstream ALLOW_CONNECTIONS true")


@_kind("postgres-lock", "postgres", (1, 8), 1.5)
async def postgres_lock(system: System, _: str, seconds: float, rng: random.Random) -> str:
    """tables are locked by somebody else, with or without a lock_timeout"""
    tables = rng.choice(
        (["events", "deliveries"], ["tools", "contexts", "subscriptions"], ["registry_version"])
    )
    timeout = rng.choice(("", "200ms"))
    if timeout:
        await system.postgres.set(lock_timeout=timeout)
    async with system.postgres.locked(*tables):
        await asyncio.sleep(seconds)
    if timeout:
        await system.postgres.set(lock_timeout="")
    return f"{' '.join(tables)} {timeout}"


@_kind("postgres-slow", "postgres", (1, 8))
async def postgres_slow(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """statement_timeout of 1 ms"""
    await system.postgres.set(statement_timeout="1ms")
    await asyncio.sleep(seconds)
    await system.postgres.set(statement_timeout="")


@_kind("postgres-connections", "postgres", (1, 8))
async def postgres_connections(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """too many connections: the role may have one, and those it had are ended"""
    await system.postgres.run(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1")
    await system.postgres.throw_out()
    await asyncio.sleep(seconds)
    await system.postgres.run(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


@_kind("postgres-terminate", "postgres", (0, 4))
async def postgres_terminate(system: System, _: str, seconds: float, rng: random.Random) -> None:
    """connections are terminated, again and again"""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        await system.postgres.throw_out()
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(0.3)


# Two things at once that belong together: a process that starts while a server says no.


def _starts_during(name: str, other: Act, seconds: tuple[float, float]) -> None:
    async def act(system: System, part_name: str, lasting: float, rng: random.Random) -> str | None:
        part: Part = system.parts[part_name]
        ending = asyncio.to_thread(part.end, rng.choice((signal.SIGTERM, signal.SIGKILL)))
        await asyncio.wait_for(ending, 60)
        if part.word:
            # a supervisor starts it at once: it is ended once more while the fault is on
            async def again() -> None:
                await asyncio.sleep(min(1.0, lasting / 2))
                await asyncio.to_thread(part.end, signal.SIGKILL)
        else:

            async def again() -> None:
                await asyncio.sleep(min(0.5, lasting / 3))
                part.start()

        note, _ = await asyncio.gather(other(system, "", lasting, rng), again())
        return note

    act.__doc__ = f"a process starts during: {(other.__doc__ or '').strip()}"
    _kind(f"start-{name}", _processes, seconds, 0.5)(act)


for _name, _act in (
    ("redis-kill", redis_kill),
    ("redis-stop", redis_stop),
    ("redis-full", redis_full),
    ("redis-readonly", redis_readonly),
    ("redis-busy", redis_busy),
    ("redis-noperm", redis_noperm),
    ("redis-wrongtype", redis_wrongtype),
    ("postgres-restart", postgres_restart),
    ("postgres-readonly", postgres_readonly),
    ("postgres-nologin", postgres_nologin),
    ("postgres-lock", postgres_lock),
    ("postgres-slow", postgres_slow),
):
    _starts_during(_name, _act, (4, 12))
