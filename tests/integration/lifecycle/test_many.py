"""Many events through all tiers, at a size for every run of the tests."""

from pathlib import Path
from typing import Any

from hookstream.app.stores.tiers import GONE
from tests.integration.lifecycle.many import Many
from tests.integration.lifecycle.test_cold import cold_house


async def test_each_of_many_events_is_found_in_every_tier_by_a_clock(
    redis_client: Any, postgres_url: str, tmp_path: Path
) -> None:
    """A million of them: ``python -m tests.integration.lifecycle.many``."""
    async with cold_house(redis_client, postgres_url, tmp_path / "archive") as house:
        many = Many(house, 1500, steps=15)
        await many.through()
    assert many.found[GONE] == many.count == 1500
