"""Sessions: found by their token alone, and over when they end."""

from typing import Any

import pytest

from hookstream.app.identity.sessions import Sessions, digest_of
from hookstream.app.redis import keys
from hookstream.app.roles import Role


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def sessions(redis_client: Any) -> tuple[Sessions, Clock]:
    clock = Clock()
    return Sessions(redis_client, 3600, clock), clock


async def test_a_session_is_found_until_it_is_ended(
    sessions: tuple[Sessions, Clock], redis_client: Any
) -> None:
    made, _ = sessions
    token = await made.begin("user-1", "Ada", "acme", Role.DEVELOPER)
    person = await made.find(token)
    assert person is not None
    assert (person.subject, person.tenant, person.role) == ("user-1", "acme", Role.DEVELOPER)
    assert await made.find(token + "x") is None
    # what Redis holds opens nothing
    [key] = await redis_client.keys("hs:session:*")
    assert token.encode() not in key + await redis_client.get(key)
    assert 0 < await redis_client.ttl(key) <= 3600
    await made.end(token)
    assert await made.find(token) is None


async def test_a_session_ends_by_itself(sessions: tuple[Sessions, Clock]) -> None:
    made, clock = sessions
    token = await made.begin("user-1", "Ada", "acme", Role.OWNER)
    made.follow(digest_of(token), clock.now + 3600)
    clock.now += 3599
    assert await made.find(token)
    assert made.still(digest_of(token))
    clock.now += 1
    assert await made.find(token) is None
    assert not made.still(digest_of(token))


async def test_open_connections_hear_of_an_end_elsewhere(
    sessions: tuple[Sessions, Clock], redis_client: Any
) -> None:
    made, clock = sessions
    token = await made.begin("user-1", "Ada", "acme", Role.OWNER)
    digest = digest_of(token)
    made.follow(digest, clock.now + 3600)
    await made.look()
    assert made.still(digest)
    await Sessions(redis_client, 3600, clock).end(token)
    await made.look()
    assert not made.still(digest)


async def test_what_cannot_be_read_is_no_session(
    sessions: tuple[Sessions, Clock], redis_client: Any
) -> None:
    made, _ = sessions
    for text in ("x", "{}", "[]", '{"role": "admin"}'):
        await redis_client.set(keys.session(digest_of("t").hex()), text)
        assert await made.find("t") is None
