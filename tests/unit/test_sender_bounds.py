"""What a sender can make expensive is listed in docs/bounds.md, and is bounded as it says there."""

import ast
import contextlib
import re
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import orjson
import pytest
import zstandard

from hookstream.app.errors import HookstreamError
from hookstream.app.ingest.events import incoming
from hookstream.app.mcp.untrusted import MAX_RESULT_BYTES, cut, framed
from hookstream.app.providers import PROVIDERS, correlation_keys
from hookstream.app.providers.correlation import MAX_KEY_CHARS, MAX_KEYS, first_keys
from hookstream.app.providers.json_body import look_into
from hookstream.app.providers.lookup import value_at
from hookstream.app.routing.matching import compile_types
from hookstream.app.summaries import text
from hookstream.app.summaries.facts import find_facts
from hookstream.app.summaries.text import plain_text, visible
from hookstream.app.testing import make_event
from hookstream.app.web.body import ASIDE_BYTES, decode_body
from hookstream.codecs.form import FORM
from hookstream.codecs.json_payload import parse_payload
from hookstream.codecs.readable import read_payload
from tests.support.cost import least_cpu
from tests.support.senders import request

ROOT = Path(__file__).parents[2]
#: The default of HOOKSTREAM_MAX_BODY_BYTES.
BODY = 5 * 1024 * 1024
#: Calls that take time with what they are given, by name, and who is meant where others are not.
WATCHED = {
    "ParseDict": "", "is_valid": "", "validate": "_validator", "iter_errors": "",
    "encode_ordinary": "", "decompress": "", "decompressobj": "", "stream_reader": "",
    "Decompressor": "brotli",
    "parse_qs": "", "parse_qsl": "", "a2b_qp": "", "normalize": "unicodedata",
    "root_render_func": "", "execute": "program", "parse": "Parser()", "loads": "",
    "dumps": "", "sub": "", "subn": "", "match": "", "search": "", "findall": "", "fullmatch": "",
    "finditer": "",
}  # fmt: skip
#: What stands in a file that has one of them: to parse all others takes a second.
CALLED = re.compile(rf"\.(?:run|{'|'.join(WATCHED)})\b")
#: Rooms where nothing comes from senders: commands and servers of our own, and their settings.
ELSEWHERE = (
    "app/commands/", "app/embedded/", "app/postgres/migrations/", "app/bounded", "app/testing.py",
    "app/settings.py", "app/logs.py", "app/secret_strength.py", "app/application.py",
    "app/keyring/sources.py",
)  # fmt: skip


def calls(path: Path) -> set[str]:
    """The watched calls in a file; ``run`` is one of a BoundedPool."""
    found: set[str] = set()
    source = path.read_text()
    if not CALLED.search(source):
        return found
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        if name == "run" and {keyword.arg for keyword in node.keywords} == {"seconds"}:
            found.add("run")
        elif name in WATCHED:
            whose = ast.unparse(node.func.value)
            if WATCHED[name] in whose and whose not in ("self._events", "pickle"):
                found.add(name)
    return found


def documented() -> dict[str, set[str]]:
    """Files and their calls, by the first column of the tables in docs/bounds.md."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "bounds.md").read_text().splitlines():
        if line.startswith("| `"):
            for path, names in re.findall(r"`([\w/]+\.py)` \(([\w, ]+)\)", line.split("|")[1]):
                found.setdefault(path, set()).update(names.split(", "))
    return found


def test_every_place_that_works_on_what_senders_send_has_its_reason_in_the_docs() -> None:
    found = {}
    for room in ("agents", "app", "codecs", "tables"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith(ELSEWHERE) and (known := calls(path)):
                found[name] = known
    assert found == documented(), "docs/bounds.md, 'Where a sender's data is worked on'"
    pooled = {name for name, known in found.items() if "run" in known}
    assert pooled == {
        "app/routing/condition_judge.py",
        "app/routing/ner.py",
        "app/routing/payload_check.py",
    }


def pieces(name: str, body: bytes) -> int:
    return len(incoming(request({}, body), PROVIDERS[name], 5000).requests)


WORST: dict[str, Callable[[], Any]] = {
    "texts": lambda: parse_payload(b"[" + b'"",' * (BODY // 3 - 2) + b"1]"),
    "escaped texts": lambda: parse_payload(b"[" + b'"\\"",' * 390_000 + b"1]"),
    "separators in a text": lambda: parse_payload(b'["' + b",[{" * (BODY // 3 - 2) + b'"]'),
    "escapes": lambda: parse_payload(b'["' + b"\\u00e9" * (BODY // 6 - 2) + b'"]'),
    "floats": lambda: parse_payload(b"[" + b",".join([b"1." + b"1" * 100] * 48_000) + b"]"),
    "names": lambda: parse_payload(
        b"{" + b",".join(b'"%d%s":1' % (n, b"a" * 90) for n in range(48_000)) + b"}"
    ),
    "look into": lambda: value_at(look_into(b'{"' + b'a":1,"' * 9_000 + b'":1}'), "b.c"),
    "form of escapes": lambda: read_payload(b"a=" + b"%41" * (BODY // 3 - 2), FORM),
    "form of %": lambda: read_payload(b"a=" + b"%" * (BODY - 2), FORM),
    "form of fields": lambda: read_payload(b"&".join([b"a"] * 1000) + b"a" * 5_000_000, FORM),
    "inflated here": lambda: decode_body(
        zlib.compress(b" " * BODY, 9)[:ASIDE_BYTES], "deflate", BODY
    ),
    "zstd frames here": lambda: decode_body(
        zstandard.compress(b" " * 100_000) * (ASIDE_BYTES // 25), "zstd", BODY
    ),
    "Brotli here": lambda: decode_body(brotli.compress(b" " * BODY)[:ASIDE_BYTES], "br", BODY),
    "no strict JSON": lambda: read_payload(b"[NaN" + b',"\\ud83d"' * 99_990 + b"]", ""),
    "XML": lambda: read_payload(b"<a>" + b"<b c='d'/>" * 9_990 + b"</a>", "text/xml"),
    "parts": lambda: read_payload(
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n" * 1000 + b"x" * 4_900_000,
        "multipart/form-data; boundary=b",
    ),
    "lines": lambda: read_payload(b'{"a":1}\n' * 9_990, "application/x-ndjson"),
    "batch of texts": lambda: pieces(
        "sendgrid", b"[" + b",".join([b'"%s"' % (b"x" * 1040)] * 4990) + b"]"
    ),
    "batch of lists": lambda: pieces("hubspot", b"[" + b",".join([b"[[],[],[]]"] * 70_000) + b"]"),
    "batch of one large list": lambda: pieces(
        "auth0", b"[[" + b",".join([b"{}"] * 190_000) + b"]]"
    ),
    "batch within much": lambda: pieces(
        "meta",
        orjson.dumps({"object": "x" * 1500, "entry": [{"changes": [1]} for _ in range(5000)]}),
    ),
    "batch of more than is looked at": lambda: pieces(
        "okta", b'{"data":{"events":[' + b"{}," * 1_700_000 + b"{}]}}"
    ),
    "JSON within JSON": lambda: read_payload(
        orjson.dumps({"TopicArn": "a", "MessageId": "b", "Message": "[" + "{}," * 33_000 + "1]"}),
        "",
    ),
    "base64 within JSON": lambda: read_payload(
        orjson.dumps({"subscription": "a", "message": {"data": "WzEs" * (BODY // 4 - 20)}}), ""
    ),
    "a token": lambda: read_payload(b"eyJ." + b"W3" * (BODY // 2 - 10) + b".", "text/plain"),
    "no token": lambda: read_payload(b"eyJ" + b"a" * (BODY - 10), "text/plain"),
    "facts": lambda: find_facts({"title": "\u0301\u0316" * BODY, "sender": {"login": "a" * BODY}}),
    "globs": lambda: compile_types(["*a" * 60 + "*b", "*?" * 60 + "x"]).matches("a" * 10_000),
    "MCP": lambda: framed(cut({"payload": ["\u0301\u0316" * 1300, "e\u200d" * 4000, [[]] * 9000]})),
    "brackets over MCP": lambda: framed(cut({"payload": "](" * 16_000})),
    "a long host over MCP": lambda: framed(cut({"payload": "https://" + "a." * 16_000})),
    "brackets in a summary": lambda: [plain_text("](" * 2000, 1000) for _ in range(20)],
    "written back": lambda: orjson.dumps({"payload": [{"a": 'é"\n'}] * 33_000}),
}


@pytest.mark.parametrize("kind", WORST)
def test_the_worst_that_is_done_on_the_event_loop_is_short(kind: str) -> None:
    def work() -> None:
        # what is refused is, quickly
        with contextlib.suppress(ValueError, HookstreamError):
            WORST[kind]()

    # alone on the machine these are below 0.1 s; without their bounds they were 1 to 4 s, or none
    assert least_cpu(work, 0.6) < 0.6


@pytest.mark.parametrize("where", ["repository.full_name", "pull_request.title", "after"])
def test_correlation_keys_are_short_and_few(where: str) -> None:
    payload: dict[str, Any] = {"repository": {"full_name": "a/b"}, "pull_request": {"number": 1}}
    at, name = where.rsplit(".", 1) if "." in where else ("", where)
    (payload[at] if at else payload)[name] = "ABC-1 DEF-2 " * 400_000
    event = make_event(payload, provider="github")
    event.data()
    keys = correlation_keys(event)
    assert least_cpu(lambda: correlation_keys(event), 0.2) < 0.2
    assert len(keys) <= MAX_KEYS
    assert all(len(key) <= MAX_KEY_CHARS for key in keys)
    assert len(first_keys(f"k{n}" for n in range(100))) == MAX_KEYS


def test_marks_are_few_before_they_are_put_into_order(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(unicodedata, name)

        def normalize(self, form: str, given: str) -> str:
            run = 0
            for char in given:
                run = run + 1 if unicodedata.combining(char) else 0
                runs.append(run)
            return unicodedata.normalize(form, given)

    monkeypatch.setattr(text, "unicodedata", Watched())
    assert visible("e" + "\u0301\u0316" * (MAX_RESULT_BYTES // 4)) == "é\u0316" + "\u0316" * 2
    assert plain_text("e" + "\u0301\u0316" * 4000, 200).startswith("é")
    # to order n marks takes n² steps
    assert 0 < max(runs) <= 30
