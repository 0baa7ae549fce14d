"""What is installed has a hash; what runs in containers has no rights; a list says what it is."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def _pinned(lock: str) -> dict[str, set[str]]:
    """name==version → its hashes"""
    found: dict[str, set[str]] = {}
    for part in re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text()):
        if match := re.match(r"([a-z0-9._-]+)==([^\s;]+)", part):
            found["==".join(match.groups())] = set(re.findall(r"sha256:([0-9a-f]{64})", part))
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    secrets = {"HOOKSTREAM_ADMIN_KEY": "k", "POSTGRES_PASSWORD": "p", "S3_SECRET": "s"}
    said = subprocess.run(
        [BIN / "docker-compose", "--profile", "kafka", "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, **secrets, "REDIS_IMAGE": "valkey@sha256:" + "0" * 64},
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = orjson.loads(said.stdout)["services"]
    return found


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-run.lock"])
def test_every_package_is_pinned_with_hashes(lock: str) -> None:
    pinned = _pinned(lock)
    assert len(pinned) > 50
    assert all(pinned.values()), [name for name, hashes in pinned.items() if not hashes]


def test_the_dockerfile_installs_from_the_hashed_lock_only() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install [^&\n]*", text)
    assert len(installs) == 2
    assert "--require-hashes -r requirements-run.lock" in installs[0]
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(installs[1].split())
    assert not re.findall(r"^FROM (?!\$\{PYTHON_IMAGE\})", text, re.MULTILINE)
    assert not re.findall(r"\b(curl|wget|apt-get|apk)\b", text)
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER hookstream$", last, re.MULTILINE)
    assert any(name.startswith("setuptools==") for name in _pinned("requirements-run.lock"))


def test_containers_have_no_rights_and_bounds(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] == 512, name
        assert set(service.get("cap_add") or []) <= (
            {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} if name == "postgres" else set()
        ), name
        assert not service.get("privileged"), name


def test_images_can_be_named_by_digest(services: dict[str, Any]) -> None:
    assert services["redis"]["image"] == "valkey@sha256:" + "0" * 64
    text = (ROOT / "docker-compose.yml").read_text()
    images = re.findall(r"^ +image: (.*)$", text, re.MULTILINE)
    assert len(images) == 5
    assert all(image.startswith("${") or image == "hookstream:latest" for image in images)


def test_the_kafka_beside_can_write_what_it_writes_and_is_found(services: dict[str, Any]) -> None:
    kafka = services["kafka"]
    environment = kafka["environment"]
    # others find it by its name, and it itself its controller
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == "1@kafka:9093"
    named = {part.partition(":")[0] for part in environment["KAFKA_LISTENERS"].split(",")}
    mapped = environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    assert named == {part.partition(":")[0] for part in mapped} == {"PLAINTEXT", "CONTROLLER"}
    # what it has is in a volume; the image's user is 1000, and folders in memory are root's
    assert [(each["type"], each["target"]) for each in kafka["volumes"]] == [
        ("volume", environment["KAFKA_LOG_DIRS"])
    ]
    for folder in ("/opt/kafka/config", "/opt/kafka/logs"):
        assert f"{folder}:mode=755,uid=1000,gid=1000" in kafka["tmpfs"]
    assert "/tmp:exec" in kafka["tmpfs"]
    assert "9092" in kafka["healthcheck"]["test"][1]
    # of one broker nothing can have three copies
    factors = [each for name, each in environment.items() if name.endswith("REPLICATION_FACTOR")]
    assert factors == ["1", "1"]


def test_the_bill_of_materials_lists_what_is_pinned(tmp_path: Path) -> None:
    made = tmp_path / "sbom.json"
    subprocess.run(
        ["make", "-o", ".venv/.installed", "sbom", f"BIN={BIN}", f"SBOM={made}"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    listed = {
        f"{part['name']}=={part['version']}": {
            item["content"]
            for reference in part["externalReferences"]
            for item in reference["hashes"]
        }
        for part in orjson.loads(made.read_bytes())["components"]
    }
    assert listed == _pinned("requirements-run.lock")


def test_an_audit_that_cannot_ask_fails_and_says_what_to_do() -> None:
    answer = subprocess.run(
        ["make", "-o", ".venv/.installed", "audit", f"BIN={BIN}"],
        cwd=ROOT,
        env={
            **os.environ,
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "https_proxy": "http://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "NOT AUDITED" in answer.stdout
    assert "SECURITY.md" in answer.stdout
