"""Templates made to stop a process: refused with a sentence, or quick, however they are meant."""

import contextlib
import sys
from typing import Any

import pytest
from jinja2.exceptions import TemplateRuntimeError

from hookstream.app.errors import BadRequestError
from hookstream.app.summaries.templates import (
    MAX_ITEMS,
    MAX_STEPS,
    TemplateBook,
    builtin_templates,
    compile_template,
)
from tests.support.cost import least_cpu

MANY = {
    "a": list(range(1000)),
    "b": list(range(2000, 90_000)),
    "text": "é " * 100_000,
    "hidden": "\u200d" * 100_000,
    "deep": [[1]] * 40_000,
    "same": [[1]] * 40_000,
    "name": "](\u200d<x" * 12,
    "names": ["](\u200d<x" * 12] * 20,
    "document": {"content": [{"text": "a" * 60, "content": [{}] * 150} for _ in range(500)]},
}
#: Each of them took 1 to 44 s.
LONG = {
    "in": "{% if a in payload.b %}{% endif %}" * 20,
    "filtered": "",
    "sort": "{% if payload.a | sort | first == 9 %}{% endif %}" * 30,
    "hidden": "{{ payload.hidden }}" * 90,
    "title": "{% if payload.text | title == 1 %}{% endif %}" * 60,
    "equal": "{% if payload.deep == payload.same %}{% endif %}" * 60,
    "test": "{% if payload.deep is eq(payload.same) %}{% endif %}" * 60,
    "unequal": "{% if payload.deep is ne(payload.same) %}{% endif %}" * 60,
    "within": "{% if payload.text in payload.text %}{% endif %}" * 60,
    "slice": "{% if payload.b[1:80000] | first == 1 %}{% endif %}" * 30,
    "look-ups": "{% if payload.x.y.z %}{% endif %}" * 60,
    "join": "{% if payload.names | join == 1 %}{% endif %}" * 60,
    "short": "{% if payload.name | short == 1 %}{% endif %}" * 60,
    "document": "{% if payload.document | document == 1 %}{% endif %}" * 60,
}
REFUSED = {
    "not": "{{ " + "not " * 478 + "1 }}",
    "minus": "{{ " + "-" * 3000 + "1 }}",
    "attributes": "{{ payload" + ".a" * 2000 + " }}",
    "filters": "{{ 'a'" + "|upper" * 600 + " }}",
    "parentheses": "{{ " + "(" * 1000 + "1" + ")" * 1000 + " }}",
    "lists": "{{ " + "[" * 900 + "]" * 900 + " }}",
    "ifs": "{% if 1 %}" * 150 + "{% endif %}" * 150,
    "nodes": "{{1}}" * 800,
    "number": "{{ " + "9" * 4000 + " }}",
    "round": "{{ 1 | round(4000000, 'ceil') }}",
    "range": "{% for x in range(10000000) %}{{ x }}{% endfor %}",
    "product": "{{ 'x' * 1000000000 }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "center": "{{ 'x' | center(1000000000) }}",
    "macro": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "recursive": "{% for x in payload recursive %}{{ loop(x) }}{% endfor %}",
    "inner": "{{ payload | _concat }}",
    "inner for each": "{% if payload.l | map('_concat') | first == 1 %}{% endif %}",
    "map for each": "{{ payload.l | map('map', 'upper') | join }}",
    "filter of the payload's": "{{ payload.l | map(payload.filter) | join }}",
    "arguments of the payload's": "{{ payload.l | map(*payload.filters) | join }}",
    "names of arguments": "{{ payload.l | sort(**payload.options) | join }}",
    "test of the payload's": "{{ payload.l is eq(*payload.l) }}",
    "long path": "{{ payload.l | map(attribute='" + "a." * 1500 + "a') | join }}",
    "many paths": "{{ payload.l | sort(false, false, '" + "a," * 1500 + "a') | join }}",
    "path to select by": "{{ payload.l | selectattr('" + "a." * 1500 + "a') | join }}",
    "path of the payload's": "{{ payload.l | unique(attribute=payload.path) | join }}",
}
BIG = "ab" * 1_000_000
PAYLOAD: dict[str, Any] = {
    "text": BIG,
    "number": 4_000_000,
    "list": list(range(500_000)),
    "texts": [BIG] * 900,
    "object": {str(number): number for number in range(100_000)},
}
QUICK = {
    "concat": "{{ " + "~".join(["payload.text"] * 250) + " }}",
    "objects": "{{ " + "~".join(["payload.object"] * 250) + " }}",
    "plus": "{{ " + "+".join(["payload.text"] * 30) + " }}",
    "replace": "{{ payload.text | replace('', payload.text) | replace('a', payload.text) }}",
    "texts": "{{ payload.text" + "| title | upper | trim | string | capitalize" * 6 + " }}",
    "short": "{{ payload.text | short(1000000000) }}",
    "shown": "{% for x in payload.list %}{{ x }},{% endfor %}",
    "silent": "{% for x in payload.list %}{% if x == -1 %}x{% endif %}{% endfor %}",
    "length": "{% for x in payload.list %}{{ loop.length }}{% endfor %}",
    "sort": "{{ payload.list | sort | join(',') }}{{ payload.object | sort | first }}",
    "map": "{% for x in payload.texts | map('title') %}{{ x | short(1) }}{% endfor %}",
    "unique": "{{ payload.list | unique | sort | join }}",
    "round": "{{ 1 | round(payload.number) }}",
    "int": "{{ payload.text | int }}{{ payload.number | int }}",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_expensive_template_is_refused_with_a_sentence(kind: str) -> None:
    def refused() -> None:
        with pytest.raises(BadRequestError, match="template "):
            compile_template("*", REFUSED[kind])

    assert least_cpu(refused, 0.5) < 0.5


@pytest.mark.parametrize("kind", QUICK)
def test_accepted_template_is_quick_on_any_payload(kind: str) -> None:
    template = compile_template("*", QUICK[kind])

    def rendered() -> None:
        # where it fails, the plain summary stands in, and it is counted
        with contextlib.suppress(Exception):
            assert len(template.render({}, PAYLOAD, {})) <= 1000

    assert least_cpu(rendered, 0.2) < 0.2


def test_what_is_accepted_does_not_depend_on_how_deep_the_caller_is() -> None:
    deepest = "{{ " + "not " * 36 + "1 }}" + "{{ " + "(" * 10 + "1" + ")" * 10 + " }}"

    def deep(levels: int) -> str:
        if levels:
            return deep(levels - 1)
        return compile_template("*", deepest).render({}, {}, {})

    assert deep(sys.getrecursionlimit() - 600) == "yes1"


def test_a_source_is_compiled_once() -> None:
    source = "{{ payload.once }}"
    assert compile_template("a", source).program() is compile_template("b", source).program()


def test_lists_are_seen_up_to_a_bound() -> None:
    template = compile_template("*", "{% for x in payload.l if x == 'y' %}{{ x }}{% endfor %}")
    assert template.render({}, {"l": ["x"] * (MAX_ITEMS - 1) + ["y"]}, {}) == "y"
    with pytest.raises(Exception, match="more than 1000 items"):
        template.render({}, {"l": ["x"] * MAX_ITEMS + ["y"]}, {})


def test_texts_and_numbers_are_joined_as_before() -> None:
    source = "{{ payload.a ~ 1 ~ ' ' ~ (2 ~ payload.b) }} {{ 'a' + payload.a }} {{ 1 + 2 }}"
    assert compile_template("*", source).render({}, {"a": "x"}, {}) == "x1 2 ax 3"
    source = (
        "{{ 2.567 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ '7' | int }} {{ 'x' | int(3) }}"
    )
    assert compile_template("*", source).render({}, {}, {}) == "2.57 3.0 7 3"


def test_builtin_templates_are_within_the_bounds() -> None:
    book = builtin_templates()
    assert isinstance(book, TemplateBook)
    for _, template in book.all():
        template.program()


@pytest.mark.parametrize("kind", LONG)
def test_a_rendering_has_so_many_steps(kind: str) -> None:
    each = "payload.a if a in payload.b" if kind == "filtered" else "payload.a"
    source = f"{{% for a in {each} %}}{LONG[kind]}{{% endfor %}}"
    template = compile_template("*", source)

    def cut_off() -> None:
        with pytest.raises(TemplateRuntimeError, match=f"more than {MAX_STEPS} steps"):
            template.render({"type": "x"}, MANY, {})

    assert least_cpu(cut_off, 0.5) < 0.5


def test_steps_are_enough_for_a_summary_of_a_hundred_things() -> None:
    source = (
        "{% for c in payload.commits if c.author.name in payload.known %}"
        "{% if c.text is string %}{{ c.text | short(80) }} by {{ c.author.name }}, {% endif %}"
        "{% endfor %}"
    )
    commits = [{"text": f"Fix {n} é", "author": {"name": f"n{n % 9}"}} for n in range(100)]
    payload = {"commits": commits, "known": [f"n{n}" for n in range(20)]}
    template = compile_template("*", source)
    said = template.render({}, payload, {})
    assert said.startswith("Fix 0 é by n0, Fix 1 é by n1")
    # and the next one has its own
    assert template.render({}, payload, {}) == said
