"""Calls to providers' own hosts: what is called, and what of an answer is taken."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hookstream.app.errors import UnavailableKeyError
from hookstream.app.ingest import key_fetcher
from hookstream.app.ingest.key_fetcher import MAX_ANSWER_BYTES, Fetched, KeyFetcher
from tests.support.key_host import KeyHost, key_host

HOST = "sns.us-west-2.amazonaws.com"
URL = f"https://{HOST}/key.pem"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[KeyHost]:
    async with key_host(tmp_path, time.time(), (HOST,)) as found:
        yield found


async def test_what_is_there_is_fetched(host: KeyHost) -> None:
    host.at(URL, b"key")
    host.at(f"https://{HOST}/a?b=%2F&c=%41", b"as it was written")
    assert await host.fetcher.fetch(URL) == Fetched(200, b"key")
    assert await host.fetcher.fetch(f"https://{HOST}/a?b=%2F&c=%41") == Fetched(
        200, b"as it was written"
    )
    assert await host.fetcher.fetch(f"https://{HOST}/none") == Fetched(404, b"")
    await host.fetcher.fetch(URL, b'{"key_id":"a"}')
    assert host.bodies[-1] == b'{"key_id":"a"}'


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_host_has_to_prove_its_name(tmp_path: Path, trusted: bool) -> None:
    async with key_host(tmp_path, time.time(), ("other.example.com",), trusted=trusted) as host:
        host.at(URL, b"key")
        with pytest.raises(UnavailableKeyError):
            await host.fetcher.fetch(URL)
        assert not host.asked


async def test_no_redirect_is_followed(host: KeyHost) -> None:
    async def moved(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"https://{HOST}/other"})

    host.at(URL, moved)
    host.at(f"https://{HOST}/other", b"key")
    assert (await host.fetcher.fetch(URL)).status == 302
    assert host.asked == [f"{HOST}/key.pem"]


async def test_an_answer_has_a_largest_size(host: KeyHost) -> None:
    host.at(URL, b"a" * MAX_ANSWER_BYTES)
    assert len((await host.fetcher.fetch(URL)).body) == MAX_ANSWER_BYTES
    host.at(URL, b"a" * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(UnavailableKeyError, match="too much"):
        await host.fetcher.fetch(URL)


async def test_an_answer_without_end_is_given_up(host: KeyHost) -> None:
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"a" * 1024)
                await asyncio.sleep(0)
        finally:
            ended.set()

    host.at(URL, endless)
    with pytest.raises(UnavailableKeyError, match="too much"):
        await host.fetcher.fetch(URL)
    await asyncio.wait_for(ended.wait(), 5)


async def test_what_is_packed_stays_packed(host: KeyHost) -> None:
    packed = gzip.compress(b"a" * 50_000_000)

    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    host.at(URL, bomb)
    assert len(packed) < MAX_ANSWER_BYTES
    assert (await host.fetcher.fetch(URL)).body == packed


async def test_a_slow_host_is_given_up(host: KeyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_fetcher, "FETCH_SECONDS", 0.2)

    async def drops(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            # each is in time, all of them are not
            await response.write(b"a")
            await asyncio.sleep(0.02)
        return response

    host.at(URL, drops)
    begun = time.monotonic()
    with pytest.raises(UnavailableKeyError, match="cannot be asked now"):
        await host.fetcher.fetch(URL)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/key.pem",
        f"https://{HOST}:8443/key.pem",
        f"https://user@{HOST}/key.pem",
        f"https://user:pass@{HOST}/key.pem",
        "https://127.0.0.1/key.pem",
        "https://[::1]/key.pem",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f.1/key.pem",
        f"https://{HOST}/" + "a" * 3000,
        "file:///etc/passwd",
        "key.pem",
        "",
    ],
)
async def test_no_other_address_is_called_whatever_a_row_lets_through(
    host: KeyHost, url: str
) -> None:
    with pytest.raises(UnavailableKeyError, match="no address that may be called"):
        await host.fetcher.fetch(url)
    assert not host.asked


async def test_a_name_that_leads_to_this_network_is_not_called() -> None:
    fetcher = KeyFetcher()
    try:
        with pytest.raises(UnavailableKeyError) as caught:
            await fetcher.fetch("https://localhost/key.pem")
        # whoever named it learns nothing of it
        assert str(caught.value) == "localhost cannot be asked now: send it again"
        assert "not a public address" in repr(caught.value.__cause__)
    finally:
        await fetcher.close()
