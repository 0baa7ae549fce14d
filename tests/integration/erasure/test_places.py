"""Erasing a person: nothing is left in any byte, also after an older copy was restored."""

from pathlib import Path

import pytest

from tests.integration.erasure.places import RESTORES, WANTED, run, table


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
async def test_a_person_is_gone_from_every_place_and_stays_away(
    tmp_path: Path, sealed: bool
) -> None:
    house = await run(tmp_path, sealed=sealed, restores=() if sealed else RESTORES)
    told = "\n".join(table(house))
    assert all(house.planted[place] for place in WANTED), told
    assert house.receipt["status"] == "done", told
    assert not house.left, told
    assert not house.again, told
    # also where the database had never heard of it
    assert set(house.statuses) == {"done"}, house.statuses
    assert not house.clear, told
    assert house.came_again == 0
    # numbers go on without a hole
    assert [seq for seq, _ in house.feed] == list(range(1, len(house.feed) + 1))
    assert {kind for _, kind in house.feed} == {"erased"}
    assert all(row["left"] == 0 for row in house.receipt["places"]), told
