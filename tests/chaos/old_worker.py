"""``python -m tests.chaos.old_worker JSON``: an old worker, as small as one can be.

It takes events out of queues, works on each that was not worked on yet, writes that into a ledger
outside (SQLite, which all of them share), confirms hand-over marks, and deletes messages when that
is done. It knows nothing of Hookstream but an attribute and an HTTP call, and may be killed at any
time. JSON: ``{"name", "server", "api", "key", "ledger", "queues": {tool: url}}``.
"""

import asyncio
import contextlib
import json
import random
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Final

import aiohttp

__all__ = ["SCHEMA", "Sqs", "open_ledger"]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS work (
    at INTEGER PRIMARY KEY, worker TEXT, tool TEXT, event_id TEXT, key TEXT, n INTEGER,
    begun REAL, ended REAL, message TEXT
);
CREATE INDEX IF NOT EXISTS work_events ON work (event_id);
CREATE TABLE IF NOT EXISTS again (worker TEXT, event_id TEXT, message TEXT, first_message TEXT);
CREATE TABLE IF NOT EXISTS marks (worker TEXT, tool TEXT, mark TEXT, confirmed INTEGER, at REAL);
"""
#: For how long a message is hidden: what a killed worker had comes again after that.
HIDDEN_SECONDS = 8
#: One event in ten takes so long (s), at most.
WORK_SECONDS = 0.02


def open_ledger(path: Path) -> sqlite3.Connection:
    """The ledger that outlives who writes it (not the machine: nothing is synced)."""
    ledger = sqlite3.connect(path, timeout=30, isolation_level=None)
    ledger.execute("PRAGMA journal_mode = WAL")
    ledger.execute("PRAGMA synchronous = OFF")
    ledger.executescript(SCHEMA)
    return ledger


class Sqs:
    """Requests to SQS as its documentation has them; unsigned: moto does not look."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session, self.server = session, server

    async def ask(self, action: str, **body: Any) -> dict[str, Any]:
        """Raises what aiohttp raises, also where SQS refuses."""
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": "AWS4-HMAC-SHA256 Credential=old/20260101/us-east-1/sqs/aws4_request",
        }
        async with self.session.post(
            self.server, json=body, headers=headers, raise_for_status=True
        ) as response:
            return dict(json.loads(await response.read() or b"{}"))

    async def until_done(self, action: str, **body: Any) -> dict[str, Any]:
        """Ask until SQS does it."""
        while True:
            try:
                return await self.ask(action, **body)
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.2)


class Worker:
    """``given``: the JSON of the command line."""

    def __init__(self, given: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.given, self.session = given, session
        self.name = str(given["name"])
        self.sqs = Sqs(session, given["server"])
        self.ledger = open_ledger(Path(given["ledger"]))
        self.rng = random.Random(self.name)

    async def run(self, tool: str, url: str) -> None:
        """Take from a queue for as long as this lives."""
        asked = {
            "QueueUrl": url,
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": 5,
            "VisibilityTimeout": HIDDEN_SECONDS,
            "MessageAttributeNames": ["All"],
        }
        while True:
            try:
                found = (await self.sqs.ask("ReceiveMessage", **asked)).get("Messages", [])
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.2)
                continue
            done = []
            deadline = time.monotonic() + HIDDEN_SECONDS - 3
            for message in found:
                # what is behind one that is not done has to wait: it may be of its group
                if time.monotonic() > deadline or not await self.take(tool, message):
                    break
                done.append(message["ReceiptHandle"])
            entries = [{"Id": str(at), "ReceiptHandle": one} for at, one in enumerate(done)]
            # what cannot be deleted comes again, and is known
            if entries:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await self.sqs.ask("DeleteMessageBatch", QueueUrl=url, Entries=entries)

    async def take(self, tool: str, message: dict[str, Any]) -> bool:
        """Work on a message; whether it is done."""
        attributes = {
            name: one["StringValue"] for name, one in message["MessageAttributes"].items()
        }
        if mark := attributes.get("hookstream_hand_over"):
            return await self.confirm(tool, mark)
        if "hookstream_shadow" in attributes:
            return True
        payload = json.loads(message["Body"])["payload"]
        event_id = attributes["hookstream_event_id"]
        begun = time.time()
        if self.rng.random() < 0.1:
            await asyncio.sleep(self.rng.random() * WORK_SECONDS)
        self.work(tool, event_id, payload, begun, message["MessageId"])
        return True

    def work(
        self, tool: str, event_id: str, payload: dict[str, Any], begun: float, message: str
    ) -> None:
        """Have it done once, whoever else has it: one transaction looks and writes."""
        ledger = self.ledger
        ledger.execute("BEGIN IMMEDIATE")
        row = ledger.execute("SELECT message FROM work WHERE event_id = ?", [event_id]).fetchone()
        if row is None:
            ledger.execute(
                "INSERT INTO work (worker, tool, event_id, key, n, begun, ended, message)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [self.name, tool, event_id, payload["key"], payload["n"], begun, time.time(),
                 message],
            )  # fmt: skip
        else:
            ledger.execute(
                "INSERT INTO again VALUES (?, ?, ?, ?)", [self.name, event_id, message, row[0]]
            )
        ledger.execute("COMMIT")

    async def confirm(self, tool: str, mark: str) -> bool:
        """Say that all before a mark is done; False: not now, it comes again."""
        headers = {"Authorization": f"Bearer {self.given['key']}"}
        url = f"{self.given['api']}/api/v1/tools/{tool}/migration/confirm"
        for _ in range(10):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self.session.post(
                    url, json={"marks": [mark]}, headers=headers
                ) as response:
                    if response.status == 200:
                        confirmed = (await response.json())["confirmed"]
                        self.ledger.execute(
                            "INSERT INTO marks VALUES (?, ?, ?, ?, ?)",
                            [self.name, tool, mark, confirmed, time.time()],
                        )
                        return True
            await asyncio.sleep(0.2)
        return False


async def main(given: dict[str, Any]) -> None:
    """Work until killed."""
    timeout = aiohttp.ClientTimeout(15)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        worker = Worker(given, session)
        await asyncio.gather(*(worker.run(tool, url) for tool, url in given["queues"].items()))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
