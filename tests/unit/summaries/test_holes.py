"""What a payload lacks leaves no trace in its line, whatever template it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.summaries.holes import HOLE, without_holes
from hookstream.app.summaries.templates import compile_template


@pytest.mark.parametrize(
    ("made", "line"),
    [
        ("pull request _ by _: _ https://a.b/c", "pull request https://a.b/c"),
        ("a/b#_ opened by ann: _", "a/b opened by ann"),
        ("_/_#_ issue", "issue"),
        ("_/repo issue", "repo issue"),
        ("issue “_” opened", "issue opened"),
        ("comment on “_”: text", "comment: text"),
        ("edited (was _): text", "edited: text"),
        ("incident [_, _] on _", "incident"),
        ("incident [open, _] on api", "incident [open] on api"),
        ("incident [_, high] on api", "incident [high] on api"),
        ("paid: _, order 5", "paid: order 5"),
        ("paid: _ [open]", "paid [open]"),
        ("refused, by visa, _: No money", "refused, by visa: No money"),
        ("one _ → two", "one two"),
        ("main: _ → two; next", "main: two; next"),
        ("x; _: ann@b.c; y", "x; ann@b.c; y"),
        ("see https://a.b/_/orders/5", "see"),
        ("see https://a.b/orders/5?x=_ now", "see now"),
        ("see _/browse/K-5", "see"),
        ("created_ by ann", "created by ann"),
        ("_ by ann", "by ann"),
        ("in the channel _, invited by _", "in the channel"),
        ("lost: 5.00 EUR, reason _ [open], charge _", "lost: 5.00 EUR [open]"),
        ("Status unknown → None by : x", "Status unknown → None by : x"),
    ],
)
def test_a_hole_goes_with_what_leads_to_it(made: str, line: str) -> None:
    assert without_holes(made.replace("_", HOLE)).strip() == line


@given(st.text(alphabet=f"{HOLE} by:,;“”[]()#/→ax", max_size=40))
def test_no_hole_stays_and_nothing_is_added(text: str) -> None:
    line = without_holes(text)
    assert HOLE not in line
    left = iter(text)
    assert all(char in left for char in line)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_a_text_of_a_payload_has_no_hole_in_it(text: str) -> None:
    template = compile_template("*", "by {{ payload.a }}: {{ payload.b | short(80) }}")
    with_hole = template.render({}, {"a": f"x{HOLE}{text}", "b": f"y{text}{HOLE}"}, {})
    assert with_hole == template.render({}, {"a": f"x{text}", "b": f"y{text}"}, {})


@pytest.mark.parametrize("nothing", [None, "", 0, False, [], {}, 7])
def test_what_is_no_list_has_no_items(nothing: object) -> None:
    source = (
        "{% for one in payload.a %}{{ one }}{% endfor %}{{ payload.a | length }}"
        " {{ payload.a | map(attribute='b') | join(', ') }} {{ payload.a[:5] | first }}"
        " {{ payload.a | last }}."
    )
    assert compile_template("*", source).render({}, {"a": nothing}, {}).startswith("0")
