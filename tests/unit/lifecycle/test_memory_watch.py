"""How full Redis is, of one server and of a cluster."""

from typing import Any

import pytest

from hookstream.app.redis import client as module
from hookstream.app.redis.memory import MemoryWatch, Pressure

FULL = {"used_memory": 85, "maxmemory": 100}
EMPTY = {"used_memory": 10, "maxmemory": 100}


class Cluster:
    """Several primaries, of which INFO alone asks some one."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def info(self, section: str) -> Any:
        return EMPTY

    async def execute_command(self, *words: str, target_nodes: str) -> Any:
        assert (words, target_nodes) == (("INFO", "memory"), "primaries")
        return self.reply


@pytest.mark.parametrize("reply", [{"a": EMPTY, "b": FULL, "c": EMPTY}, FULL])
async def test_of_a_cluster_the_fullest_primary_counts(
    reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_cluster", lambda _: True)
    watch = MemoryWatch(Cluster(reply))
    await watch.look()
    assert (watch.used, watch.most, watch.pressure) == (85, 100, Pressure.STRAIGHT)


async def test_one_server_is_asked_itself() -> None:
    watch = MemoryWatch(Cluster(None))
    await watch.look()
    assert (watch.used, watch.pressure) == (10, Pressure.NONE)
