"""What is typed of quotas, and what is said of a tenant."""

from pathlib import Path

import pytest

from hookstream.app.commands.tenants import (
    lines_of,
    masking_lines,
    parse_quotas,
    quotas_line,
    read_rules,
)
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


def test_rules_are_read_from_a_file_and_shown_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('{"agents": {"email": "mask"}}')
    assert read_rules(str(file)) == {"agents": {"email": "mask"}}
    for text in ("[]", "{", "7"):
        file.write_text(text)
        with pytest.raises(BadRequestError, match="--rules"):
            read_rules(str(file))
    with pytest.raises(BadRequestError, match="no such file"):
        read_rules(str(tmp_path / "no such file"))
    rules = {"agents": {"email": "mask"}, "models": {}, "fields": {"a.b": "drop"}, "keep": "masked"}
    assert masking_lines({"tenant_id": "acme", "masking": rules}) == [
        "acme  keep: masked",
        "of      what   becomes",
        "agents  email  mask",
        "fields  a.b    drop",
    ]
    assert masking_lines({"tenant_id": "acme", "masking": None}) == ["acme  no rules of its own"]
