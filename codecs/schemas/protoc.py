"""protoc in a child process: a text that crashes or stalls the compiler harms nobody else."""

import subprocess
import sys
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

from hookstream.codecs.errors import InvalidSchemaError

__all__ = ["ROOT", "compile_proto"]

#: What a registered schema's own file is called.
ROOT = "registered.schema.proto"
TIMEOUT_SECONDS = 10.0


def compile_proto(text: str, imports: bytes) -> bytes:
    """A serialised FileDescriptorSet of ``text``, imports first, the file itself last.

    Blocks for some 50 ms: call it from a thread.

    Arguments:
        imports: a FileDescriptorSet of what it may import besides ``google/protobuf``.

    Raises:
        InvalidSchemaError: with the compiler's message.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, ROOT).write_text(text)
        Path(folder, "imports.pb").write_bytes(imports)
        command = [
            sys.executable,
            "-I",
            "-m",
            "grpc_tools.protoc",
            f"-I{folder}",
            f"-I{_include()}",
        ]
        command += [f"--descriptor_set_in={folder}/imports.pb"] if imports else []
        command += ["--include_imports", f"--descriptor_set_out={folder}/out.pb", ROOT]
        try:
            done = subprocess.run(  # noqa: S603 our own compiler, no shell
                command, capture_output=True, timeout=TIMEOUT_SECONDS, cwd=folder, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InvalidSchemaError(
                f"protoc did not finish within {TIMEOUT_SECONDS:g} s"
            ) from error
        if done.returncode != 0:
            raise InvalidSchemaError(done.stderr.decode("utf-8", "replace").strip()[:2000])
        return Path(folder, "out.pb").read_bytes()


@cache
def _include() -> str:
    return str(files("grpc_tools") / "_proto")
