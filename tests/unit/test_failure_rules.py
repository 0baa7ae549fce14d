"""Breakers, back-off, origins, rendezvous, and Redis URLs: the pure rules of failure."""

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from redis.asyncio import Redis, RedisCluster

from hookstream.app.backoff import backoff_seconds, retry_delay_ms
from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.errors import SettingsError
from hookstream.app.ids import entry_order
from hookstream.app.redis.client import connect
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.outcome import ACCEPTED
from hookstream.app.streams.rendezvous import rendezvous
from hookstream.app.streams.source_positions import MAX_LATE, SourcePosition, admit
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import encode_event
from hookstream.codecs.errors import UnknownDictionaryError
from hookstream.codecs.routed import decode_routed, encode_routed

jitter = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), st.integers(1, 10**6), st.integers(1, 10**8), jitter)
def test_retry_delay_is_under_its_ceiling(
    attempts: int, base_ms: int, max_ms: int, share: float
) -> None:
    delay = retry_delay_ms(attempts, base_ms, max_ms, jitter=share)
    ceiling = min(max_ms, base_ms * 2 ** (attempts - 1))
    assert 0 <= delay <= ceiling
    # full jitter: the whole range is used, and the share says where in it
    assert abs(delay - ceiling * share) <= 1 + ceiling * 1e-9


def test_retry_delay_is_random_without_a_share() -> None:
    delays = {retry_delay_ms(8, 1000, 300_000) for _ in range(100)}
    assert len(delays) > 50


@given(st.integers(0, 10_000), jitter)
def test_connections_are_tried_again_after_at_most_five_seconds(attempt: int, share: float) -> None:
    assert 0.025 <= backoff_seconds(attempt, jitter=share) <= 5.0


class BreakerMachine(RuleBasedStateMachine):
    """A caller that asks, and tells what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(threshold=3, wait_ms=100, max_wait_ms=1000)
        self.now = 0
        self.in_a_row = 0
        self.probing = False

    @rule(ms=st.integers(0, 400))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule()
    def ask(self) -> None:
        before = self.breaker.state
        allowed = self.breaker.allow(self.now)
        if before is BreakerState.CLOSED:
            assert allowed
        elif before is BreakerState.HALF_OPEN:
            assert not allowed, "one probe at a time"
        else:
            assert allowed == (self.now >= self.breaker.retry_at_ms)
            self.probing = allowed

    @precondition(lambda self: self.breaker.state is not BreakerState.OPEN)
    @rule()
    def it_works(self) -> None:
        self.breaker.succeeded()
        self.in_a_row = 0
        self.probing = False
        assert self.breaker.state is BreakerState.CLOSED

    @precondition(lambda self: self.breaker.state is not BreakerState.OPEN)
    @rule()
    def it_fails(self) -> None:
        opened = self.breaker.opened
        self.breaker.failed(self.now)
        self.in_a_row += 1
        if self.probing or self.in_a_row >= 3:
            assert self.breaker.state is BreakerState.OPEN
            wait = self.breaker.retry_at_ms - self.now
            assert wait == min(1000, 100 * 2**opened)
        self.probing = False

    @precondition(lambda self: self.breaker.state is BreakerState.HALF_OPEN)
    @rule()
    def the_probe_is_lost(self) -> None:
        self.breaker.reprobe(self.now)
        self.probing = False
        assert self.breaker.allow(self.now)
        self.probing = True

    @invariant()
    def it_survives_a_restart(self) -> None:
        kept = orjson.loads(orjson.dumps(self.breaker.to_dict()))
        again = Breaker.from_dict(kept, threshold=3, wait_ms=100)
        assert again.to_dict() == self.breaker.to_dict()


TestBreaker = BreakerMachine.TestCase


@given(
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    repeats=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    restart=st.sets(st.integers(0, 60)),
)
def test_an_origin_is_taken_once_however_often_its_batch_comes(
    batches: list[int], repeats: list[int], restart: set[int]
) -> None:
    """A batch comes again, in part or whole, until the next one begins with a higher floor."""
    mark = SourcePosition()
    taken: Counter[str] = Counter()
    number = 0
    step = 0
    for size, again in zip(batches, repeats, strict=False):
        ids = [f"{100 + number + i}-{i}" for i in range(size)]
        number += size
        for count in range(again + 1):
            # a crash may have cut the first tries short; the last one is whole
            for entry_id in ids if count == again else ids[: 1 + count]:
                if step in restart:
                    mark = SourcePosition.decode(mark.encode())
                step += 1
                if mark.accept(entry_id, ids[0]):
                    taken[entry_id] += 1
    assert set(taken.values()) == {1}
    assert len(taken) == number
    assert all(entry_order(seen) >= entry_order(mark.low_water_mark) for seen in mark.seen)


workers = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=6)


@given(workers, st.text("ghij", min_size=1, max_size=4))
def test_a_worker_that_comes_takes_and_moves_nothing_else(known: set[str], new: str) -> None:
    before = {n: rendezvous(n, sorted(known)) for n in range(32)}
    after = {n: rendezvous(n, sorted({*known, new})) for n in range(32)}
    assert all(after[n] in (before[n], new) for n in range(32))


@given(st.permutations(["a", "b", "c", "d"]))
def test_every_worker_comes_to_the_same_answer(order: list[str]) -> None:
    assert [rendezvous(n, order) for n in range(32)] == [
        rendezvous(n, ["a", "b", "c", "d"]) for n in range(32)
    ]


def test_shares_are_about_equal() -> None:
    shares = Counter(rendezvous(n, ["w1", "w2", "w3", "w4"]) for n in range(4096))
    assert all(900 < share < 1150 for share in shares.values())
    assert rendezvous(1, []) == ""


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "no scheme that is handled"),
        ("http://localhost", "no scheme that is handled"),
        ("redis://localhost:port", "cannot be read"),
        ("redis://localhost/x?unknown=1&db=a", "cannot be read"),
        ("redis://localhost/0?socket_timout=3", "socket_timout"),
        ("sentinel://h1:26379,h2:26379", "name the master"),
        ("sentinel://h1:x/mymaster", "cannot be read"),
        ("sentinel://h1,,h2/mymaster", "a host is empty"),
        ("sentinel://h1/mymaster?socket_timout=3", "unknown option 'socket_timout'"),
        ("cluster://h1:6379/0", "a cluster has no databases"),
        ("cluster://h1:6379?retries=9", "unknown option 'retries'"),
    ],
)
def test_a_redis_url_that_cannot_be_used_is_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        connect(url, timeout_seconds=1)
    assert "HOOKSTREAM_REDIS_URL" in str(caught.value)


def _options(client: Any) -> dict[str, Any]:
    return dict(client.connection_pool.connection_kwargs)


def test_sentinel_url_is_read_whole() -> None:
    client = connect(
        "sentinel://app:p%40ss@h1:26380,[::1],h3/mymaster"
        "?db=2&sentinel_username=watch&sentinel_password=w&tls=true&ssl_ca_certs=/ca.pem",
        timeout_seconds=1.5,
    )
    pool = client.connection_pool
    assert pool.service_name == "mymaster"
    options = _options(client)
    assert (options["username"], options["password"], options["db"]) == ("app", "p@ss", 2)
    assert options["socket_timeout"] == 1.5
    sentinels = [_options(sentinel) for sentinel in pool.sentinel_manager.sentinels]
    assert [(s["host"], s["port"]) for s in sentinels] == [
        ("h1", 26380),
        ("::1", 26379),
        ("h3", 26379),
    ]
    assert all((s["username"], s["password"]) == ("watch", "w") for s in sentinels)
    assert "ssl" in pool.connection_class.__name__.lower()


def test_cluster_url_is_read_whole() -> None:
    client = connect("cluster://app:pw@h1:7000,h2", timeout_seconds=1)
    assert isinstance(client, RedisCluster)
    nodes = client.nodes_manager.startup_nodes.values()
    assert {(node.host, node.port) for node in nodes} == {("h1", 7000), ("h2", 6379)}
    assert client.connection_kwargs["username"] == "app"


def test_plain_url_keeps_redis_pys_own_options() -> None:
    client = connect("rediss://app:pw@h:6390/3?ssl_cert_reqs=none", timeout_seconds=1)
    assert isinstance(client, Redis)
    options = _options(client)
    assert (options["host"], options["port"], options["db"]) == ("h", 6390, 3)
    assert options["ssl_cert_reqs"] == "none"


def test_copy_of_an_update_that_could_not_be_read_is_not_a_second_one() -> None:
    def routed(copy: int) -> Entry:
        event = make_event({})
        return Entry(f"{copy}-1", encode_routed(3, "7-0", "7-0", encode_event(event), []), None)

    first, copy = routed(1), routed(2)
    for entry in (first, copy):
        entry.value = decode_routed(entry.raw)
    # its dictionary is not there yet: it is tried again by its letter
    first.fail("decode", UnknownDictionaryError(5))
    fresh, marks = admit([first], {})
    assert (fresh, first.failure is None) == ([], False)
    # by now it is, and the worker that routed it repeats what it had not committed
    assert admit([copy], marks)[0] == []
    # a copy that cannot be read gets no letter of its own
    copy.fail("decode", UnknownDictionaryError(5))
    assert admit([copy], marks)[0] == []
    assert copy.failure is None
    first.outcome, first.failed_event_id = ACCEPTED, "letter"
    assert admit([first], marks)[0] == [first]


def test_a_pinned_origin_is_remembered_when_it_is_pinned_no_more() -> None:
    """An append that is carried out late still says that it is."""
    mark = SourcePosition()
    assert mark.accept("50-0", "40-0")
    assert mark.accept("5-0", "60-0", ["5-0"])
    assert mark.accept("70-0", "65-0", [])
    assert mark.accept("80-0", "75-0", [])
    assert not mark.accept("5-0", "60-0", ["5-0"])
    assert not SourcePosition.decode(mark.encode()).accept("5-0", "60-0", ["5-0"])
    for n in range(MAX_LATE + 50):
        assert mark.accept(f"6-{n}", "75-0", [f"6-{n}"])
    assert mark.accept("90-0", "85-0", [])
    assert len(mark.seen) <= MAX_LATE + 1
