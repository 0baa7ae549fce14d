"""The model for names in its child process: asked, bounded, and never passed by."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from hookstream.agents.mask import mask_by_model
from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import NerError, SettingsError
from hookstream.app.privacy.rules import Rules
from hookstream.app.routing import ner as module
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.maskers import Maskers
from hookstream.app.routing.ner import Ner
from hookstream.app.streams.batch import Entry
from hookstream.app.testing import make_event

CATALOG = Catalog(masking={"default": Rules.from_dict({"agents": {"name": "mask"}})})
TOLD = {"note": "Jane Whitfield cannot log in"}


@pytest.fixture
async def pool() -> AsyncIterator[BoundedPool]:
    async with BoundedPool(children=1, memory_bytes=1 << 30) as pool:
        yield pool


async def maskers(pool: BoundedPool, function: str, seconds: float = 10) -> Maskers:
    ner = Ner(f"tests.support.names:{function}", pool, seconds)
    await ner.start()
    return Maskers(lambda: CATALOG, ner=ner)


async def test_names_in_free_text_are_hidden_from_agents_and_from_what_is_kept(
    pool: BoundedPool,
) -> None:
    found = await maskers(pool, "find")
    event = make_event(TOLD)
    assert found.asks(event)
    shown = await found.for_agents(event)
    assert shown is not None
    assert shown.data() == {"note": "J••• W••• cannot log in"}
    kept = await found.for_keeping(event)
    assert kept.data() == shown.data()
    # a large one is walked in a thread, which knows what was said, too
    large = await found.for_agents(make_event({**TOLD, "more": ["nothing"] * 20_000}))
    assert large is not None
    assert large.data()["note"] == shown.data()["note"]
    nothing = make_event({"n": 1})
    assert await found.for_agents(nothing) is nothing


async def test_one_that_hangs_is_ended_and_the_next_event_is_asked_again(
    pool: BoundedPool,
) -> None:
    found = await maskers(pool, "hang", seconds=0.3)
    with pytest.raises(NerError, match=r"cannot be asked: .* more than 0\.3 s"):
        await found.for_agents(make_event(TOLD))
    shown = await found.for_agents(make_event({"note": "ask Ada, not me"}))
    assert shown is not None
    assert shown.data() == {"note": "ask A•••, not me"}


async def test_one_that_fails_is_an_error_without_the_text_and_rests_when_it_goes_on(
    pool: BoundedPool,
) -> None:
    found = await maskers(pool, "fail")
    for _ in range(module.MAX_FAILURES):
        with pytest.raises(NerError, match="names:fail raised ValueError") as error:
            await found.for_agents(make_event(TOLD))
        assert "Jane" not in str(error.value)
    with pytest.raises(NerError, match="it rests"):
        await found.for_agents(make_event(TOLD))
    with pytest.raises(NerError, match="it rests"):
        await found.for_keeping(make_event(TOLD))
    # what it is not asked of goes on meanwhile
    assert await found.for_agents(make_event({"n": 1})) is not None


async def test_a_start_says_what_is_wrong_with_it(pool: BoundedPool) -> None:
    for name, told in (
        ("tests.support.names:NUMBER", "HOOKSTREAM_NER: .*NUMBER is no function"),
        ("no_such_module_at_all:find", "HOOKSTREAM_NER: .* cannot be imported"),
    ):
        with pytest.raises(SettingsError, match=told):
            await Ner(name, pool, 1).start()


async def test_an_event_fails_that_was_not_looked_at_and_an_error_is_hidden_that_was_not(
    pool: BoundedPool,
) -> None:
    found = await maskers(pool, "fail")
    fresh, failed = (Entry(f"1-{n}", b"", make_event(TOLD, number=n)) for n in range(2))
    failed.fail("dedupe", ValueError("who is Jane Whitfield?"))
    for entry in (fresh, failed):
        await mask_by_model(entry, found, Counter())
    assert fresh.failure is not None
    assert (fresh.failure.stage, fresh.failure.final) == ("mask", False), "it is tried again"
    assert "Jane" not in fresh.failure.error
    assert failed.failure is not None
    assert (failed.failure.stage, failed.failure.error) == ("dedupe", "•••")
    # once the model answers, as much is said as may be
    failed.fail("dedupe", ValueError("who is Jane Whitfield?"))
    await mask_by_model(failed, await maskers(pool, "find"), Counter())
    assert failed.failure.error == "ValueError: who is J••• W•••?"
