"""What is typed of quotas, and what is said of a tenant."""

import pytest

from hookstream.app.commands.tenants import lines_of, parse_quotas, quotas_line
from hookstream.app.errors import BadRequestError


def test_quotas_are_numbers_or_taken_away() -> None:
    assert parse_quotas(["tools=20", "events_per_second=1.5", "keys="]) == {
        "tools": 20,
        "events_per_second": 1.5,
        "keys": None,
    }
    assert quotas_line({"tools": 20, "events_per_second": 1.5}) == "events_per_second=1.5 tools=20"
    for wrong in ("tols=1", "tools", "tools=x"):
        with pytest.raises(BadRequestError, match=wrong):
            parse_quotas([wrong])


def test_a_deletion_says_how_far_it_is() -> None:
    deletion = {
        "step": "streams",
        "deleted": {"events": 3, "keys": 1},
        "passes": 1,
        "error": "held by case-7: release it first",
        "asked_at": "",
        "finished_at": None,
    }
    found = {
        "tenant_id": "acme",
        "name": "",
        "state": "deleting",
        "reason": "",
        "quotas": {},
        "deletion": deletion,
    }
    told = "\n".join(lines_of(found))
    assert "streams: 3 events, 1 keys; held by case-7" in told
