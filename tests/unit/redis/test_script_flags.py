"""What scripts say of themselves to a full Redis is true."""

import re

import pytest

from hookstream.app.redis.sources import script_sources

READING = {
    "HGET", "HGETALL", "HMGET", "LLEN", "TIME", "TYPE", "XINFO", "XLEN", "XRANGE", "ZRANGE",
    "ZRANGEBYSCORE", "ZSCORE",
}  # fmt: skip
#: What makes data larger by what a sender sends: never above maxmemory, but for a block, which
#: takes the place of what it is made of.
GROWING = {"XADD", "SET", "RPUSH", "LPUSH"}
READERS = {"deferred_index", "feed_end", "feed_oldest", "feed_state", "find_tiers"}


def commands(source: str) -> set[str]:
    return set(re.findall(r"redis\.p?call\(\s*'(\w+)'", source))


@pytest.mark.parametrize("name", sorted(script_sources()))
def test_a_script_does_what_its_flags_say(name: str) -> None:
    source = script_sources()[name]
    flags = source.partition("\n")[0].removeprefix("-- flags: ")
    called = commands(source)
    assert called, "its commands are not seen"
    if flags == "no-writes":
        assert called <= READING
    elif flags == "allow-oom":
        assert called.isdisjoint(GROWING) or name in ("keep_warm", "rewrite_warm")
    assert (flags == "no-writes") == (name in READERS)
