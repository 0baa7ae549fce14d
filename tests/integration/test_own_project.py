"""A project of one's own: installed from wheels, its stages are found by every process."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.stack import Stack, eventually

#: Of the checkout only what a wheel is made of.
SOURCES = ("app", "agents", "codecs", "hookstream", "proto", "tables")
PAYMENTS = {"where": "enrichment.team == 'payments'"}


def run(*command: str, **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the two wheels; what they depend on is this environment's."""
    folder = tmp_path_factory.mktemp("own")
    source = folder / "hookstream"
    source.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "examples" / "project", folder / "project")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    for path in (source, folder / "project"):
        run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder / "w"), str(path))
    made = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(made))
    site = Path(sysconfig.get_path("purelib", vars={"base": str(made)}))
    run(*pip, "install", "--no-deps", "--target", str(site), *map(str, (folder / "w").iterdir()))
    # a folder and not its .pth files: those would bring the checkout itself
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made / "bin" / "python"


class People(ThreadingHTTPServer):
    """The service that the project asks for people's teams; it answers once it is ``open``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.asked: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()


class Asked(BaseHTTPRequestHandler):
    server: People

    def do_GET(self) -> None:
        login = self.path.rpartition("/")[2]
        self.server.asked[login] += 1
        self.server.open.wait(60)
        body = json.dumps({"team": "search" if login == "bob" else "payments"}).encode()
        with suppress(OSError):  # who asked may be gone by now
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def people() -> Iterator[People]:
    with People() as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.open.set()
        serving.shutdown()
        thread.join()


class Own(Stack):
    """The whole system from that environment, in a folder without a checkout."""

    def __init__(self, python: Path, folder: Path, **settings: str) -> None:
        super().__init__(folder, **settings)
        self.python = python

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONSAFEPATH": "1", "PYTHONPATH": ""}

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", "hookstream.app.cli", *arguments]


@pytest.fixture(scope="module")
def own(python: Path, people: People, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    url = f"http://127.0.0.1:{people.server_port}"
    with Own(python, tmp_path_factory.mktemp("up"), PEOPLE_URL=url) as running:
        yield running


def by(login: str, n: int) -> bytes:
    return json.dumps({"n": n, "sender": {"login": login}}).encode()


async def test_bots_are_dropped_and_people_looked_up_once(
    own: Own, people: People, name: str
) -> None:
    await own.context(name, {"provider": "none"}, **PAYMENTS)
    bot = await own.hook(name, by("dependabot[bot]", 1))
    await own.hook(name, by("bob", 2))
    first = await own.hook(name, by("ada", 3))
    [update] = await own.updates(name, 1)
    second = await own.hook(name, by("ada", 4))
    updates = await own.updates(name, 2)
    assert update == updates[0]
    assert [update["event_id"] for update in updates] == [first, second]
    assert people.asked["ada"] == people.asked["bob"] == 1
    assert not any("bot" in login for login in people.asked)

    async def recorded() -> bool:
        return bool((await own.get(f"/events/{bot}"))["status"] == "unrouted")

    await eventually(recorded, "it is on record as dropped")


async def test_a_worker_killed_while_it_looks_up_loses_and_doubles_nothing(
    own: Own, people: People, name: str
) -> None:
    await own.context(name, {"provider": "none"}, **PAYMENTS)
    people.open.clear()
    sent = [await own.hook(name, by(f"carol-{n % 5}", n)) for n in range(30)]
    await own.hook(name, by("renovate[bot]", 30))

    async def asked() -> bool:
        return people.asked["carol-0"] > 0

    await eventually(asked, "an event is in the stage")
    killed = own.find("worker")
    killed.kill()
    people.open.set()
    updates = await own.updates(name, 30)
    assert sorted(update["event_id"] for update in updates) == sorted(sent)
    assert [update["seq"] for update in updates] == list(range(1, 31))
    sent.append(await own.hook(name, by("carol-0", 31)))
    [last] = await own.updates(name, 1, after=30)
    assert (last["seq"], last["event_id"]) == (31, sent[-1])
    assert own.find("worker").pid != killed.pid


async def test_its_dedup_function_works(own: Own, name: str) -> None:
    tool = {"provider": "none", "dedup": {"strategy": "custom", "name": "by_build"}}
    await own.context(name, tool)
    first = await own.hook(name, b'{"build": 1, "state": "begun"}')
    again = await own.hook(name, b'{"build": 1, "state": "done"}')
    other = await own.hook(name, b'{"build": 2}')
    updates = await own.updates(name, 2)
    assert [update["event_id"] for update in updates] == [first, other]

    async def recorded() -> bool:
        return bool((await own.get(f"/events/{again}"))["duplicate_of"] == first)

    await eventually(recorded, "it is on record as a duplicate")


def test_its_own_tests_need_no_server(python: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "project", project)
    environment = {**os.environ, "PYTHONPATH": ""}
    run(str(python), "-m", "pytest", "-q", str(project), env=environment, cwd=str(project))


def test_a_module_that_is_not_there_is_a_sentence(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(python), "-m", "hookstream.app.cli", "agents"],
        env={**os.environ, "HOOKSTREAM_AGENTS": "nobody.has.this", "PYTHONPATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "nobody.has.this" in done.stderr
    assert "HOOKSTREAM_AGENTS" in done.stderr
    assert "Traceback" not in done.stderr


def test_modules_of_the_current_folder_are_found(python: Path, tmp_path: Path) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    for file, stage in (("__init__", "first"), ("more", "second")):
        (package / f"{file}.py").write_text(
            "from hookstream import Event, app\n\n\n@app.stage(after='dedupe')\n"
            f"async def {stage}(event: Event) -> Event | None:\n    return event\n"
        )
    done = subprocess.run(
        [str(python.with_name("hookstream")), "agents"]
        if python.with_name("hookstream").exists()
        else [str(python), "-m", "hookstream.app.cli", "agents"],
        env={**os.environ, "HOOKSTREAM_AGENTS": "mine", "PYTHONPATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"@first", "@second", "@drop_bots", "@enrich"} <= set(done.stdout.split())
