"""CEL itself, without the command line that its package brings along.

``import cel`` imports ``cel.cli``, which imports typer, rich and prompt_toolkit: a tenth of the
time that a process of ours takes to start, for a shell that nobody here opens.
"""

import sys
from types import ModuleType
from typing import Any

__all__ = ["cel"]

_SHELL = "cel.cli"


def _engine() -> Any:
    if _SHELL not in sys.modules:
        sys.modules[_SHELL] = ModuleType(_SHELL)
        try:
            import cel as engine
        finally:
            # whoever wants the shell later gets the real one
            del sys.modules[_SHELL]
    else:
        import cel as engine
    return engine


cel = _engine()
