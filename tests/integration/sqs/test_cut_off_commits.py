"""A worker ends between sending updates and its commit, and the tool's mode is another one then."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from hookstream.app import embedded
from hookstream.app.redis import keys
from tests.integration.sqs.test_migration import OldWorkers, Sender, faults, settled, shift
from tests.support.sqs import SqsServer
from tests.support.stack import Stack, eventually

#: Once the file `armed` is there the next commit ends its process, as `kill -9` would, and no
#: process of that folder begins before the file `held` is gone.
CUT_OFF = """
import os, pathlib, time
folder = pathlib.Path(__file__).parent
while (folder / "held").exists():
    time.sleep(0.05)
import hookstream.app.streams.commit as commits
commit_all = commits.commit_all
async def cut_off(scripts, made):
    if (folder / "armed").exists() and any(each.channel == "events" for each in made):
        (folder / "armed").rename(folder / "held")
        os._exit(9)
    return await commit_all(scripts, made)
commits.commit_all = cut_off
"""


async def nothing_waits(own: Stack) -> bool:
    """Whether no key is blocked, nor has a list that is worked off."""
    url = embedded.find_valkey(own.state_dir / "state")
    async with Redis.from_url(str(url)) as redis:
        return not any([await redis.hlen(keys.blocked_keys(number)) for number in range(8)])


@pytest.mark.parametrize("ordering", [{"by": "field", "field": "key"}, {"by": "none"}])
async def test_what_may_have_been_delivered_here_stays_ours_whatever_its_tool_has_come_to(
    ordering: dict[str, str], sqs_server: SqsServer, tmp_path: Path, name: str
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CUT_OFF)
    more = {
        **sqs_server.environ,
        "HOOKSTREAM_SQS_QUEUES": f"{sqs_server.url}/123456789012/",
        "PYTHONPATH": f"{site}:{Path.cwd()}",
    }
    with Stack(tmp_path, **more) as own:
        url = sqs_server.queue(f"{name}.fifo")
        tool = {
            "provider": "none",
            "dedup": {"strategy": "none"},
            "ordering": ordering,
            "forward": {"sqs": {"queue_url": url}},
        }
        await own.context(name, tool)
        await shift(own, name, "redis")
        sender, old = Sender(own, name, "a"), OldWorkers(own, sqs_server, url, name)
        async with old.working():
            await sender.round()
            assert list(await settled(sender, old)) == [0]
            await eventually(lambda: nothing_waits(own), "its key's list is over")
            (site / "armed").touch()
            await sender.round()

            async def cut_off() -> bool:
                return (site / "held").exists()

            await eventually(cut_off, "the worker has sent the update, and ended")
            await own.put(f"/tools/{name}/migration", {"mode": "sqs"})
            (site / "held").unlink()
            await sender.round()
            delivered = await settled(sender, old)
        assert faults(sender, old, delivered) == []
        assert sorted(delivered) == [0, 1]
        assert [number for number, _ in old.done["a"]] == [2]
