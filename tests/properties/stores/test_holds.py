"""Holds, searched: who asks for more is refused more, and never by another tenant's."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.stores.holds import Hold, hold_against

names = st.sampled_from(["", "a", "b"])
ids = st.integers(0, 5).map(lambda n: UUID(int=n))


@st.composite
def spans(draw: st.DrawFn) -> tuple[UUID, UUID]:
    one, other = draw(ids), draw(ids)
    return min(one, other), max(one, other)


@st.composite
def holds(draw: st.DrawFn) -> Hold:
    first, last = draw(spans())
    tenant = draw(st.sampled_from(["x", "y"]))
    return Hold("h", tenant, draw(names), draw(names), first, last)


@given(st.lists(holds(), max_size=4), names, names, spans())
def test_who_asks_for_less_is_never_refused_more(
    some: list[Hold], tool: str, context: str, span: tuple[UUID, UUID]
) -> None:
    narrow = hold_against(some, "x", tool_id=tool, context_id=context, events=span)
    wide = hold_against(some, "x")
    assert narrow is None or wide is not None
    assert narrow is None or narrow.tenant == "x"
    if narrow is not None:
        assert narrow.first_event <= span[1]
        assert narrow.last_event >= span[0]
        assert narrow.tool_id in ("", tool) or not tool
