"""How large a body may be, and what large ones may take together."""

import pytest

from hookstream.app.errors import UnavailableError
from hookstream.app.providers import PROVIDERS
from hookstream.app.settings import Settings
from hookstream.app.web.body_limit import LargeBodies, most_bytes

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("setting", "github", "others"), [(5, 25, 5), (1, 1, 1), (10, 25, 10), (64, 64, 64)]
)
def test_a_provider_s_own_limit_counts_unless_less_is_wanted(
    setting: int, github: int, others: int
) -> None:
    settings = Settings(max_body_bytes=setting * MIB)
    assert most_bytes(settings, PROVIDERS["github"]) == github * MIB
    assert most_bytes(settings, PROVIDERS["gitlab"]) == others * MIB


def test_large_bodies_have_a_bound_together_and_ordinary_ones_take_none_of_it() -> None:
    bodies = LargeBodies(Settings(), most=30 * MIB)
    with bodies.room() as one, bodies.room() as two, bodies.room() as three:
        for size in (1, 5, 10, 25):
            one.hold(size * MIB)
        assert one.taken == 20 * MIB
        two.hold(15 * MIB)
        with pytest.raises(UnavailableError, match="send it again"):
            three.hold(6 * MIB)
        three.hold(5 * MIB)
    with bodies.room() as again:
        again.hold(35 * MIB)
