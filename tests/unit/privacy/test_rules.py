"""Rules of a tool and of its tenant together: which counts, and what makes no sense."""

from typing import Any

import pytest

from hookstream.app.privacy.rules import (
    AGENTS,
    HIDDEN_FROM_ALL,
    MASKED,
    MODELS,
    ORIGINAL,
    Rules,
)
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.catalog_rows import Rows
from hookstream.app.stores.catalog_state import build
from tests.unit.stores.test_catalog_changes import understands


def test_a_kind_is_the_tools_as_soon_as_any_of_its_names_fits() -> None:
    tenant = Rules.from_dict(
        {
            "agents": {"email": "drop", "secret.aws": "block", "phone": "mask", "card": "pass"},
            "models": {"ip": "mask"},
        }
    )
    tool = Rules.from_dict({"agents": {"email": "pseudonym", "secret": "pass"}})
    both = tool.before(tenant).actions(AGENTS)
    assert both["email"] == "pseudonym"
    assert "secret.aws" not in both, "the tool's family counts before its tenant's kind"
    assert both["phone"] == "mask", "the tool says nothing of it"
    assert "card" not in both, "what comes along stands behind the tenant's"
    assert both["iban"] == "mask"
    assert tool.before(tenant).actions(MODELS) == {"ip": "mask"}
    every = Rules.from_dict({"agents": {"*": "pass"}}).before(tenant)
    assert every.actions(AGENTS) == {}


def test_paths_are_those_of_both_and_of_the_same_path_the_tools() -> None:
    tenant = Rules.from_dict({"fields": {"a.b": "drop", "c": "mask"}})
    both = Rules.from_dict({"fields": {"c": "pass", "d": "mask"}}).before(tenant)
    assert both.fields == {"a.b": "drop", "c": "pass", "d": "mask"}


@pytest.mark.parametrize(
    ("tool", "tenant", "kept"),
    [
        (ORIGINAL, ORIGINAL, ORIGINAL),
        (MASKED, ORIGINAL, MASKED),
        (ORIGINAL, MASKED, MASKED),
        (MASKED, MASKED, MASKED),
    ],
)
def test_no_tool_takes_back_that_its_tenant_keeps_nothing(
    tool: str, tenant: str, kept: str
) -> None:
    assert Rules(keep=tool).before(Rules(keep=tenant)).keep == kept


def test_pseudonyms_of_either_want_the_key() -> None:
    named = Rules.from_dict({"models": {"email": "pseudonym"}})
    assert Rules().before(named).uses_pseudonyms()
    assert named.before(Rules()).uses_pseudonyms()
    assert not Rules().before(Rules()).uses_pseudonyms()


@pytest.mark.parametrize(
    ("given", "makes_sense"),
    [
        ({"keep": "masked"}, True),  # what comes along is hidden
        ({"keep": "masked", "agents": {"*": "pass"}}, False),
        ({"keep": "masked", "agents": {"*": "pass"}, "fields": {"a": "pass"}}, False),
        ({"keep": "masked", "agents": {"*": "pass"}, "fields": {"a": "drop"}}, True),
        ({"agents": {"*": "pass"}}, True),
    ],
)
def test_what_keeps_nothing_but_hides_nothing_is_refused(
    given: dict[str, Any], makes_sense: bool
) -> None:
    rules = Rules.from_dict(given)
    if makes_sense:
        rules.check()
        return
    with pytest.raises(ValueError, match=r"keep: .*these rules hide nothing"):
        rules.check()
    # with what its tenant hides it does
    rules.before(Rules.from_dict({"fields": {"b": "mask"}})).check()


async def test_rules_of_a_tenant_that_cannot_be_read_hide_every_kind() -> None:
    row = {"tenant": "t", "masking": {"agents": {"aura": "mask"}}}
    found = (await build(Rows(1, 1, masking=[row]), understands())).catalog()
    assert found.masking["t"] is HIDDEN_FROM_ALL
    assert set(found.rules_of("t", "any").actions(AGENTS)) >= {"email", "name", "card"}
    assert found.passed_over == ("masking rules of tenant t",)
    # where they were known before they stay as they were
    before = Catalog(masking={"t": Rules(keep=MASKED)})
    found = (await build(Rows(2, 2, masking=[row]), understands(), before=before)).catalog()
    assert found.masking["t"] is before.masking["t"]
