"""Whose trouble an error is: the server's, unless it is known to be the caller's."""

import socket

import asyncpg
import pytest
import redis.exceptions as replies
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline

from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import is_postgres_down
from hookstream.app.redis.client import connect, is_redis_down
from hookstream.app.redis.errors import RedisLibraryError, is_missing, redis_kind
from hookstream.app.stages import EventStageRunner
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event

SERVERS = [
    replies.ConnectionError("closed"),
    replies.TimeoutError("late"),
    replies.AuthenticationError("WRONGPASS"),
    replies.BusyLoadingError("LOADING"),
    replies.ReadOnlyError("READONLY"),
    replies.NoPermissionError("NOPERM"),
    replies.OutOfMemoryError("OOM command not allowed"),
    replies.ClusterDownError("CLUSTERDOWN Hash slot not served"),
    replies.MasterDownError("MASTERDOWN"),
    replies.TryAgainError("TRYAGAIN"),
    replies.InvalidResponse("Protocol Error"),
    RedisLibraryError("RuntimeError: dictionary changed size during iteration"),
    *(
        replies.ResponseError(text)
        for text in (
            "BUSY Redis is busy running a script",
            "WRONGTYPE Operation against a key",
            "WRONGKIND {hs:0}:events is a string, not a stream",
            "MISCONF Errors writing to the AOF file",
            "NOREPLICAS Not enough good replicas",
            "UNBLOCKED force unblock",
            "unknown command 'XADD'",
            "a reply that nobody has thought of",
        )
    ),
]
CALLERS = [
    replies.DataError("Invalid input of type: 'object'"),
    replies.ResponseError("FENCED the lease is held by another owner"),
    replies.ResponseError("wrong number of arguments for 'xadd' command"),
    ValueError("a stage's own"),
    OSError("a stage's own"),
    UnavailableError("not Redis"),
]


@pytest.mark.parametrize("error", SERVERS, ids=str)
def test_what_a_server_says_is_its_trouble(error: Exception) -> None:
    assert is_redis_down(error)


@pytest.mark.parametrize("error", CALLERS, ids=repr)
def test_what_is_known_to_be_the_callers_is_not(error: Exception) -> None:
    assert not is_redis_down(error)


def test_a_stream_that_is_not_there_yet_is_told_apart() -> None:
    assert is_missing(replies.ResponseError("NOGROUP No such key"))
    assert is_missing(replies.ResponseError("no such key"))
    assert not is_missing(replies.NoPermissionError("NOPERM"))


def test_the_kind_of_an_error_quotes_nothing() -> None:
    assert redis_kind(replies.ResponseError("NOAUTH of user anna")) == "NOAUTH"
    assert redis_kind(replies.ResponseError("about 'secret'")) == "ResponseError"
    assert redis_kind(replies.NoPermissionError("this user has no permissions")) == "NOPERM"
    assert redis_kind(replies.TimeoutError("OOM")) == "TimeoutError"
    full = "The stream has exhausted the last possible ID, unable to add more items"
    assert redis_kind(replies.ResponseError(full)) == "EXHAUSTED"


@pytest.mark.parametrize("wrong", [RuntimeError, AttributeError, KeyError, OSError, TypeError])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "cluster://127.0.0.1:1"])
async def test_errors_of_the_library_itself_are_errors_of_redis(
    monkeypatch: pytest.MonkeyPatch, url: str, wrong: type[Exception]
) -> None:
    """A stub, for the moment in which redis-py's cluster client breaks cannot be had at will."""

    async def broken(*_: object, **__: object) -> None:
        raise wrong("while it asks who is where")

    for library in (Redis, RedisCluster):
        monkeypatch.setattr(library, "initialize", broken)
    # what is guarded is bound when the class is made: break what it calls
    monkeypatch.setattr(RedisCluster, "_determine_nodes", broken)
    monkeypatch.setattr("redis.asyncio.connection.ConnectionPool.get_connection", broken)
    client = connect(url, timeout_seconds=1)
    for call in (
        client.get("key"),
        client.pipeline(transaction=False).get("key").execute(),
        client.pubsub().subscribe("channel"),
    ):
        with pytest.raises(replies.RedisError) as caught:
            await call
        assert is_redis_down(caught.value)


async def test_what_cannot_be_sent_is_the_callers_fault() -> None:
    client = connect("redis://127.0.0.1:1", timeout_seconds=1)
    packed = client.connection_pool.make_connection()
    for wrong in (object(), "\ud800"):
        with pytest.raises(replies.DataError):
            packed.pack_command("SET", "key", wrong)


def test_pipelines_are_guarded_too() -> None:
    for url, kind in (("redis://h", Pipeline), ("cluster://h", ClusterPipeline)):
        pipe = connect(url, timeout_seconds=1).pipeline(transaction=False)
        assert isinstance(pipe, kind)
        assert type(pipe).execute is not kind.execute


def postgres_error(state: str) -> Exception:
    return asyncpg.PostgresError.new({"C": state, "M": "", "S": "ERROR"})


@pytest.mark.parametrize(
    "state",
    [
        "08006", "0A000", "25006", "28000", "28P01", "3D000", "40001", "40P01", "42501", "42P01",
        "53100", "53200", "53300", "55000", "55006", "55P03", "57014", "57P01", "57P03", "58030",
        "XX000", "F0000", "99999",
    ],
)  # fmt: skip
def test_what_postgresql_says_is_its_trouble(state: str) -> None:
    assert is_postgres_down(postgres_error(state))


@pytest.mark.parametrize("state", ["22021", "22P05", "23503", "23505", "42601", "54000", "21000"])
def test_bad_values_and_constraints_are_the_callers(state: str) -> None:
    assert not is_postgres_down(postgres_error(state))


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        TimeoutError(),
        ConnectionRefusedError(),
        socket.gaierror("name"),
        AttributeError("'NoneType' object has no attribute 'fetch'"),
    ],
    ids=repr,
)
def test_errors_of_asyncpg_itself_are_the_servers(error: Exception) -> None:
    assert is_postgres_down(error)


async def test_a_stage_that_says_that_a_server_is_away_fails_no_event() -> None:
    async def asks(event: Event) -> Event:
        raise UnavailableError("it is away")

    batch = Batch("events", Partition(0, 1, "n"), [], lambda *_: None)
    batch.entries.append(Entry("1-1", b"", make_event({"n": 1})))
    with pytest.raises(UnavailableError):
        await EventStageRunner("asks", asks)(batch)
    assert batch.entries[0].failure is None
