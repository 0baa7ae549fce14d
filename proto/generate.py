"""Generate ``*_pb2.py`` and ``*_pb2.pyi`` from the ``.proto`` files; with ``--check`` compare only.

Needs the ``dev`` extra (grpcio-tools carries protoc).
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

__all__ = ["generate", "stale_files"]

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> list[Path]:
    """Run protoc over ``proto/*.proto``, writing below ``out``; returns the files written."""
    from grpc_tools import protoc

    sources = sorted(f"hookstream/proto/{path.name}" for path in (ROOT / "proto").glob("*.proto"))
    include = str(files("grpc_tools") / "_proto")
    command = ["protoc", f"-I{ROOT}", f"-I{include}", f"--python_out={out}", f"--pyi_out={out}"]
    if protoc.main([*command, *sources]) != 0:
        raise SystemExit("protoc failed: see its message above")
    return sorted((out / "hookstream" / "proto").glob("*_pb2.py*"))


def stale_files() -> list[str]:
    """Names of generated files that differ from what the ``.proto`` files give now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(Path(folder))
        return [
            path.name
            for path in fresh
            if not (ROOT / "proto" / path.name).exists()
            or (ROOT / "proto" / path.name).read_bytes() != path.read_bytes()
        ]


if __name__ == "__main__":
    if "--check" in sys.argv:
        if stale := stale_files():
            raise SystemExit(f"generated code is stale: {', '.join(stale)}. Run: make proto")
    else:
        generate(ROOT)
