"""What README and docs say can be pasted works as pasted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from hookstream.app.settings import settings_table
from tests.support import ROOT
from tests.support.stack import Stack, eventually


def blocks(path: str, language: str) -> list[str]:
    """The fenced blocks of a language in a document."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


def folder(tmp_path: Path, stack: Stack) -> Path:
    """A newcomer's folder: a virtual environment, the examples, a state folder with the key."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "hookstream"):
        command = "-m hookstream.app.cli" if name == "hookstream" else ""
        script = tmp_path / ".venv" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".hookstream").mkdir()
    (tmp_path / ".hookstream" / "admin.key").write_text(stack.key)
    return tmp_path


async def test_readme_lines_work_as_pasted(stack: Stack, tmp_path: Path) -> None:
    here = folder(tmp_path, stack)
    start, lines, look = blocks("README.md", "sh")
    assert "make up" in start
    assert lines.count("\n") == 3
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("HOOKSTREAM_")
    }
    environment |= {"HOOKSTREAM_WEB_PORT": str(stack.port), "PYTHONPATH": str(ROOT)}
    output = here / "output"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-c", lines + "sleep 60 & wait"],
            cwd=here,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        async def shown() -> bool:
            return "Update the README with new information" in output.read_text()

        await eventually(shown, "the watching client prints the pull request")
    finally:
        os.killpg(shell.pid, 15)
        shell.wait(10)
    text = output.read_text()
    for line in ("201 tools/github", "watching agent-1", '"status":"accepted"'):
        assert line in text
    answer = subprocess.run(
        ["bash", "-c", look.replace("6066", str(stack.port))],
        cwd=here,
        capture_output=True,
        check=True,
    )
    assert orjson.loads(answer.stdout)["events"][0]["type"]


@pytest.mark.parametrize("command", [("watch.py", "agent-1"), ("first_steps.py",)])
def test_an_example_that_finds_no_key_says_what_to_do(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / command[0]), *command[1:]],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOOKSTREAM_STATE_DIR": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


async def test_line_that_up_prints_works_as_pasted(stack: Stack) -> None:

    async def printed() -> list[str]:
        return re.findall(r"^ +(curl .*)$", stack.log.read_text(), re.MULTILINE)

    [line] = await eventually(printed, "both are ready, and it is printed")
    answer = subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "HOOKSTREAM_ADMIN_KEY": stack.key},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"tool_id":"hello"' in answer.stdout
    assert '"status":"accepted"' in answer.stdout


def test_settings_table_in_readme_is_current() -> None:
    assert settings_table() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("page", "examples"),
    [
        (
            "docs/stages.md",
            (
                "label_urgent",
                "test_label_urgent",
                "enrich",
                "count",
                "count",
                "test_count",
                "sales",
                "sales",
            ),
        ),
        ("docs/dedup.md", ("order_id", "test_order_id")),
    ],
)
def test_code_in_the_docs_is_the_example(page: str, examples: tuple[str, str]) -> None:
    in_docs = blocks(page, "python")
    for block, example in zip(in_docs, examples, strict=True):
        code = (ROOT / "examples" / f"{example}.py").read_text()
        definition = re.search(r"^(@|def |async def ).*", block, re.MULTILINE | re.DOTALL)
        assert definition is not None
        assert definition[0].strip() in code
        assert len([line for line in definition[0].splitlines() if line.strip()]) < 15


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_docker_compose_file_is_valid() -> None:
    secrets = {"HOOKSTREAM_ADMIN_KEY": "k", "POSTGRES_PASSWORD": "p", "S3_SECRET": "s"}
    answer = subprocess.run(
        [Path(sys.executable).parent / "docker-compose", "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, **secrets},
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode()
    services = orjson.loads(answer.stdout)["services"]
    assert set(services) == {"redis", "postgres", "s3", "receiver", "worker-1", "worker-2"}
    for name in ("receiver", "worker-1", "worker-2"):
        given = services[name]["environment"]
        assert given["HOOKSTREAM_ARCHIVE_URL"].startswith("s3://")
        assert given["AWS_ENDPOINT_URL_S3"] == "http://s3:8333"
    for name in ("receiver", "worker-1", "worker-2"):
        port = services[name]["environment"]["HOOKSTREAM_ADMIN_PORT"]
        published = [item["target"] for item in services[name].get("ports") or []]
        assert published == ([6066] if name == "receiver" else []), "operators' ports stay inside"
        assert int(port) not in published
    settings = {name for service in services.values() for name in service.get("environment") or {}}
    known = settings_table()
    assert all(name in known for name in settings if name.startswith("HOOKSTREAM_"))
