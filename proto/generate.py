"""Generate ``*_pb2.py`` and ``*_pb2.pyi`` from the ``.proto`` files; with ``--check`` compare only.

Both ask ``buf lint``, and ``buf breaking`` against ``released.binpb``: an image of the schemas as
they are on the main branch. It is committed beside them, so that the comparison needs neither
history nor network. Generating renews it, and refuses to when the change breaks the wire format;
the check refuses one that is not renewed. A break on purpose deletes the file and raises the
envelope's ``schema_version``.

Needs the ``dev`` extra (grpcio-tools carries protoc, buf-bin carries buf).
"""

import subprocess
import sys
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path

__all__ = ["check_wire", "generate", "stale_files"]

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
IMAGE = PROTO / "released.binpb"


def generate(out: Path) -> list[Path]:
    """Run protoc over ``proto/*.proto``, writing below ``out``; returns the files written."""
    from grpc_tools import protoc

    sources = sorted(f"hookstream/proto/{path.name}" for path in PROTO.glob("*.proto"))
    include = str(files("grpc_tools") / "_proto")
    command = ["protoc", f"-I{ROOT}", f"-I{include}", f"--python_out={out}", f"--pyi_out={out}"]
    if protoc.main([*command, *sources]) != 0:
        raise SystemExit("protoc failed: see its message above")
    return sorted((out / "hookstream" / "proto").glob("*_pb2.py*"))


def stale_files() -> list[str]:
    """Names of generated files that differ from what the ``.proto`` files give now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(Path(folder))
        stale = [
            path.name
            for path in fresh
            if not (PROTO / path.name).exists()
            or (PROTO / path.name).read_bytes() != path.read_bytes()
        ]
        image = Path(folder, IMAGE.name)
        build_image(image)
        if not IMAGE.exists() or IMAGE.read_bytes() != image.read_bytes():
            stale.append(IMAGE.name)
        return stale


def build_image(path: Path) -> None:
    """Write the schemas' descriptors, without comments and places."""
    _buf("build", str(PROTO), "--exclude-source-info", "-o", str(path))


def check_wire() -> None:
    """``buf lint`` and ``buf breaking``; ends the process with buf's message."""
    _buf("lint", str(PROTO))
    if IMAGE.exists():
        _buf("breaking", str(PROTO), "--against", str(IMAGE))


def _buf(*arguments: str) -> None:
    buf = Path(sysconfig.get_path("scripts"), "buf")
    done = subprocess.run([buf, *arguments], check=False, cwd=ROOT)  # noqa: S603 the wheel's own
    if done.returncode != 0:
        raise SystemExit(f"buf {arguments[0]} failed: see its message above")


if __name__ == "__main__":
    check_wire()
    if "--check" in sys.argv:
        if stale := stale_files():
            raise SystemExit(f"generated code is stale: {', '.join(stale)}. Run: make proto")
    else:
        generate(ROOT)
        build_image(IMAGE)
