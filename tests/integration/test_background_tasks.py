"""A task of a worker that raises ends nothing: it is named in /health, and begun again."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.stack import Stack, eventually, fresh

#: A service of ours whose work raises, as long as a file is there.
SITE = """
from pathlib import Path
import hookstream.agents
hookstream.agents.__path__.append({stages!r})
from hookstream.app.failures.retry_scheduler import RetryScheduler

look = RetryScheduler._look

async def failing(self):
    if Path({file!r}).exists():
        raise RuntimeError("not one of the errors that were thought of")
    await look(self)

RetryScheduler._look = failing
"""

#: A timer of a stream developer's, who knows Faust; it raises every other time.
STAGE = '''
"""A timer that raises, and says how often it was called."""
from pathlib import Path
from hookstream.app.main import app

@app.timer(0.1)
async def flaky():
    if app.producer_only:
        return
    calls = Path({folder!r}, "calls")
    calls.write_text(calls.read_text() + "." if calls.exists() else ".")
    raise ValueError("a timer of mine")
'''


class Failing(Stack):
    def __init__(self, folder: Path) -> None:
        self.file = folder / "failing"
        self.stages = folder / "stages"
        self.stages.mkdir()
        (self.stages / "flaky.py").write_text(STAGE.format(folder=str(self.stages)))
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(
            SITE.format(stages=str(self.stages), file=str(self.file))
        )
        super().__init__(folder, PYTHONPATH=f"{site}:{Path.cwd()}")


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    with Failing(tmp_path) as running:
        yield running


async def test_what_raises_is_named_and_begun_again_and_ends_no_process(failing: Failing) -> None:
    before = {process.pid for process in failing.processes()}
    failing.file.touch()
    worker = f"http://127.0.0.1:{failing.worker_port}"
    async with aiohttp.ClientSession(worker) as session:

        async def named() -> bool:
            async with fresh(session, "/health") as response:
                part = (await response.json())["parts"]["tasks"]
            found = {
                failure["task"]: (failure["error"], failure["is"])
                for failure in part["failing"]
                if failure["failures"] >= 2
            }
            return found == {
                "RetryScheduler._keep": ("RuntimeError", "started again"),
                "hookstream.agents.flaky.flaky": ("ValueError", "started again"),
            }

        await eventually(named, "both are named, and have failed again")
        async with fresh(session, "/metrics") as response:
            text = await response.text()
    assert 'hookstream_task_failures_total{task="RetryScheduler._keep"}' in text
    assert len((failing.stages / "calls").read_text()) >= 2
    assert {process.pid for process in failing.processes()} == before
    log = failing.log.read_text()
    assert log.count('"exc_type": "RuntimeError"') == 1, "a traceback once"
    failing.file.unlink()
    await failing.context("t", {"provider": "none"})
    await failing.hook("t", b"{}")
    assert len(await failing.updates("t", 1)) == 1
