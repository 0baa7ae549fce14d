"""A day of real payloads, replayed: three contexts, two WebSocket clients, one over MCP.

GitHub's own example payloads, sixteen times over with delivery ids of their own, so that each is an
event; they come in within seconds, where a day would take them.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from hookstream.app.summaries.tokens import count_tokens
from tests.integration.mcp.test_mcp import client, use
from tests.integration.test_end_to_end import SECRET, signed
from tests.integration.web.test_agent_keys import make
from tests.support.fixtures import github_examples
from tests.support.stack import Stack, eventually

ROUNDS = 16
RATE = {"updates_per_second": 2, "burst": 20}
BUDGET = 200


class Reader:
    """A client over WebSocket: takes updates as they come, and acknowledges them."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []

    async def follow(self, stack: Stack, context: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(stack.url, headers=headers) as session,
            session.ws_connect(f"/contexts/{context}/updates?after=0") as socket,
        ):
            async for message in socket:
                update = message.json()
                self.updates.append(update)
                if update["seq"] % 500 == 0:
                    await socket.send_json({"type": "ack", "seq": update["seq"]})


class AgentOverMcp(Reader):
    """A client over MCP: hears that its context has moved, then reads from where it was."""

    async def follow(self, stack: Stack, context: str, key: str) -> None:
        async with (
            client(stack, key) as agent,
            agent.listen(resource_subscriptions=[f"hookstream://contexts/{context}"]) as heard,
        ):
            async for _ in heard:
                while page := (
                    await use(
                        agent, "get_updates", context_id=context, after=len(self.updates), limit=100
                    )
                )["updates"]:
                    self.updates += page


async def opened(stack: Stack, context: str, updates: list[dict[str, Any]]) -> list[str]:
    """The events of a feed, those that a digest stands for in its place."""
    found: list[str] = []
    for update in updates:
        if update["kind"] == "update":
            found.append(update["event_id"])
            continue
        path, after, count = f"/contexts/{context}/updates/{update['seq']}/folded", 0, 0
        while page := (await stack.get(path, after=str(after), limit="1000"))["updates"]:
            found += [one["event_id"] for one in page]
            count += len(page)
            after = page[-1]["place"]
        assert count == update["folded"]["count"]
    return found


async def test_clients_of_three_contexts_see_every_event_of_a_day_once(tmp_path: Path) -> None:
    examples = github_examples() * ROUNDS
    assert len(examples) > 5000
    with Stack(tmp_path) as stack:
        tool = {
            "provider": "github", "secrets": [SECRET], "dedup": {"strategy": "delivery"}
        }  # fmt: skip
        await stack.put("/tools/github", tool)
        contexts: dict[str, dict[str, Any]] = {
            "everything": {"name": "all of it"},
            "limited": {"rate": RATE, "token_budget": BUDGET},
            "issues": {"token_budget": BUDGET},
        }
        for context, settings in contexts.items():
            await stack.put(f"/contexts/{context}", settings)
            types = ["issue*"] if context == "issues" else ["*"]
            subscription = {"tool": "github", "types": types}
            await stack.put(f"/contexts/{context}/subscriptions/s", subscription)
        critical = {"tool": "github", "types": ["issues.opened"], "priority": "critical"}
        await stack.put("/contexts/issues/subscriptions/opened", critical)
        readers = {"everything": Reader(), "limited": Reader(), "issues": AgentOverMcp()}
        followers = [
            asyncio.create_task(reader.follow(stack, context, (await make(stack, context))["key"]))
            for context, reader in readers.items()
        ]
        sent: list[str] = []
        begun = asyncio.get_running_loop().time()
        async with aiohttp.ClientSession(stack.url) as session:
            for number, example in enumerate(examples):
                headers = signed(example.event, example.body, f"d-{number}")
                async with session.post(
                    "/hooks/github", data=example.body, headers=headers
                ) as response:
                    assert response.status == 202
                    sent.append((await response.json())["event_id"])
        wanted = {
            "everything": sent,
            "limited": sent,
            "issues": [
                event_id
                for event_id, example in zip(sent, examples, strict=True)
                if example.type.startswith("issue")
            ],
        }
        came: dict[str, list[str]] = {}
        for context, reader in readers.items():

            async def complete(context: str = context, reader: Reader = reader) -> bool:
                came[context] = await opened(stack, context, reader.updates)
                assert len(came[context]) <= len(wanted[context])
                return len(came[context]) == len(wanted[context])

            await eventually(complete, f"all of {context} has come", timeout_seconds=300)
        seconds = asyncio.get_running_loop().time() - begun
        for context, reader in readers.items():
            updates = reader.updates
            assert [update["seq"] for update in updates] == list(range(1, len(updates) + 1))
            assert Counter(came[context]) == Counter(wanted[context])
        # one priority: in the order in which they came in
        assert came["everything"] == sent
        assert came["limited"] == sent
        # two: each thing in its order, the rest of each priority too
        numbers = {event_id: number for number, event_id in enumerate(sent)}
        about: dict[str, int] = {}
        for update in readers["issues"].updates:
            for key in update["keys"]:
                assert numbers[update["event_id"]] > about.get(key, -1)
                about[key] = numbers[update["event_id"]]
        # within the rate
        assert (
            len(readers["limited"].updates)
            <= RATE["burst"] + RATE["updates_per_second"] * seconds + 1
        )
        assert any(update["kind"] == "digest" for update in readers["limited"].updates)
        # within the budget
        for context in ("limited", "issues"):
            for update in readers[context].updates:
                text = update["summary"]
                assert count_tokens(text) <= update["tokens"] <= BUDGET

        # an agent that was away gets a digest within its budget, and can fetch any event in it
        away = await stack.get("/contexts/limited/digest", budget=str(BUDGET), after="0")
        assert away["tokens"] == count_tokens(away["text"]) <= BUDGET
        groups = [*away["groups"], *away["omitted"]]
        inside = {event_id for group in groups for event_id in group["event_ids"]}
        # the newest 5,000 one by one; behind them digests name the first of what they stand for
        assert len(inside) > 4000
        for event_id in [*sorted(inside)[:3], *sorted(inside)[-3:]]:
            event = await stack.get(f"/events/{event_id}")
            assert event["payload"]
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
