"""Text in the formats of those who send it, as the words in it: what templates' filters do.

Each function is given a text cut to some thousand characters, and takes time in line with it.
"""

import html
import re
from typing import Any, Final

__all__ = [
    "MAX_DOCUMENT_NODES",
    "first_address",
    "first_sentences",
    "text_of_chat",
    "text_of_document",
    "text_of_html",
    "without_notified",
]

#: Parts of a document that are looked at, and how much is made of them.
MAX_DOCUMENT_NODES: Final = 500
MAX_DOCUMENT_CHARS: Final = 1000

#: Tags of HTML inside words, other tags and comments, and what parts words.
_INLINE = re.compile(r"</?(?:a|at|b|code|em|i|mark|s|small|span|strong|u)(?:\s[^<>]{0,1000})?>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>|<!--[^<>]{0,1000}-->")
_SPACES = re.compile(r"[ \t\r\n\f\v]+")

#: ``<@U1|ann>``, ``<#C1|general>``, ``<!here>``, ``<https://…|text>`` of Slack; ``<@&1>`` and
#: ``<:name:1>`` of Discord.
_REFERENCE = re.compile(r"<(@[&!]?|[#!]|a?:)?([^<>|\n]{1,500})(?:\|([^<>\n]{0,500}))?>")

#: Of Jira's wiki: ``[~ann]``, ``[text|https://…]``, ``{color:red}``, ``h2.``, ``!picture.png!``.
_WIKI_USER = re.compile(r"\[~(?:accountid:)?([^\[\]\n]{1,100})\]")
_WIKI_LINK = re.compile(r"\[([^\[\]|\n]{1,200})\|([^\[\]|\n]{1,500})(?:\|[^\[\]|\n]{0,50})?\]")
_WIKI_MACRO = re.compile(
    r"\{(?:code|noformat|quote|color|panel|adf)(?:[:=][^{}\n]{0,200})?\}", re.IGNORECASE
)
_WIKI_START = re.compile(r"^(?:h[1-6]\.|bq\.|[*#-]{1,3}) +", re.MULTILINE)
_WIKI_PICTURE = re.compile(r"!([^!\s|]{1,200}\.\w{2,5})(?:\|[^!\n]{0,200})?!")

#: Of Markdown: pictures, links, tags, and lines that say nothing by themselves.
_PICTURE = re.compile(r"!\[([^\[\]\n]{0,200})\](?:\([^()\n]{0,500}\)|\[[^\[\]\n]{0,100}\])")
_LINK = re.compile(r"(?<!!)\[([^\[\]\n]{1,200})\]\((?:https?:|/|#|mailto:)[^()\s]{0,500}\)")
_HTML = re.compile(
    r"</?(?:a|b|blockquote|body|br|center|code|del|details|div|em|font|h[1-6]|head|hr|html|i|img|kbd|li|ol|p|pre"
    r"|s|samp|small|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|u|ul)"
    r"(?:\s[^<>]{0,500})?/?>",
    re.IGNORECASE,
)
_SILENT = re.compile(r"\s*(?:%%%|```\w*|~~~\w*|[-*_=]{3,}|\|[-:| ]+\|?)?\s*")
_LINE_START = re.compile(r"^\s*(?:#{1,6} |[-*+] (?:\[[ xX]\] )?)")
_BOLD = re.compile(r"(\*\*|__)([^\s*_][^\n]{0,300}?)\1")
#: Where a sentence ends.
_END = re.compile(r"[.!?…](?=\s)|[。！？]")
#: A paragraph of fewer characters is a greeting: what follows it is told, too.
_GREETING = 20

_ADDRESS = re.compile(r"https://[^\s<>\"'\\^`{}|()\[\]]{1,500}")
#: Whom Datadog tells: ``@webhook-x``, ``@slack-acme-ops``, ``@ann@acme.com``.
_NOTIFIED = re.compile(r"(?<![^\s(])@[\w.@+-]{1,100}[^\S\n]?")


def text_of_html(text: str) -> str:
    """HTML without its tags, its entities as the characters they stand for."""
    text = _TAG.sub(" ", _INLINE.sub("", text))
    return _SPACES.sub(" ", html.unescape(text).replace("\xa0", " ")).strip()


def text_of_chat(text: str) -> str:
    """A message of Slack or Discord: who and what it refers to by name, where it has one.

    Source: https://docs.slack.dev/messaging/formatting-message-text.
    """
    return html.unescape(_REFERENCE.sub(_referred, text))


def _referred(found: "re.Match[str]") -> str:
    kind, target, label = found[1] or "", found[2], found[3] or ""
    match kind.strip("&a"):
        case "@" | "@!" | "#":
            return kind[0] + (label.lstrip("@#") or target)
        case "!":
            # <!here>, <!subteam^S1|@ops>, <!date^0^{date}|then>
            name, caret, _ = target.partition("^")
            return (label if caret else f"@{label or name}") or f"@{name}"
        case ":":
            return f":{target.partition(':')[0]}:"
    if ":" not in target:
        return found[0]
    target = target.removeprefix("mailto:")
    return f"{label} ({target})" if label and label not in target else target


def text_of_document(value: Any) -> str:
    """The text of a document in Atlassian's format, or of a text in the markup of Jira's wiki.

    Source: https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/.
    """
    if isinstance(value, str):
        return _text_of_wiki(value)
    words: list[str] = []
    waiting: list[Any] = [value]
    for _ in range(MAX_DOCUMENT_NODES):
        if not waiting:
            break
        node = waiting.pop()
        if isinstance(node, dict):
            words.append(_words_of(node)[:MAX_DOCUMENT_CHARS])
            inner = node.get("content")
            waiting.extend(reversed(inner[:MAX_DOCUMENT_NODES] if isinstance(inner, list) else []))
    return " ".join(" ".join(words).split())[:MAX_DOCUMENT_CHARS]


def _words_of(node: dict[str, Any]) -> str:
    """What a node says by itself: text, a mention, an emoji, a date's card."""
    attributes = node.get("attrs")
    found = node.get("text")
    if not found and isinstance(attributes, dict):
        found = attributes.get("text") or attributes.get("url") or attributes.get("shortName")
    return found if isinstance(found, str) else ""


def _text_of_wiki(text: str) -> str:
    if not any(mark in text for mark in "[{!.*#-"):
        return text
    text = _WIKI_MACRO.sub(" ", _WIKI_LINK.sub(r"\1", _WIKI_USER.sub(r"@\1", text)))
    return _WIKI_PICTURE.sub(r"\1", _WIKI_START.sub("", text))


def without_notified(text: str) -> str:
    """A text of Datadog's without those whom it is sent to."""
    return _NOTIFIED.sub("", text)


def first_address(text: str) -> str:
    """The first address in a text that is not a picture's; "" where there is none."""
    found = _ADDRESS.search(_PICTURE.sub(" ", text))
    return found[0].rstrip(".,;:!?") if found else ""


def first_sentences(text: str, limit: int) -> str:
    """The beginning of a text, in Markdown or not, in at most ``limit`` characters.

    Without comments, pictures, tags, quotations and rules; whole sentences where they fit, else
    whole words. A greeting is followed by what comes next.
    """
    text = _PICTURE.sub("", _without_comments(text))
    text = _BOLD.sub(r"\2", _HTML.sub(" ", _INLINE.sub("", _LINK.sub(r"\1", text))))
    said = ""
    for line in text.splitlines():
        if _SILENT.fullmatch(line) or line.lstrip().startswith((">", "&gt;")):
            if len(said) >= _GREETING:
                break
            continue
        said = f"{said} {_LINE_START.sub('', line, count=1).strip()}".strip()
        if len(said) > limit:
            break
    said = _SPACES.sub(" ", html.unescape(said))
    return said if len(said) <= limit else _cut(said, limit)


def _without_comments(text: str) -> str:
    """Without ``<!-- … -->``, in one pass: a pattern would look ahead from each beginning."""
    first, *rest = text.split("<!--")
    return " ".join((first, *(part.partition("-->")[2] for part in rest if "-->" in part)))


def _cut(text: str, limit: int) -> str:
    ends = [end.end() for end in _END.finditer(text, 0, limit + 1) if end.end() <= limit]
    if ends and ends[-1] >= limit // 3:
        return text[: ends[-1]]
    words, space, _ = text[:limit].rpartition(" ")
    if not space or len(words) < limit // 2:
        words = text[: limit - 1]
    return words.rstrip(" ,;:–—-") + "…"
