"""Summaries by a model: against a chat-completions endpoint of the test's own, over real HTTP."""

import asyncio
import contextlib
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.settings import load_settings
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.summaries.templates import TemplateBook, compile_template
from hookstream.app.summaries.tokens import count_tokens
from hookstream.app.testing import make_event
from tests.support.stack import Stack, free_port, fresh

KEY = "sk-test-5d1f0c"
SAID = b'{"choices": [{"message": {"content": "unpacked"}}]}'


class ChatEndpoint:
    """Stands in for a model: answers ``The model on TITLE``, after ``delay`` seconds.

    ``answer`` replaces what it answers.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        self.delay = 0.0
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.most_at_once = self._at_once = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["ChatEndpoint"]:
        server = web.Application()
        server.router.add_route("*", "/{tail:.*}", self._take)
        runner = web.AppRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read() or b"{}")
        self.seen.append((request.path, dict(request.headers), body))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self._at_once -= 1
        if self.answer is not None:
            return self.answer()
        lines = body["messages"][1]["content"].split("\n")
        [facts] = [line.removeprefix("facts: ") for line in lines if line.startswith("facts: ")]
        title = facts.partition('"title":"')[2].partition('"')[0]
        return web.json_response(
            {"choices": [{"message": {"role": "assistant", "content": f"The model on {title}"}}]}
        )


@pytest.fixture
async def endpoint() -> AsyncIterator[ChatEndpoint]:
    async with ChatEndpoint().serve() as serving:
        yield serving


@asynccontextmanager
async def asking(
    endpoint: ChatEndpoint, **settings: str
) -> AsyncIterator[tuple[ModelSummariser, Summariser]]:
    """A summariser with the endpoint's model, whose breaker is quicker than the real one."""
    values = {"URL": endpoint.url, "MODEL": "small", "KEY": KEY, "TIMEOUT_SECONDS": "10"}
    given = {f"HOOKSTREAM_SUMMARISER_{k}": v for k, v in {**values, **settings}.items()}
    model = ModelSummariser(load_settings(given))
    model.breaker = Breaker(threshold=3, wait_ms=1000, max_wait_ms=1000)
    async with model:
        yield model, Summariser(model=model)


def events(count: int, word: str = "event") -> list[Any]:
    return [make_event({"title": f"{word} {n}"}, type="thing.done") for n in range(count)]


def results() -> dict[str, float]:
    name = "hookstream_summariser_requests_total"
    return {
        result: REGISTRY.get_sample_value(name, {"result": result}) or 0.0
        for result in ("ok", "failed", "timeout", "open")
    }


@contextlib.contextmanager
def counted(**expected: int) -> Any:
    """The metric moves by exactly this much."""
    before = results()
    yield
    moved = {name: int(value - before[name]) for name, value in results().items()}
    assert {name: value for name, value in moved.items() if value} == expected


async def test_chat_endpoint_says_the_summary_once_for_each_payload(
    endpoint: ChatEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with asking(endpoint) as (_, summaries):
        batch = [*events(20), *events(20)]
        with counted(ok=20):
            await summaries.prepare(batch, {})
            await summaries.prepare(batch, {})
        for n, event in enumerate(events(20)):
            summary = summaries.summarise(event)
            assert summary.text == f"The model on event {n}"
            assert summary.template == "model/small"
            assert summary.facts == {"title": f"event {n}"}
            facts = json.dumps(summary.facts, separators=(",", ":"))
            assert summary.tokens == count_tokens(summary.text) + count_tokens(facts)
            short = summaries.summarise(event, 4)
            assert (short.tokens <= 4, short.template) == (True, "model/small")
    assert 1 < endpoint.most_at_once <= 8
    assert len(endpoint.seen) == 20
    for path, headers, body in endpoint.seen:
        assert path == "/v1/chat/completions"
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert body["model"] == "small"
        assert KEY not in json.dumps(body)
    assert KEY not in caplog.text


async def test_template_of_a_tenants_own_counts_before_the_model_and_asks_no_chat_endpoint(
    endpoint: ChatEndpoint,
) -> None:
    own = TemplateBook({"none": [compile_template("thing.*", "Own: {{ facts.title }}")]})
    async with asking(endpoint) as (_, summaries):
        [event] = events(1)
        await summaries.prepare([event], {"default": own})
        assert not endpoint.seen
        await summaries.prepare([event], {"other": own})
        assert len(endpoint.seen) == 1
        assert summaries.summarise(event, own=own).text == "Own: event 0"
        assert summaries.summarise(event).text == "The model on event 0"


async def test_slow_chat_endpoint_holds_a_batch_no_longer_than_the_limit(
    endpoint: ChatEndpoint,
) -> None:
    endpoint.delay = 30
    async with asking(endpoint, TIMEOUT_SECONDS="0.5") as (model, summaries):
        model.breaker = Breaker(threshold=100)
        start = time.monotonic()
        with counted(timeout=50):
            await summaries.prepare(events(50), {})
        assert 0.45 < time.monotonic() - start < 3
        assert len(endpoint.seen) == 8
        assert summaries.summarise(events(1)[0]).template == "extract"


async def test_what_chat_endpoint_says_in_time_counts_and_its_breaker_stays_closed(
    endpoint: ChatEndpoint,
) -> None:
    endpoint.delay = 0.55
    async with asking(endpoint, TIMEOUT_SECONDS="1") as (model, summaries):
        for said in (8, 16):
            await summaries.prepare(events(50), {})
            by_model = [summaries.summarise(e).template == "model/small" for e in events(50)]
            assert by_model == [True] * said + [False] * (50 - said)
            # those that were cut off had begun late: that is no failure
            assert model.breaker.failures == 0


async def test_chat_endpoint_that_fails_is_left_alone_until_the_wait_is_over(
    endpoint: ChatEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda: web.Response(status=500, text="stack trace of the endpoint")
    async with asking(endpoint, CONCURRENCY="1") as (model, summaries):
        with counted(failed=3, open=7):
            await summaries.prepare(events(10), {})
        assert model.breaker.state is BreakerState.OPEN
        with counted(open=10):
            await summaries.prepare(events(10), {})
        assert len(endpoint.seen) == 3
        assert summaries.summarise(events(1)[0]).template == "extract"

        await asyncio.sleep(1.05)
        with counted(failed=1, open=9):
            await summaries.prepare(events(10), {})
        assert len(endpoint.seen) == 4

        endpoint.answer = None
        await asyncio.sleep(1.05)
        with counted(ok=10):
            await summaries.prepare(events(10), {})
        assert model.breaker.state is BreakerState.CLOSED
        assert summaries.summarise(events(1)[0]).text == "The model on event 0"
    assert "it answered 500" in caplog.text
    assert "stack trace" not in caplog.text
    assert KEY not in caplog.text


async def test_chat_endpoint_that_hangs_opens_the_breaker(endpoint: ChatEndpoint) -> None:
    endpoint.delay = 30
    async with asking(endpoint, TIMEOUT_SECONDS="0.1") as (model, summaries):
        for n in range(3):
            await summaries.prepare(events(1, f"turn {n}"), {})
        assert model.breaker.state is BreakerState.OPEN
        await summaries.prepare(events(200), {})
        assert len(endpoint.seen) == 3


async def test_probe_that_a_stop_cuts_off_does_not_keep_chat_endpoint_shut_out(
    endpoint: ChatEndpoint,
) -> None:
    async with asking(endpoint, TIMEOUT_SECONDS="30") as (model, summaries):
        for _ in range(3):
            model.breaker.failed(0)
        endpoint.delay = 30
        probe = asyncio.create_task(summaries.prepare(events(1), {}))
        while not endpoint.seen:
            await asyncio.sleep(0.01)
        assert model.breaker.state is BreakerState.HALF_OPEN
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert probe.cancelled()
        endpoint.delay = 0
        await summaries.prepare(events(1), {})
        assert summaries.summarise(events(1)[0]).template == "model/small"


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=404),
        lambda: web.Response(status=307, headers={"Location": "/elsewhere"}),
        lambda: web.Response(text="<html>no JSON</html>"),
        lambda: web.json_response({"choices": [{"message": {"content": None}}]}),
        lambda: web.json_response({"choices": [{"message": {"content": "x" * 1_000_000}}]}),
        lambda: web.Response(body=gzip.compress(SAID), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["status", "redirect", "no-json", "no-text", "megabyte", "compressed"],
)
async def test_answer_of_chat_endpoint_that_is_no_summary_leaves_it_to_the_template(
    endpoint: ChatEndpoint, answer: Callable[[], web.StreamResponse]
) -> None:
    endpoint.answer = answer
    async with asking(endpoint) as (_, summaries):
        with counted(failed=1):
            await summaries.prepare(events(1), {})
        assert summaries.summarise(events(1)[0]).template == "extract"
    assert [path for path, _, _ in endpoint.seen] == ["/v1/chat/completions"]


async def test_chat_endpoint_that_is_not_there_leaves_it_to_the_template() -> None:
    async with asking(ChatEndpoint()) as (_, summaries):
        with counted(failed=1):
            await summaries.prepare(events(1), {})
        assert summaries.summarise(events(1)[0]).template == "extract"


async def test_updates_come_from_chat_endpoint_and_from_templates_when_it_is_slow(
    tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    settings = {
        "HOOKSTREAM_SUMMARISER_URL": endpoint.url,
        "HOOKSTREAM_SUMMARISER_MODEL": "small",
        "HOOKSTREAM_SUMMARISER_KEY": KEY,
        "HOOKSTREAM_SUMMARISER_TIMEOUT_SECONDS": "1",
        "HOOKSTREAM_LOG_LEVEL": "debug",
    }
    with Stack(tmp_path, **settings) as stack:
        await stack.context("a", {"provider": "none"})
        await stack.hook("a", b'{"title": "first"}')
        [update] = await stack.updates("a", 1)
        assert update["summary"] == "The model on first"
        assert update["template"] == "model/small"
        assert update["untrusted"][:2] == ["summary", "data"]

        endpoint.delay = 30
        start = time.monotonic()
        await stack.hook("a", b'{"title": "second"}')
        [update] = await stack.updates("a", 1, after=1)
        assert time.monotonic() - start < 5
        assert update["template"] == "extract"
        assert "second" in update["summary"]

        url = f"http://127.0.0.1:{stack.worker_port}"
        async with aiohttp.ClientSession(url) as session:
            async with fresh(session, "/metrics") as response:
                text = await response.text()
            async with fresh(session, "/health") as response:
                parts = (await response.json())["parts"]
        assert 'hookstream_summariser_requests_total{result="ok"} 1.0' in text
        assert 'hookstream_summariser_requests_total{result="timeout"} 1.0' in text
        assert "hookstream_summariser_seconds_count 2.0" in text
        assert parts["summariser"] == {"status": "ok", "endpoint": "closed"}
    log = stack.log.read_text()
    assert KEY not in log
    assert "Unclosed" not in log
