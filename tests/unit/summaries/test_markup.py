"""Text in senders' formats becomes the words in it, in little time whatever it is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hookstream.app.summaries.markup import (
    first_address,
    first_sentences,
    text_of_chat,
    text_of_document,
    text_of_html,
    without_notified,
)
from tests.support.cost import least_cpu


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<@U123>, see <#C1|general>", "@U123, see #general"),
        ("<@U123|ann> &lt;3", "@ann <3"),
        ("<!here> <!subteam^S1|@ops> <!date^1^{date}|today> <!channel|channel>", None),
        ("<https://github.com/acme/app|the app>", "the app (https://github.com/acme/app)"),
        ("<https://github.com>", "https://github.com"),
        ("<mailto:ann@example.com|ann@example.com>", "ann@example.com"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("<@&77> <@!5> <:tada:123> <a:wave:9>", "@77 @5 :tada: :wave:"),
    ],
)
def test_references_of_chats_are_told_by_name(text: str, said: str | None) -> None:
    found = text_of_chat(text)
    assert found == (said or "@here @ops today @channel")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hi,\n\nthe disk is full. It is db-2.", "Hi, the disk is full. It is db-2."),
        ("The disk of db-2 is full.\n\nMore below.", "The disk of db-2 is full."),
        ("<!-- what -->\n## Why\n\n> quoted\n- [x] It **broke** [here](https://a.b/c)", None),
        ("![x](https://a.b/c.png) Look", "Look"),
        ("%%%\nCPU is high\n%%%", "CPU is high"),
        ("a - b - c", "a - b - c"),
        ("", ""),
        ("x" * 300, "x" * 59 + "…"),
        ("One sentence that is short. " + "word " * 40, "One sentence that is short."),
        ("word " * 40, "word " * 11 + "word…"),
    ],
)
def test_beginning_of_a_text_is_told_in_sentences(text: str, said: str | None) -> None:
    assert first_sentences(text, 60) == ("Why It broke here" if said is None else said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("plain", "plain"),
        ("h2. Why\n* see [the app|https://a.b] and [~ann]", "Why\nsee the app and @ann"),
        ("{code:java}x{code} !shot.png|thumbnail! {color:red}red{color}", " x  shot.png  red "),
        (
            {
                "type": "doc",
                "content": [
                    {"type": "paragraph", "content": [
                        {"type": "text", "text": "Ask"},
                        {"type": "mention", "attrs": {"id": "1", "text": "@Ann"}},
                    ]},
                    {"type": "emoji", "attrs": {"shortName": ":x:"}},
                ],
            },
            "Ask @Ann :x:",
        ),
    ],
)  # fmt: skip
def test_documents_and_wiki_markup_are_told_as_text(value: Any, said: str) -> None:
    assert text_of_document(value) == said


def test_whom_a_text_is_sent_to_is_left_out() -> None:
    text = "@webhook-x @slack-acme-ops CPU over 90% (mail ann@example.com)\n@ann@acme.com Look"
    assert without_notified(text) == "CPU over 90% (mail ann@example.com)\nLook"


def test_first_address_is_no_picture() -> None:
    text = "![a](https://a.b/c.png) see [it](https://app.datadoghq.com/monitors/5?a=1), or not"
    assert first_address(text) == "https://app.datadoghq.com/monitors/5?a=1"
    assert first_address("none") == ""


WORST = ["<" * 4000, "<!--" * 1000, "![" * 2000, "[a](" * 1000, "**a" * 1300, "{code:" * 600]
WORST += ["!a.b" * 1000, "[a|" * 1300, "<a " * 1300, "@a" * 2000, "https://" * 500, "\n" * 4000]
WORST += ["<@" * 2000, "#" * 4000, "- [ ] " * 600, "[~" * 2000, "__" * 2000, "a.b! " * 800]


@pytest.mark.parametrize("text", WORST)
def test_no_text_takes_long(text: str) -> None:
    each: list[Callable[[str], object]] = [
        *(text_of_html, text_of_chat, text_of_document, without_notified, first_address),
        lambda text: first_sentences(text, 160),
    ]
    for function in each:
        assert least_cpu(partial(function, text), 0.1) < 0.1
