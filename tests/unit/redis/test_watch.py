"""What Redis's settings say of whether it may lose events."""

import pytest

from hookstream.app.redis.watch import Findings, judge, together

GOOD = {"maxmemory_policy": "noeviction", "aof_enabled": 1, "used_memory": 10, "maxmemory": 100}


def test_a_server_that_keeps_everything_is_well() -> None:
    found = judge(GOOD, {"save": ""})
    assert (found.policy, found.persistence) == ("noeviction", "aof")
    assert not found.dangers
    assert not found.warnings


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_policy_that_drops_streams_is_a_danger(policy: str) -> None:
    [danger] = judge({**GOOD, "maxmemory_policy": policy}, None).dangers
    assert "noeviction" in danger


def test_a_policy_that_drops_what_expires_is_a_warning() -> None:
    found = judge({**GOOD, "maxmemory_policy": "volatile-ttl"}, None)
    assert not found.dangers
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    ("aof", "config", "persistence", "dangers", "warnings"),
    [
        (1, None, "aof", 0, 0),
        (0, {"save": ""}, "none", 1, 0),
        (0, {"save": "3600 1"}, "snapshots", 0, 1),
        (0, None, "unknown", 0, 0),
    ],
)
def test_persistence(
    aof: int, config: dict[str, str] | None, persistence: str, dangers: int, warnings: int
) -> None:
    found = judge({**GOOD, "aof_enabled": aof}, config)
    assert found.persistence == persistence
    assert (len(found.dangers), len(found.warnings)) == (dangers, warnings)


def test_memory_and_failed_writes_are_told() -> None:
    found = judge({**GOOD, "used_memory": 95, "rdb_last_bgsave_status": "err"}, None)
    assert len(found.warnings) == 2


def test_of_several_servers_the_worst_counts() -> None:
    bad = judge({**GOOD, "maxmemory_policy": "allkeys-lru", "used_memory": 80}, None)
    found = together([judge(GOOD, None), bad, judge(GOOD, None)])
    assert (found.policy, found.used_bytes) == ("allkeys-lru", 80)
    assert found.dangers == bad.dangers
    assert together([]) == Findings()


def test_the_default_of_a_cluster_is_told_and_no_alarm() -> None:
    found = judge({**GOOD, "cluster_enabled": 1}, {"cluster-require-full-coverage": "yes"})
    assert not found.warnings
    assert found.notes
