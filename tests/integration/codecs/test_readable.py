"""What would unfold without end, in a child that it would take along."""

import base64
import subprocess
import sys

import pytest

from hookstream.codecs.form import FORM

#: Each took seconds to hours, or hundreds of megabytes.
HOSTILE = {
    "punycode": (b"-" + b"a9" * 400_000, "application/json; charset=punycode"),
    "punycode in a form": (b"a=-" + b"a9" * 400_000, FORM + "; charset=punycode"),
    "idna": (b"a." * 2_000_000, "application/json; charset=idna"),
    "lists in EBCDIC": (
        ("[" + "[]," * 1_700_000 + "1]").encode("cp037"),
        "application/json; charset=cp037",
    ),
    "lists in UTF-7": (
        b"+" + base64.b64encode(("[" + "[]," * 600_000 + "1]").encode("utf-16-be")) + b"-",
        "application/json; charset=utf-7",
    ),
    "attributes that nobody wrote": (
        b"<!DOCTYPE r [<!ATTLIST a "
        + b" ".join(b'a%d CDATA ""' % n for n in range(2000))
        + b">]><r>"
        + b"<a/>" * 5000
        + b"</r>",
        "text/xml",
    ),
    "attributes": (b"<r " + b" ".join(b'a%x=""' % n for n in range(100_000)) + b"/>", "text/xml"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_unfold_without_end_is_not_read(kind: str) -> None:
    """In a child, which it would take along."""
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
from tests.integration.codecs.test_readable import HOSTILE
from hookstream.codecs.readable import read_payload, text_of
before = resource.getrusage(resource.RUSAGE_SELF)
payload, content_type = HOSTILE[sys.argv[1]]
assert read_payload(payload, content_type) is None
text_of(payload, content_type)
after = resource.getrusage(resource.RUSAGE_SELF)
assert after.ru_utime - before.ru_utime < 0.5, after
assert after.ru_maxrss - before.ru_maxrss < 100 << 10, after
"""
    subprocess.run([sys.executable, "-c", program, kind], check=True, timeout=60)
