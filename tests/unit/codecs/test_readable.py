"""What verified senders write that strict readers refuse is read as far as it can be."""

import encodings
import json
import tempfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.codecs.form import FORM
from hookstream.codecs.json_payload import dump_json
from hookstream.codecs.readable import (
    MAX_FIELD_BYTES,
    MAX_XML_ELEMENTS,
    read_payload,
    text_of,
)

PARTS = (
    b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n'
    b'--b\r\nContent-Disposition: form-data; name="log"; filename="a.log"\r\n'
    b"Content-Type: text/plain\r\n\r\n0123\r\n--b--\r\n"
)

PARTS_TYPE = "multipart/form-data; boundary=b"
LATIN = "application/json; charset=ISO-8859-1"


@pytest.mark.parametrize(
    ("payload", "content_type", "right"),
    [
        (b'{"a": 1}', "", {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": "cut \\ud83d"}', "application/json", {"a": "cut \ufffd"}),
        (b'{"\\ud83d": ["\\ude00"]}', "", {"\ufffd": ["\ufffd"]}),
        (b'{"a": "\\ud83d\\ude00", "b": NaN}', "", {"a": "\U0001f600", "b": "NaN"}),
        (b'{"a": 1e400, "b": -Infinity, "c": 0.5}', "", {"a": "1e400", "b": "-Infinity", "c": 0.5}),
        (b'{"a": 1, "a": 2}', "", {"a": 2}),
        (
            '{"a": "Größe"}'.encode("latin-1"),
            "application/json; charset=ISO-8859-1",
            {"a": "Größe"},
        ),
        ('{"a": "Größe"}'.encode("utf-16"), "application/json", {"a": "Größe"}),
        (b'{"a": "\xff"}', "application/json", {"a": "\ufffd"}),
        (b'{"a": 1', "application/json", None),
        (b"", "application/json", None),
        (b"plain words", "text/plain", None),
        (b"a=1&b=x+y&a=2", FORM, {"a": "1", "b": "x y"}),
        (b"a=%FC", FORM + "; charset=iso-8859-1", {"a": "ü"}),
        (b"payload=%7B%22a%22%3A1%7D", FORM, {"a": 1}),
        (
            PARTS,
            'multipart/form-data; boundary="b"',
            {
                "title": "Grüße",
                "log": {"filename": "a.log", "size": 4, "content_type": "text/plain"},
            },
        ),
        (PARTS, "multipart/form-data", None),
        (b"<a x='1'><b>2</b><b>3</b></a>", "text/xml", {"a": {"@x": "1", "b": ["2", "3"]}}),
        (b"<a><b></a>", "application/soap+xml", None),
        (b'{"a": 1}\n\n{"a": 2}\r\n', "application/x-ndjson", [{"a": 1}, {"a": 2}]),
        (b'{"a": 1}', "application/json; charset=nonsense", {"a": 1}),
        ('{"a": "Größe"}'.encode("utf-16-le"), "text/plain; charset=UTF-16LE", {"a": "Größe"}),
        ('{"a": "表"}'.encode("cp932"), 'application/json; charset="Shift_JIS"', {"a": "表"}),
        ('{"a": "€"}'.encode("cp1252"), "application/json;charset=windows-1252", {"a": "€"}),
        (b"[NaN," + b"9" * 400 + b"]", "", ["NaN", "9" * 400]),
        # a script's text, put between quotes as it stood
        (b'{"text": "line\n\tline", "n": 1}', "", {"text": "line\n\tline", "n": 1}),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><a>ü</a>".encode("latin-1"),
            "text/xml",
            {"a": "ü"},
        ),
        (
            "<?xml version='1.0' encoding='UTF-16'?><a>ü</a>".encode("utf-16"),
            "text/xml",
            {"a": "ü"},
        ),
        (b'<!DOCTYPE c SYSTEM "c.dtd"><c a="1"/>', "text/xml", {"c": {"@a": "1"}}),
        (b"<?xml version='1.0' encoding='cp037'?><a/>", "text/xml", None),
    ],
)
def test_payload_is_read_as_far_as_it_can_be(payload: bytes, content_type: str, right: Any) -> None:
    assert read_payload(payload, content_type) == right


def test_entities_and_long_documents_are_not_unfolded() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>'
    assert read_payload(bomb, "text/xml") is None
    assert read_payload(b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "text/xml") != "root"
    assert read_payload(b"<a>" + b"<b/>" * (2 * MAX_XML_ELEMENTS) + b"</a>", "text/xml") is None
    assert read_payload(b"<a>" * 5000 + b"</a>" * 5000, "text/xml") is None
    assert read_payload(b"[" * 1000 + b"NaN" + b"]" * 1000, "application/json") is None


def test_names_of_characters_are_not_kept() -> None:
    """Python keeps each that it was asked for, for ever."""
    known = dict(encodings._cache)  # type: ignore[attr-defined]
    for name in ("x-nobody-1", "x.nobody", "base64", "x" * 5000):
        read_payload(b'{"a": "\xff"}', f"application/json; charset={name}")
        text_of(b"\xff", f"text/plain; charset={name}")
        read_payload(b"a=%FF", f"{FORM}; charset={name}")
        read_payload(b"<?xml version='1.0' encoding='%s'?><a/>" % name.encode(), "text/xml")
        part = (
            b"--b\r\nContent-Disposition: form-data; name=a\r\nContent-Type: text/plain; charset="
        )
        read_payload(part + name.encode() + b"\r\n\r\n\xff\r\n--b--", PARTS_TYPE)
    assert encodings._cache == known  # type: ignore[attr-defined]


def test_a_long_part_needs_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    part = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n" + b"x" * 200_000
    assert read_payload(part + b"\r\n--b--", PARTS_TYPE) == {"a": "x" * MAX_FIELD_BYTES}


@given(
    payload=st.binary(max_size=200) | st.text(max_size=80).map(str.encode),
    content_type=st.sampled_from(
        ["", "application/json", FORM, "text/xml", "multipart/form-data; boundary=b",
         "application/x-ndjson", "text/plain; charset=utf-16", "a/b; charset=base64"]
    ),
)  # fmt: skip
def test_nothing_raises_and_what_is_read_can_be_written(payload: bytes, content_type: str) -> None:
    found = read_payload(payload, content_type)
    assert json.loads(dump_json(found)) == found
    text = text_of(payload, content_type)
    assert text is None or isinstance(text, str)
