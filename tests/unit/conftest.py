"""A unit test starts no process: what does is an integration test."""

import multiprocessing.util
import os
import subprocess
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest


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
