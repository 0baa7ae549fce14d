"""What asking for a name imports."""

import subprocess
import sys


def test_asking_for_the_version_does_not_make_the_application() -> None:
    code = "import sys, hookstream; print(hookstream.__version__, 'faust' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"
