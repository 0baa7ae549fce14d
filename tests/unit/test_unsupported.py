"""What of Faust is not here is refused where it stands, with what to use instead."""

import re
from pathlib import Path
from typing import Any

import pytest

from hookstream.app import __getattr__ as of_the_package  # type: ignore[attr-defined]
from hookstream.app.application import Hookstream
from hookstream.app.errors import SettingsError, UnsupportedError
from hookstream.app.settings import Settings
from hookstream.app.unsupported import OF_AGENTS, OF_STREAMS, OF_THE_APP, SIGNALS
from tests.support import ROOT

HERE = Path(__file__).name


@pytest.fixture
def app(own_settings: Settings) -> Hookstream:
    return Hookstream(own_settings)


@pytest.mark.parametrize("name", OF_THE_APP)
def test_what_the_app_has_not_is_a_sentence_with_its_place(app: Hookstream, name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"app\.{name} .*{HERE}:\d+\): use|read") as raised:
        getattr(app, name)("any")
    assert isinstance(raised.value, SettingsError), "it ends a start with status 78"


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_nobody_sends_is_refused(app: Hookstream, name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"app.{name} .*{HERE}.*lifespan"):

        @getattr(app, name).connect
        def listens(*_: Any) -> None: ...


async def test_an_agent_answers_nobody(app: Hookstream) -> None:
    @app.agent(app.batch_channel("in"))
    async def looks_on(batches: Any) -> None: ...

    for name in OF_AGENTS:
        with pytest.raises(UnsupportedError, match=rf"{name}\(\) of an agent .*{HERE}"):
            getattr(looks_on, name)("key", "value")


async def test_a_stream_is_not_partitioned_again(app: Hookstream) -> None:
    stream = app.stream(app.batch_channel("in"))
    for name in OF_STREAMS:
        with pytest.raises(UnsupportedError, match=rf"{name}\(\) of a stream .*{HERE}"):
            getattr(stream, name)("field")


@pytest.mark.parametrize("source", [None, "orders"])
def test_an_agent_over_a_topic_is_refused(app: Hookstream, source: str | None) -> None:
    with pytest.raises(UnsupportedError, match=rf"over a topic .*{HERE}.*stream_channel"):
        app.agent(source)


def test_with_a_kafka_topics_and_agents_over_them_are_faust_s(own_settings: Settings) -> None:
    app = Hookstream(own_settings.model_copy(update={"kafka_url": "kafka://127.0.0.1:9"}))
    assert not app.has_topics
    orders = app.topic("orders", value_serializer="json")

    @app.agent(orders, name="work", concurrency=2)
    async def work(stream: Any) -> None:
        """Takes orders."""

    assert app.has_topics
    assert [agent.name for agent in app.kafka.app.agents.values()] == ["work"]
    assert not app.agents, "the pipeline's flow control is none of theirs"
    assert callable(work.ask)
    with pytest.raises(SettingsError, match="work"):

        @app.agent(app.topic("others"), name="work")
        async def another(stream: Any) -> None: ...


async def test_to_send_by_a_name_is_refused(app: Hookstream) -> None:
    with pytest.raises(UnsupportedError, match="stream_channel"):
        await app.send("orders", key="1", value="2")


def test_who_imports_app_gets_the_same_sentence() -> None:
    for name in (*OF_THE_APP, *SIGNALS):
        assert of_the_package(name) is not None


def test_the_docs_have_the_list() -> None:
    text = (ROOT / "docs" / "stages.md").read_text()
    rows = re.search(r"## What of Faust is not here\n.*?\n\n(\|.*?)\n\n", text, re.S)
    assert rows
    listed = set(re.findall(r"`(?:app|agent|stream)\.(\w+)`", rows[1]))
    assert listed >= {*OF_THE_APP, *OF_AGENTS, *OF_STREAMS, *SIGNALS}
