"""What of a payload can be read: JSON, forms, XML, lines of JSON; in whatever characters it came.

A sender that is verified is believed whatever it writes. What strict readers refuse is read as far
as it can be, and everything else stays bytes: nothing here raises.
"""

import io
import json
import math
import re
from typing import Any, Final

import multipart
import xmltodict

from hookstream.codecs.charsets import charset
from hookstream.codecs.form import FORM, MAX_FORM_FIELDS, form_pairs
from hookstream.codecs.inner import token_claims, unfolded
from hookstream.codecs.json_payload import (
    MAX_DIGITS,
    UnparsedError,
    check_depth,
    check_limits,
    limits,
    may_be_deep,
    parse_payload,
)

__all__ = ["media_type", "read_payload", "text_of"]

#: XML and forms in parts are bounded more tightly: an element of theirs costs more than JSON's.
MAX_XML_BYTES: Final = 1024 * 1024
MAX_XML_ELEMENTS: Final = 10_000
MAX_XML_ATTRIBUTES: Final = 20_000
MAX_LINES: Final = 10_000
MAX_FIELD_BYTES: Final = 64 * 1024
#: What a document declares for itself: values that elements get though nobody wrote them there, and
#: texts that stand for others. A few KB of it unfold to gigabytes.
_DECLARED: Final = re.compile("<!(?:ENTITY|ATTLIST|ELEMENT|NOTATION)")
_XML_CHARSET: Final = re.compile(rb"<\?xml[^>]{1,100}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
#: Byte order marks.
BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
LINES: Final = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json-seq",
    }
)


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def read_payload(payload: bytes, content_type: str) -> Any:
    """JSON values in a payload; None where nothing can be read of it, or it is not parsed.

    Not parsed is what is nested too deep or has too many elements (``json_payload.py``). A form is
    an object of its fields' first values; one whose only field is a JSON text named ``payload``
    (GitHub's forms, Slack's interactions) or ``mandrill_events`` is that JSON. XML is an object as
    xmltodict has it, lines of JSON are a list, and of files in a form there are names and sizes.
    JSON that is a text in an envelope is unfolded (``inner.py``), and a token is what it says.
    """
    kind = media_type(content_type)
    try:
        if kind == FORM:
            return _form(payload, content_type)
        if kind == "multipart/form-data":
            return _parts(payload, content_type)
        if kind in LINES:
            return _lines(payload, content_type)
        if kind.endswith(("/xml", "+xml")):
            return _xml(payload, content_type)
        if claims := token_claims(payload):
            return claims
        return unfolded(_json(payload, content_type))
    except (ValueError, TypeError, RecursionError, LookupError):
        return None


def text_of(payload: bytes, content_type: str) -> str | None:
    """A payload as text in the characters that it names, or UTF-8; None where it is no such text.

    A byte order mark counts more than what is named, and is left out.
    """
    mark, marked = next((found for found in BOMS if payload.startswith(found[0])), (b"", ""))
    try:
        name = marked or charset(_parameter(content_type, "charset") or "utf-8")
        # "utf-16" wants its mark; the others would keep it
        return payload[0 if name == "utf-16" else len(mark) :].decode(name)
    except (LookupError, ValueError):
        return None


def _json(payload: bytes, content_type: str) -> Any:
    try:
        return parse_payload(payload)
    except UnparsedError as error:
        if "double" not in str(error):
            raise
    except ValueError:
        if not payload.strip():
            return None
    return _lenient(payload, content_type)


def _lenient(payload: bytes, content_type: str) -> Any:
    """What other writers take for JSON: other characters, half a pair of surrogates, NaN, 1e400.

    And line breaks within texts.
    """
    text = text_of(payload, content_type)
    if text is None:
        text = payload.decode("utf-8", "replace")
    if len(text) > limits.elements and text.lstrip()[:1] not in ("{", "["):
        raise ValueError("a long text that is no JSON")
    # counted in what is parsed: the same characters are other bytes elsewhere
    written = text.encode("utf-8", "surrogatepass")
    check_limits(written)
    # lines of a text as they stand, which scripts put between quotes
    value = json.loads(
        text, strict=False, parse_constant=str, parse_float=_finite, parse_int=_short
    )
    if may_be_deep(written):
        check_depth(value)
    return _whole_pairs(value)


def _short(text: str) -> int | str:
    return int(text) if len(text) <= MAX_DIGITS else text


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _whole_pairs(value: Any) -> Any:
    """Half a pair of surrogates is no character: U+FFFD in its place."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {_whole_pairs(name): _whole_pairs(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole_pairs(inner) for inner in value]
    return value


def _form(payload: bytes, content_type: str) -> Any:
    fields: dict[str, str] = {}
    written_in = charset(_parameter(content_type, "charset") or "utf-8")
    for name, value in form_pairs(payload, "replace", written_in):
        fields.setdefault(name, value)
    # of GitHub and Slack, and of Mandrill
    if list(fields) in (["payload"], ["mandrill_events"]):
        return _json(next(iter(fields.values())).encode(), "")
    return fields


def _parts(payload: bytes, content_type: str) -> Any:
    boundary = _parameter(content_type, "boundary")
    if not boundary:
        raise ValueError("no boundary")
    fields: dict[str, Any] = {}
    try:
        size = len(payload) + 1
        # by itself it puts parts of 64 KiB into files of a disk that may be read-only, or full
        parser = multipart.MultipartParser(
            io.BytesIO(payload),
            boundary,
            part_limit=MAX_FORM_FIELDS,
            spool_limit=size,
            memory_limit=size,
        )
        for part in parser:
            if part.filename is not None:
                found: Any = {
                    "filename": part.filename,
                    "size": part.size,
                    "content_type": part.content_type,
                }
            else:
                found = part.raw[:MAX_FIELD_BYTES].decode("utf-8", "replace")
            fields.setdefault(part.name, found)
    except multipart.MultipartError as error:
        raise ValueError(str(error)) from error
    return fields


def _lines(payload: bytes, content_type: str) -> Any:
    check_limits(payload)
    lines = [line for line in payload.split(b"\n", MAX_LINES + 1) if line.strip(b"\x1e \t\r")]
    if len(lines) > MAX_LINES:
        raise UnparsedError(f"more than {MAX_LINES} lines")
    return [_json(line.strip(b"\x1e \t\r"), content_type) for line in lines]


def _xml(payload: bytes, content_type: str) -> Any:
    if len(payload) > MAX_XML_BYTES:
        raise UnparsedError("a long document")
    if not _parameter(content_type, "charset") and (named := _XML_CHARSET.match(payload)):
        content_type = f"text/xml; charset={named[1].decode()}"
    text = text_of(payload, content_type)
    if text is None:
        raise ValueError("not in the characters that it names")
    attributes = text.count('"') // 2 + text.count("'") // 2
    if text.count("<") > 2 * MAX_XML_ELEMENTS or attributes > MAX_XML_ATTRIBUTES:
        raise UnparsedError("a long document")
    if _DECLARED.search(text):
        raise UnparsedError("a document with declarations of its own")
    try:
        # with its encoding given, that which the document names is not looked up
        value = xmltodict.parse(text, encoding="utf-8")
    except Exception as error:
        raise ValueError(str(error)) from error
    check_depth(value)
    return value


def _parameter(content_type: str, name: str) -> str:
    for part in content_type.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return ""
