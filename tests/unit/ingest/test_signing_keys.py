"""Keys that are fetched: once for all who want them, kept, and never at a stranger's pace."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hookstream.app.errors import SignatureError, UnavailableKeyError
from hookstream.app.ingest import signing_keys
from hookstream.app.ingest.key_fetcher import Fetched
from hookstream.app.ingest.signing_keys import SigningKeys
from hookstream.app.providers.signatures.key_source import KeySource, never_absent
from hookstream.app.providers.signatures.public_keys import Keys, SigningKey
from tests.support.senders import OTHER_RSA, RSA

KEY, OTHER = SigningKey(RSA.public_key()), SigningKey(OTHER_RSA.public_key())
MINUTE, HOUR = 60.0, 3600.0


def read(body: bytes) -> Keys:
    """``a b``: two keys of these ids; ``-``: the only one."""
    if body == b"nonsense":
        raise ValueError("it is nonsense")
    return {name.strip("-"): KEY for name in body.decode().split()}


def source(place: str = "key", key_id: str = "") -> KeySource:
    return KeySource(f"https://keys.example.com/{place}", read, key_id)


@dataclass
class Host:
    """What a provider answers now, how often it was asked; and the clock."""

    status: int = 200
    body: bytes = b"-"
    away: bool = False
    now: float = 1000.0
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    said: list[str] = field(default_factory=list)

    async def fetch(self, url: str, body: bytes = b"") -> Fetched:
        self.asked.append(url.rpartition("/")[2])
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise UnavailableKeyError("away")
        return Fetched(self.status, self.body)

    def say(self, what: str) -> None:
        self.said.append(what)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def keys(host: Host) -> SigningKeys:
    return SigningKeys(host, lambda: host.now)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_many_who_want_a_key_are_one_fetch(host: Host, keys: SigningKeys) -> None:
    host.gate = asyncio.Event()
    many = [asyncio.create_task(keys.find(source(), n)) for n in range(50)]
    await until(lambda: bool(host.asked))
    host.gate.set()
    assert all(found == {"": KEY} for found in await asyncio.gather(*many))
    await keys.find(source(), "x")
    assert host.asked == ["key"]


async def test_who_gives_up_takes_the_key_from_nobody(host: Host, keys: SigningKeys) -> None:
    host.gate = asyncio.Event()
    gone, other = (asyncio.create_task(keys.find(source(), n)) for n in range(2))
    await until(lambda: bool(host.asked))
    gone.cancel()
    await asyncio.sleep(0)
    host.gate.set()
    assert await other == {"": KEY}
    assert host.asked == ["key"]


async def test_a_known_key_counts_while_it_is_fetched_anew(host: Host, keys: SigningKeys) -> None:
    await keys.find(source(), "x")
    host.now += HOUR + 1
    host.gate = asyncio.Event()
    for _ in range(10):
        assert await keys.find(source(), "x") == {"": KEY}
    await until(lambda: len(host.asked) == 2)
    host.gate.set()
    await until(lambda: not keys._fetches)
    await keys.find(source(), "x")
    assert len(host.asked) == 2


@pytest.mark.parametrize("trouble", ["away", "500", "404", "nonsense", "redirect"])
async def test_a_known_key_counts_while_its_host_is_in_trouble(
    host: Host, keys: SigningKeys, trouble: str
) -> None:
    await keys.find(source(), "x")
    host.away = trouble == "away"
    host.status = {"500": 500, "404": 404, "redirect": 302}.get(trouble, 200)
    host.body = b"nonsense"
    asked = 1
    for _ in range(23):
        host.now += HOUR + 1
        assert await keys.find(source(), "x") == {"": KEY}
        asked += 1
        await until(lambda wanted=asked: len(host.asked) == wanted and not keys._fetches)
    # not for ever: whether it was taken back nobody can tell
    host.now += HOUR + 1
    with pytest.raises(SignatureError if trouble == "404" else UnavailableKeyError):
        await keys.find(source(), "x")


async def test_a_host_in_trouble_is_asked_anew_once_a_minute(host: Host, keys: SigningKeys) -> None:
    await keys.find(source(), "x")
    host.now += HOUR + 1
    host.away = True
    for second in range(70):
        await keys.find(source(), "x")
        # the fetch beside has begun, and ended
        for _ in range(10):
            await asyncio.sleep(0)
        host.now += 1
        assert len(host.asked) == (2 if second < 60 else 3)


async def test_a_key_that_was_taken_back_counts_no_more(host: Host, keys: SigningKeys) -> None:
    host.body = b"a b"
    await keys.find(source(key_id="a"), "x")
    host.body = b"b"
    host.now += HOUR + 1
    await keys.find(source(key_id="b"), "x")
    await until(lambda: len(host.asked) == 2 and not keys._fetches)
    with pytest.raises(SignatureError, match="no such key"):
        await keys.find(source(key_id="a"), "x")


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_what_is_not_there_is_asked_for_once_in_a_while(
    host: Host, keys: SigningKeys, status: int
) -> None:
    host.status = status
    for _ in range(20):
        with pytest.raises(SignatureError, match=r"keys\.example\.com has no such key"):
            await keys.find(source(), "x")
    assert len(host.asked) == 1
    host.now += 5 * MINUTE + 1
    host.status = 200
    assert await keys.find(source(), "x") == {"": KEY}


@pytest.mark.parametrize("status", [200, 204, 301, 302, 401, 408, 429, 500, 503])
async def test_what_cannot_be_had_is_no_forgery(host: Host, keys: SigningKeys, status: int) -> None:
    host.status, host.body = status, b"nonsense"
    for _ in range(20):
        with pytest.raises(UnavailableKeyError, match="cannot be fetched now") as caught:
            await keys.find(source(), "x")
        # what the host says is nobody's business
        assert "nonsense" not in str(caught.value)
    assert len(host.asked) == 1
    host.now += 6
    host.status, host.body = 200, b"-"
    assert await keys.find(source(), "x") == {"": KEY}


async def test_a_place_that_is_always_there_is_in_trouble_where_it_is_not(
    host: Host, keys: SigningKeys
) -> None:
    host.status = 404
    fixed = KeySource("https://keys.example.com/set", read, "a", is_absent=never_absent)
    with pytest.raises(UnavailableKeyError):
        await keys.find(fixed, "x")


async def test_what_is_known_is_not_asked_for_elsewhere(host: Host, keys: SigningKeys) -> None:
    await keys.find(source("new secret"), "x")
    host.away = True
    for _ in range(5):
        host.now += 10
        assert await keys.first_of([source("old secret"), source("new secret")], "x")
    assert host.asked == ["new secret"]


async def test_made_up_key_ids_ask_for_nothing(host: Host, keys: SigningKeys) -> None:
    host.body = b"a"
    assert "a" in await keys.find(source(key_id="a"), "x")
    for n in range(200):
        with pytest.raises(SignatureError):
            await keys.find(source(key_id=f"made up {n}"), f"client {n}")
    assert len(host.asked) == 1
    # a key that is new is found a minute later, and meanwhile the known one counts
    host.body = b"a b"
    host.now += MINUTE + 1
    assert "b" in await keys.find(source(key_id="b"), "x")
    assert "a" in await keys.find(source(key_id="a"), "x")
    assert len(host.asked) == 2


async def test_one_client_asks_for_few_keys_and_takes_them_from_no_other(
    host: Host, keys: SigningKeys
) -> None:
    known = await keys.find(source("known"), "honest")
    host.status = 404
    refused = []
    for n in range(100):
        with pytest.raises((SignatureError, UnavailableKeyError)) as caught:
            await keys.find(source(f"forged-{n}"), "forger")
        refused.append(type(caught.value))
    assert len(host.asked) == 1 + 10
    assert refused.count(UnavailableKeyError) == 90
    # it may go on as slowly as it likes
    host.now += 5
    with pytest.raises(SignatureError):
        await keys.find(source("forged-x"), "forger")
    host.status = 200
    assert await keys.find(source("known"), "forger") == known
    assert await keys.find(source("new"), "honest") == known


async def test_many_clients_ask_for_so_many_keys_in_all(host: Host, keys: SigningKeys) -> None:
    host.status = 404
    for n in range(500):
        with pytest.raises((SignatureError, UnavailableKeyError)):
            await keys.find(source(f"forged-{n}"), f"client {n}")
    assert 99 <= len(host.asked) <= 100


async def test_memory_is_bounded_and_what_is_used_stays(
    host: Host, keys: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "MAX_KNOWN", 8)
    monkeypatch.setattr(signing_keys, "MAX_UNKNOWN", 8)
    for n in range(40):
        await keys.find(source("used"), "x")
        await keys.find(source(f"{n}"), f"client {n}")
    assert host.asked.count("used") == 1
    host.status = 404
    for n in range(40):
        with pytest.raises(SignatureError):
            await keys.find(source(f"not {n}"), f"client {n}")
    assert len(keys._known) == 8
    assert len(keys._unknown) == 8
    assert not keys._fetches


async def test_the_first_place_that_has_it_counts(host: Host, keys: SigningKeys) -> None:
    async def fetch(url: str, body: bytes = b"") -> Fetched:
        status = {"gone": 404, "down": 500}.get(url.rpartition("/")[2], 200)
        return Fetched(status, b"-")

    host.fetch = fetch  # type: ignore[method-assign]
    assert await keys.first_of([source("gone"), source("down"), source()], "x") == {"": KEY}
    with pytest.raises(SignatureError):
        await keys.first_of([source("gone")], "x")
    for places in (["gone", "down"], ["down", "gone"]):
        # the one that is down may have it
        with pytest.raises(UnavailableKeyError):
            await keys.first_of([source(place) for place in places], "x")
