"""A person in every place that there is, erased; and erased again after older copies came back.

``python -m tests.integration.erasure.places`` plants, erases, restores an older Redis and an older
archive, then an older PostgreSQL, and greps every byte of every store: all values of Redis and its
files, rows of the archive's objects, every row of PostgreSQL, the state folders; packed payloads
are unpacked. With ``--sealed`` payloads are sealed, and what is sealed is opened, wherever it lies.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pyarrow.parquet as pq
import redis.asyncio
import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hookstream.app import embedded
from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.ingest.spool import Spool
from hookstream.app.keyring.wrapping import KeyFile
from hookstream.app.redis import keys
from hookstream.codecs.dictionaries import Dictionary
from hookstream.codecs.envelope import encode_event
from hookstream.codecs.payload import StoredPayload
from hookstream.codecs.sealed import (
    MonthKey,
    daily_place,
    dictionary_place,
    is_sealed,
    month_of,
    payload_place,
)
from hookstream.proto.envelope_pb2 import PayloadEncoding
from hookstream.testing import make_event
from tests.support.stack import Stack, eventually, free_port, own_stages

__all__ = ["House", "run", "table"]

MAIL, PHONE, NAME = "jane.doe@example.com", "+49 170 1234567", "cus-jane-9Xk2Lp77"
#: How the person stands in any byte.
MARKS = [text.encode() for text in (MAIL, "1701234567", "170 1234567", NAME)]
MAGIC = b"\x28\xb5\x2f\xfd"
SEALED = b"\xffHS\x01"
SEALED_TEXT = re.compile(rb"sealed:2:([A-Za-z0-9+/=]+)")
#: In which all values are sealed, where payloads are: not what stages add, errors and the like.
SEALED_PLACES = ("blob", "warm", "feed", "folded", "withheld", "hs:refusals", "hs:dictionary")
STAGE = """
from hookstream import Event, app

people = app.Table("people")


@app.stage(after="dedupe")
async def remembers(event: Event) -> Event | None:
    people[event.event_id] = text = event.payload.decode("utf-8", "replace")[:500]
    return event.enrich(text=text)
"""
#: What comes back from older copies, one after the other: never all of it at once.
RESTORES = (("valkey", "archive"), ("postgres",))
#: Places in which something must have been planted, by what greps call them.
WANTED = (
    "events", "blob", "warm", "feed", "folded", "withheld", "letter", "hs:refusals", "changelog",
    "hs:dictionary", "archive", "state: tables", "pg events", "pg daily_summaries", "pg replays",
    "pg subscription_errors", "pg dictionaries",
)  # fmt: skip


def body(n: int, *, large: bool = False) -> bytes:
    """A payload that names the person."""
    value: dict[str, Any] = {"n": n, "user": {"mail": MAIL, "phone": PHONE, "id": NAME}}
    value["title"] = f"order {n} of {MAIL}"
    if large:
        value["noise"] = random.Random(n).randbytes(3000).hex()
    return json.dumps(value).encode()


@dataclass
class House:
    """A whole system with its own folder."""

    folder: Path
    stack: Stack
    sealed: bool = False
    planted: Counter[str] = field(default_factory=Counter)
    receipt: dict[str, Any] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    came_again: int = 0
    #: Numbers and kinds of what a client reads of a feed afterwards.
    feed: list[tuple[int, str]] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    #: How the erasure is after each of the older copies.
    statuses: list[str] = field(default_factory=list)
    #: Values that should be sealed and are not, by their place, after the erasure.
    clear: Counter[str] = field(default_factory=Counter)
    _keys: dict[int, MonthKey] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @contextlib.asynccontextmanager
    async def redis(self) -> Any:
        url = str(embedded.find_valkey(self.state))
        client = redis.asyncio.Redis.from_url(url, protocol=2)
        try:
            yield client
        finally:
            await client.aclose()

    @contextlib.asynccontextmanager
    async def postgres(self) -> Any:
        connection = await asyncpg.connect(str(embedded.find_postgres(self.state)))
        try:
            yield connection
        finally:
            await connection.close()

    async def call(self, method: str, path: str, value: Any = None) -> Any:
        async with (
            self.stack.session() as session,
            session.request(method, f"/api/v1{path}", json=value) as response,
        ):
            text = await response.text()
            assert response.status < 300, (path, text)
            return json.loads(text) if text else None

    async def data_keys(self) -> dict[int, MonthKey]:
        """All data keys, by their ids; the newest is the last."""
        if not self._keys and self.sealed:
            wrapping = {
                key.name: key for key in KeyFile(self.state / "sealing.key").wrapping_keys()
            }
            async with self.postgres() as connection:
                rows = await connection.fetch("SELECT * FROM data_keys ORDER BY month")
            for row in rows:
                key = await wrapping[row["wrapped_by"]].unwrap(row["wrapped"])
                self._keys[row["key_id"]] = MonthKey(
                    row["key_id"], row["tenant"], row["month"], key
                )
        return self._keys

    async def seal(self, data: bytes, place: bytes) -> bytes:
        """As the system would, by the key of now; as it is where nothing is sealed."""
        for key in (await self.data_keys()).values():
            if key.month == month_of(time.time_ns() // 1_000_000):
                return key.seal(data, place)
        return data

    # --- planting

    async def plant(self) -> None:
        stack = self.stack
        await stack.context("hot", {"provider": "none"})
        events = [await stack.hook("hot", body(1)), await stack.hook("hot", body(2, large=True))]
        for name, ttl in (
            ("warm", {"hot": "1s", "warm": "24h", "cold": "30d"}),
            ("cold", {"hot": "1s", "warm": "1s", "cold": "30d"}),
        ):
            await stack.put(f"/tools/{name}", {"provider": "none", "ttl": ttl})
            for n in range(3):
                events.append(await stack.hook(name, body(10 + n)))
                await stack.hook(name, b'{"n": %d, "user": "somebody else"}' % n)
        for name, rate in (("rated", 2.0), ("slow", 0.01)):
            await stack.put(
                f"/contexts/{name}",
                {"name": name, "rate": {"updates_per_second": rate, "burst": 1}},
            )
            await stack.put(f"/contexts/{name}/subscriptions/all", {"tool": "hot", "types": ["*"]})
        events += [await stack.hook("hot", body(100 + n)) for n in range(4)]
        await self._dead()
        await self._refused()
        await self._rows(events[0])
        await self._dictionary()

        async def moved() -> bool:
            await self.call("POST", "/lifecycle/run")
            tiers = [(await stack.get(f"/events/{one}"))["tier"] for one in events[2:8]]
            return tiers == ["warm"] * 3 + ["cold"] * 3

        async def recorded() -> bool:
            found = (await stack.get("/events", limit="1000"))["events"]
            return len(found) >= 18

        await eventually(recorded, "all is recorded")
        await eventually(moved, "events are in their tiers", 60)
        # a digest has come, and something waits for a rate
        try:
            await eventually(self._has_all, "everything is planted", 30)
        except AssertionError as error:
            missing = [place for place in WANTED if not self.planted[place]]
            raise AssertionError(f"not planted: {missing}; {self.planted}") from error

    async def _has_all(self) -> bool:
        self.planted = await self.grep()
        return all(self.planted[place] for place in WANTED)

    async def _dead(self) -> None:
        schema = json.dumps({"type": "object", "required": ["nothing"]})
        async with self.stack.session() as session:
            given = {"schemaType": "JSON", "schema": schema}
            async with session.post("/registry/subjects/dead/versions", json=given) as response:
                assert response.status == 200, await response.text()
        rule = {"subject": "dead", "on_violation": "dead-letter"}
        await self.stack.put("/tools/dead", {"provider": "none", "schema": rule})
        await self.stack.hook("dead", body(20))

    async def _refused(self) -> None:
        await self.stack.put("/tools/signed", {"provider": "github", "secrets": ["x" * 40]})
        async with aiohttp.ClientSession(self.stack.url) as session:
            for tool in ("signed", "nobody"):
                async with session.post(f"/hooks/{tool}", data=body(30)) as response:
                    assert response.status in (401, 404)

    async def _rows(self, event_id: str) -> None:
        """Texts that only trouble writes."""
        day = f"1 update, by {MAIL}"
        if self.sealed:
            sealed = await self.seal(day.encode(), daily_place("default", "hot", "2026-11-29"))
            day = f"sealed:2:{base64.b64encode(sealed).decode()}"
        async with self.postgres() as connection:
            await connection.execute(
                "INSERT INTO replays (replay_id, tenant, event_id, status, error) "
                "VALUES ($1, 'default', $2, 'failed', $3)",
                new_event_id(1_700_000_000_000, 0, 5),
                event_id,
                f"cannot send to {MAIL}",
            )
            await connection.execute(
                "INSERT INTO subscription_errors VALUES "
                "('default', 'hot', 'all', 1, 'X', $1, now())",
                f"no such field in {MAIL}",
            )
            await connection.execute(
                "INSERT INTO daily_summaries VALUES "
                "('default', 'hot', '2026-11-29', 1, $1, 9, 1, 1, 1, now())",
                day,
            )

    async def _dictionary(self) -> None:
        samples = [body(n) + os.urandom(8).hex().encode() for n in range(400)]
        trained = zstandard.train_dictionary(4096, samples)
        dictionary = Dictionary.of(trained.as_bytes())
        content = await self.seal(dictionary.content, dictionary_place(dictionary.dictionary_id))
        async with self.postgres() as connection:
            await connection.execute(
                "INSERT INTO dictionaries VALUES ($1, 'default', 'gone', 1, $2, 400, 0.5)",
                dictionary.dictionary_id,
                content,
            )
        async with self.redis() as client:
            await client.set(keys.dictionary(dictionary.dictionary_id), content)
            await client.hset(keys.DICTIONARIES, "gone", dictionary.dictionary_id)

    # --- greps

    async def grep(self) -> Counter[str]:
        """In which places the person is, and how often."""
        found: Counter[str] = Counter()
        async with self.redis() as client:
            found_keys = await self.data_keys()
            dictionaries = [
                zstandard.ZstdCompressionDict(opened(await client.get(key), found_keys))
                async for key in client.scan_iter(match="hs:dictionary:*")
            ]
            unpack = Unpacker(dictionaries, found_keys)
            async for key in client.scan_iter(count=1000):
                place = place_of(key.decode())
                for value in await values(client, key):
                    found[place] += unpack.count(value)
            await self._files_anew(client)
        async with self.postgres() as connection:
            await self._grep_rows(connection, found, unpack)
        for path in self._files():
            name = str(path.relative_to(self.state))
            if path.suffix == ".parquet":
                rows = pq.ParquetFile(path).read().to_pylist()
                values_of = [value for row in rows for value in (repr(row), *row.values())]
                found["archive"] += sum(map(unpack.count, map(as_bytes, values_of)))
            else:
                with contextlib.suppress(OSError):
                    found[f"state: {name.split('/')[0]}"] += unpack.count(path.read_bytes())
        return +found

    async def _files_anew(self, client: Any) -> None:
        """Redis' files have what is there now, and packed as it is there."""
        await client.config_set("rdbcompression", "no")

        async def free() -> bool:
            return not (await client.info("persistence"))["aof_rewrite_in_progress"]

        await eventually(free, "no rewrite")
        with contextlib.suppress(redis.exceptions.ResponseError):
            await client.bgrewriteaof()
        await asyncio.sleep(0.05)
        await eventually(free, "the file is written anew")

    async def _grep_rows(self, connection: Any, found: Counter[str], unpack: "Unpacker") -> None:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        for row in tables:
            name = row["tablename"]
            for one in await connection.fetch(f"SELECT * FROM {name}"):
                for value in one.values():
                    found[f"pg {name}"] += unpack.count(as_bytes(value))

    async def in_the_clear(self) -> Counter[str]:
        """Where values lie that are not sealed, of places where all have to be."""
        found: Counter[str] = Counter()
        async with self.redis() as client:
            async for key in client.scan_iter(count=1000):
                place = place_of(key.decode())
                # hashes and sorted sets only count and name them
                if place in SEALED_PLACES and await client.type(key) not in (b"hash", b"zset"):
                    values_of = (await values(client, key))[1:]
                    found[place] += sum(not is_sealed(value) for value in values_of)
        for path in self._files():
            if path.suffix == ".parquet":
                payloads = pq.ParquetFile(path).read(["payload"]).to_pydict()["payload"]
                found["archive"] += sum(bool(one) and not is_sealed(one) for one in payloads)
        return +found

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.state.rglob("*")):
            parts = path.relative_to(self.state).parts
            # PostgreSQL's own files keep old rows until it has cleaned up: rows are asked for
            if path.is_file() and parts[0] != "postgres":
                yield path

    # --- what is done

    async def erase(self) -> dict[str, Any]:
        """By the command, with values from standard input: they are in no list of processes.

        The worker is killed at it: another one goes on.
        """
        begun = await asyncio.to_thread(
            subprocess.run,
            self.stack.command(
                "erase", "subject", "-", "--yes", "--json", "--no-wait", "--reason", "asked for"
            ),
            env=self.stack.environment(),
            input=f"{MAIL}\n{PHONE}\n{NAME}\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert begun.returncode == 0, (begun.stdout, begun.stderr)
        path = f"/erasures/{json.loads(begun.stdout)['erasure_id']}"

        async def is_under_way() -> bool:
            return bool((await self.stack.get(path))["steps_done"])

        await eventually(is_under_way, "it has begun")
        self.stack.find("worker").kill()

        async def is_done() -> Any:
            shown = await self.stack.get(path)
            return shown if shown["status"] == "done" else None

        done: dict[str, Any] = await eventually(is_done, "it is done", 90)
        return done

    def copy(self) -> None:
        """Copies of all that keeps anything; the system stands still."""
        for part in {part for parts in RESTORES for part in parts}:
            self._copy(self.state / part, self.folder / "older" / part)

    async def come_back(self, parts: Sequence[str]) -> None:
        """Older copies in place of what there is: the system starts, and finds them."""
        self.stack.stop()
        for part in parts:
            shutil.rmtree(self.state / part)
            self._copy(self.folder / "older" / part, self.state / part)
        self.stack.start()
        await self.gone("it is erased again")

    async def gone(self, what: str) -> None:
        """Wait until the erasure is done, and nothing is left; what is stands in ``again``."""
        left, status = Counter[str](), ""

        async def done() -> bool:
            nonlocal left, status
            # an older PostgreSQL does not know of it at first
            found = (await self.stack.get("/erasures"))["erasures"]
            status = found[0]["status"] if found else "unknown"
            left = await self.grep()
            return status == "done" and not left

        with contextlib.suppress(AssertionError):
            await eventually(done, what, 60)
        self.again |= left
        self.statuses.append(status)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """With its owner: PostgreSQL does not run as root."""
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    async def sent_again(self) -> None:
        """The same webhooks once more: their sender is told that they came, and nothing is kept."""
        for n in (1, 100):
            await self.stack.hook("hot", body(n))

    async def spooled(self) -> None:
        """A receiver comes back that was away all the while, with the person in its spool."""
        folder = self.folder / "away"
        at = 1_700_000_000_000
        number = partition_of(2, "default", "hot")
        event = make_event(
            body(500), number=1, tool_id="hot", event_id=new_event_id(at, number, 9),
            received_at_ms=at,
        )  # fmt: skip
        payload = event.payload
        data = await self.seal(payload, payload_place("default", event.event_id))
        sealed = PayloadEncoding.PAYLOAD_ENCODING_SEALED
        packed = StoredPayload(sealed, len(payload), data) if self.sealed else None
        spool = Spool(folder / "spool", 1 << 24)
        spool.open()
        spool.add([(keys.events(number), encode_event(event, packed))])
        spool.close()
        port = str(free_port())
        process = self.stack.another(folder, "receive", HOOKSTREAM_WEB_PORT=port)
        try:

            async def drained() -> bool:
                async with aiohttp.ClientSession() as session:
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.get(f"http://127.0.0.1:{port}/health") as response:
                            part = (await response.json())["parts"].get("spool", {})
                            return part.get("entries") == 0
                return False

            await eventually(drained, "the spool is empty", 60)
        finally:
            process.terminate()
            process.wait(30)


class Unpacker:
    """Counts the person in bytes, and in what is packed or sealed within them."""

    def __init__(self, dictionaries: list[Any], data_keys: dict[int, MonthKey]) -> None:
        self._by_id = {one.dict_id(): one for one in dictionaries}
        self._data_keys = data_keys

    def count(self, data: bytes) -> int:
        """How often."""
        total = self._frames(data)
        if self._data_keys:
            sealed = data.split(SEALED)[1:]
            total += sum(self._frames(opened(SEALED + one, self._data_keys)) for one in sealed)
            for text in SEALED_TEXT.findall(data):
                with contextlib.suppress(ValueError):
                    value = base64.b64decode(text[: len(text) // 4 * 4])
                    total += self._frames(opened(value, self._data_keys))
        return total

    def _frames(self, data: bytes) -> int:
        total, at = count(data), data.find(MAGIC)
        while at >= 0:
            total += count(self._frame(data[at:]))
            at = data.find(MAGIC, at + 1)
        return total

    def _frame(self, data: bytes) -> bytes:
        try:
            number = zstandard.get_frame_parameters(data).dict_id
            known = {"dict_data": self._by_id[number]} if number else {}
            opened = zstandard.ZstdDecompressor(**known).decompressobj().decompress(data)
        except (zstandard.ZstdError, KeyError):
            return b""
        return bytes(opened)


def opened(data: bytes, data_keys: dict[int, MonthKey]) -> bytes:
    """What is sealed, without looking whether it lies where it was sealed for, or where it ends."""
    key = data_keys.get(int.from_bytes(data[4:12], "big")) if is_sealed(data) else None
    if key is None:
        return data
    # what GCM does, but for the tag
    mode = modes.CTR(data[12:24] + (2).to_bytes(4, "big"))
    _, (_, _, _, secret) = key.__reduce__()
    return Cipher(algorithms.AES(secret), mode).decryptor().update(data[24:])


def as_bytes(value: object) -> bytes:
    """A value of a row."""
    return value if isinstance(value, bytes) else str(value).encode()


def count(data: bytes) -> int:
    """How often the person stands in bytes as they are."""
    return sum(data.count(mark) for mark in MARKS)


def place_of(key: str) -> str:
    """What a key is called in the table."""
    if key.startswith("{hs:"):
        return key.partition(":")[2].partition("}")[2].lstrip(":").split(":")[0] or key
    return ":".join(key.split(":")[:2])


async def values(client: Any, key: bytes) -> list[bytes]:
    """All that a key has, and its name."""
    kind = (await client.type(key)).decode()
    match kind:
        case "string":
            return [key, await client.get(key) or b""]
        case "hash":
            found = await client.hgetall(key)
            return [key, *found.keys(), *found.values()]
        case "list":
            return [key, *await client.lrange(key, 0, -1)]
        case "set":
            return [key, *await client.smembers(key)]
        case "zset":
            return [key, *await client.zrange(key, 0, -1)]
        case "stream":
            entries = await client.xrange(key)
            return [key, *(value for _, fields in entries for value in fields.values())]
    return [key]


def table(house: House) -> list[str]:
    """Places, how often the person was there, and is."""
    places = sorted({*house.planted, *house.left, *house.again})
    width = max(map(len, (*places, "place")))
    lines = [f"{'place':<{width}}  planted  erased: left  restored: left"]
    lines += [
        f"{place:<{width}}  {house.planted[place]:>7}  {house.left[place]:>12}  "
        f"{house.again[place]:>14}"
        for place in places
    ]
    lines.append("")
    lines += [
        f"{row['place']:<{width}}  found {row['found']}, erased {row['erased']}, left {row['left']}"
        for row in house.receipt.get("places", ())
    ]
    return lines


async def run(
    folder: Path, *, sealed: bool = False, restores: Sequence[Sequence[str]] = RESTORES
) -> House:
    """All of it; what is left stands in the house.

    ``sealed``: with payloads sealed. ``restores``: what comes back from older copies, in turn.
    """
    settings = {
        **own_stages(folder, "remembering_stages", STAGE),
        "HOOKSTREAM_PARTITIONS": "2",
        "HOOKSTREAM_CLAIM_CHECK_BYTES": "1024",
        "HOOKSTREAM_SEAL_PAYLOADS": "on" if sealed else "off",
    }
    with Stack(folder, **settings) as stack:
        house = House(folder, stack, sealed)
        await house.plant()
        if restores:
            stack.stop()
            house.copy()
            stack.start()
        house.receipt = await house.erase()
        house.left = await house.grep()
        if sealed:
            house.clear = await house.in_the_clear()
        before = len((await stack.get("/events", limit="1000"))["events"])
        await house.sent_again()
        house.left |= await house.grep()
        house.came_again = len((await stack.get("/events", limit="1000"))["events"]) - before
        feed = (await stack.get("/contexts/hot/updates", limit="1000"))["updates"]
        house.feed = [(one["seq"], one["kind"]) for one in feed]
        for parts in restores:
            await house.come_back(parts)
        await house.spooled()
        await house.gone("what came late is erased, too")
    return house


def main() -> int:
    """Print the table; 1 where anything is left."""
    folder = Path(tempfile.mkdtemp(prefix="hookstream-erasure-"))
    try:
        house = asyncio.run(run(folder, sealed="--sealed" in sys.argv))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(table(house)))
    return 1 if house.left or house.again or set(house.statuses) != {"done"} else 0


if __name__ == "__main__":
    sys.exit(main())
