"""The ledger finds each kind of broken promise: a check that has never failed proves nothing."""

import json

import pytest

from tests.chaos.ledger import Figures, Ledger


def ledger(*frames: tuple[int, str], accepted: int = 3) -> Ledger:
    """Numbers 0, 1, 2 were accepted as events e0, e1, e2; the client saw ``frames``."""
    made = Ledger()
    for number in range(accepted):
        made.accept("s", number, f"e{number}")
    for seq, event_id in frames:
        made.frame("s", json.dumps({"seq": seq, "event_id": event_id}))
    return made


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        pytest.param([(1, "e0"), (2, "e1"), (3, "e2")], Figures(3), id="whole"),
        pytest.param([(1, "e0"), (2, "e2")], Figures(3, lost=1), id="lost"),
        pytest.param(
            [(1, "e0"), (2, "e1"), (3, "e1"), (4, "e2")], Figures(3, doubled=1), id="doubled"
        ),
        pytest.param(
            [(1, "e0"), (2, "e2"), (3, "e1")], Figures(3, out_of_order=1), id="out of order"
        ),
        pytest.param([(1, "e0"), (3, "e1"), (4, "e2")], Figures(3, gaps=2), id="gap"),
        # e1's answer was lost and it was sent again: what is delivered has another id
        pytest.param([(1, "e0"), (2, "x1"), (3, "e2")], Figures(3), id="copy"),
    ],
)
async def test_ledger_finds_what_is_broken(frames: list[tuple[int, str]], wanted: Figures) -> None:
    async def number_of(source: str, event_id: str) -> int:
        assert source == "s"
        return int(event_id[1:])

    assert await ledger(*frames).check(number_of) == wanted


async def test_ledger_finds_what_is_another_tenants() -> None:
    made = ledger((1, "e0"), (2, "a1"), (3, "e1"), (4, "a2"), (5, "e2"))
    for number in range(3):
        # of the same number, and so of the same bytes
        made.accept("acme/s", number, f"a{number}")
        made.frame("acme/s", json.dumps({"seq": number + 1, "event_id": f"a{number}"}))
    asked = []

    async def number_of(source: str, event_id: str) -> int | None:
        asked.append((source, event_id))
        return None

    assert await made.check(number_of) == Figures(6, foreign=2)
    assert asked == []
    # one whose answer was lost: the source's tenant is asked for it, and has none
    made.frame("acme/s", json.dumps({"seq": 4, "event_id": "e9"}))
    figures = await made.check(number_of)
    assert (figures, figures.broken) == (Figures(6, foreign=3), 3)
    assert asked == [("acme/s", "e9")]
