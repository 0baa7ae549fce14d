"""Real servers on state of their own, once a session; the whole system as a user runs it."""

import asyncio
import atexit
import functools
import gc
import inspect
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from tests.support import CLUSTER, TESTS

# Read by every process of a run, also by the one that hands out the tests: what only some fixture
# needs is imported there.
if TYPE_CHECKING:
    import redis.asyncio

    from tests.support.stack import Stack

for name in [name for name in os.environ if name.startswith("HOOKSTREAM_")]:
    del os.environ[name]

#: What takes longest, in its order: begun last, one of them would be waited for alone.
LONG = (
    "integration/bench/test_speed.py",
    "integration/bench/test_growth.py",
    "integration/bench/test_load.py",
    "chaos/test_failover.py",
    "integration/test_start_in_trouble.py",
    "chaos/test_workers.py",
    "chaos/test_migration.py",
    "integration/streams/test_model.py",
    "integration/payloads/test_payloads.py",
    "integration/erasure/test_places.py",
    "integration/web/test_tenants.py",
    "integration/payloads/test_sealed_stack.py",
    "integration/test_crash.py",
    "integration/feeds/test_deaf_clients.py",
    "integration/streams/test_recovery.py",
    "integration/streams/test_assignment.py",
    "integration/embedded/test_embedded.py",
    "integration/streams/test_stalls.py",
    "integration/web/test_slow_clients.py",
    "integration/feeds/test_daily.py",
    "integration/web/test_admin_port.py",
    "integration/test_consumers.py",
    "integration/web/test_api.py",
    "integration/commands/test_commands.py",
    "integration/postgres/test_upgrades.py",
    "integration/failures/test_crashed.py",
    "integration/web/test_receive.py",
    "integration/failures/test_failed_events.py",
    "integration/feeds/test_data_loss.py",
    "integration/ingest/test_replayer.py",
    "integration/stage_tables/test_own_tables.py",
    "integration/test_own_project.py",
    "hostile/test_hostile.py",
    "properties/codecs/test_json_rules.py",
    # each process compiles the templates of all providers for these: one of two has them all
    "unit/providers/test_every_provider.py",
    "unit/providers/test_summary_table.py",
    "unit/summaries/test_summaries.py",
    "unit/summaries/test_model.py",
    "unit/summaries/test_template_bounds.py",
    "unit/providers/test_fixtures.py",
)

#: A test that waits for longer waits for ever, and all of the run with it.
HANGING_SECONDS = 900

# until all tests are known nothing that is made goes away again: why look for it
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Have the processes that run the tests share a folder: this one starts them."""
    if CLUSTER not in os.environ:
        os.environ[CLUSTER] = tempfile.mkdtemp(prefix="hookstream-cluster-")
        atexit.register(shutil.rmtree, os.environ[CLUSTER], ignore_errors=True)
    if not getattr(config.option, "numprocesses", None):
        _load_profile()
    if hasattr(config, "workerinput") and not (config.option.durations or config.option.xmlpath):
        config.pluginmanager.register(Brief())


class Brief:
    """Has a process tell the one that counts how tests ended, and nothing else.

    Otherwise it sends six messages about each test: for six thousand that last milliseconds a
    tenth of the run. Who asks for times gets them all.
    """

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test as pytest does."""
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                item.ihook.pytest_runtest_logreport(report=report)
        return True


def _load_profile() -> None:
    from hypothesis import HealthCheck, settings

    from tests.support.examples import percent

    # examples reach real servers, whose answers take as long as they take
    settings.register_profile(
        "real",
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        max_examples=percent(),
    )
    settings.load_profile("real")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the long files begun first, the others in their order; none waits for ever."""
    places = {TESTS / name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            # with Hypothesis it is no such function, and has a deadline of its own if it wants one
            item.obj = _ending(item.obj)


def _ending(test: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def bounded(*arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(HANGING_SECONDS):
            await test(*arguments, **named)

    return bounded


def pytest_collection_finish() -> None:
    """Leave modules and tests out of every later collection of garbage."""
    # what little of it is garbage may stay: to look for it takes longer than most files of tests
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder of this test process."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def redis_url(state_dir: Path) -> Iterator[str]:
    """A real Redis-protocol server."""
    from hookstream.app import embedded

    server = embedded.start_valkey(state_dir)
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(state_dir: Path) -> Iterator[str]:
    """A real PostgreSQL."""
    from hookstream.app import embedded
    from tests.support.stack import copy_cluster

    copy_cluster(state_dir)
    server = embedded.start_postgres(state_dir)
    yield server.url
    server.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> None:
    """In the test's folder, an embedded PostgreSQL that was started before."""
    from tests.support.stack import copy_cluster

    copy_cluster(tmp_path)


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """A client of the session's server, which is emptied first."""
    from redis.asyncio import Redis

    client = Redis.from_url(redis_url, protocol=2)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stack"]:
    """`hookstream up`, as a newcomer has it; shared by the tests of this process."""
    from tests.support.stack import Stack

    with Stack(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return f"t{secrets.token_hex(4)}"
