"""A unit test starts no process: what does is an integration test."""

import multiprocessing.util
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from hookstream.app.settings import Settings


def _refuse(*_: Any, **__: Any) -> NoReturn:
    pytest.fail("a unit test starts no process: its place is tests/integration")


@pytest.fixture(scope="package", autouse=True)
def no_processes() -> Iterator[None]:
    """Have whatever starts one while the tests of this folder run fail its test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "_execute_child", _refuse)
        patch.setattr(multiprocessing.util, "spawnv_passfds", _refuse)
        patch.setattr(os, "fork", _refuse)
        yield


@pytest.fixture(scope="session")
def defaults() -> "Settings":
    """Settings as they are where nobody has set any."""
    from hookstream.app.settings import Settings

    return Settings()


@pytest.fixture
def own_settings(defaults: "Settings", tmp_path: Path) -> "Settings":
    """The same with a state folder of the test's own; to read them anew takes milliseconds."""
    return defaults.model_copy(update={"state_dir": tmp_path})


@pytest.fixture(scope="package", autouse=True)
def senders_keys_are_read_once() -> Iterator[None]:
    """To read a private key of RSA is to test its primes; hundreds are read, and they are few."""
    from hookstream.app.providers import wix
    from hookstream.app.providers.signatures import ecdsa, pinned
    from hookstream.app.providers.signatures.public_keys import private_key

    with pytest.MonkeyPatch.context() as patch:
        for module in (ecdsa, pinned, wix):
            patch.setattr(module, "private_key", cache(private_key))
        yield
