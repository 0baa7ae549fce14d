"""Whether one JSON Schema takes every document that another takes: ``jsonschema-rs``'s proof.

A proof may take long and lets nothing else run meanwhile: :func:`prove` asks a child process, which
is this file as a script, so it imports none of ours.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

import jsonschema_rs

__all__ = ["covers", "options", "prove"]

#: Where a document without ``$id`` lies, as the library has it.
NOWHERE = "json-schema:///"
TIMEOUT_SECONDS = 5.0


def options(document: Any, references: Mapping[str, Any]) -> dict[str, Any]:
    """How every schema is compiled: nothing fetched, patterns in linear time, formats as notes."""
    return {
        "retriever": _retriever(document, references),
        "validate_formats": False,
        "pattern_options": jsonschema_rs.RegexOptions(),
    }


def _retriever(document: Any, references: Mapping[str, Any]) -> Callable[[str], Any]:
    own = str(document.get("$id", "")) if isinstance(document, dict) else ""

    def retrieve(uri: str) -> Any:
        name = uri.partition("#")[0]
        for reference, found in references.items():
            if name in (reference, NOWHERE + reference, urljoin(own, reference)):
                return found
        raise LookupError(f"{name.removeprefix(NOWHERE)} is not among the references")

    return retrieve


def covers(reader: tuple[Any, Any], writer: tuple[Any, Any]) -> bool:
    """True is a proof; False may be one that was not found. Each is a document, its references."""
    try:
        ours, theirs = (
            jsonschema_rs.canonicalize(document, **options(document, references))
            for document, references in (reader, writer)
        )
        return ours.covers(theirs) == jsonschema_rs.canonical.Containment.YES
    except jsonschema_rs.canonical.CanonicalizationError:
        return False  # recursive, or with keywords that it does not compare


def prove(reader: tuple[Any, Any], writer: tuple[Any, Any]) -> bool:
    """As :func:`covers`, in a child process and within a time; blocks for some 50 ms."""
    try:
        done = subprocess.run(  # noqa: S603 this file, no shell
            [sys.executable, "-I", __file__],
            input=json.dumps([reader, writer]).encode(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and done.stdout == b"covers"


if __name__ == "__main__":
    one, other = json.load(sys.stdin)
    sys.stdout.write("covers" if covers(tuple(one), tuple(other)) else "")
