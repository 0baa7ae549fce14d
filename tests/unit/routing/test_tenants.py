"""Tenants as values: quotas, states, and what their tools are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.ids import full_tool_id, own_tool_id
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.tenants import ACTIVE, DELETING, SUSPENDED, Tenant, TenantQuotas
from hookstream.app.web.models.fields import ID_PATTERN

IDS = st.from_regex(ID_PATTERN, fullmatch=True)


@given(IDS, IDS, IDS, IDS)
def test_no_two_tools_have_one_full_id_and_each_leads_back(
    tenant: str, tool: str, other: str, another: str
) -> None:
    assert own_tool_id(full_tool_id(tenant, tool)) == tool
    same = full_tool_id(tenant, tool) == full_tool_id(other, another)
    assert same == ((tenant, tool) == (other, another))


def test_tools_of_the_default_tenant_are_called_as_ever() -> None:
    assert full_tool_id("default", "github") == "github"
    assert full_tool_id("acme", "github") == "acme/github"


def test_quotas_of_a_row_are_those_that_this_release_knows() -> None:
    quotas = TenantQuotas.from_dict({"tools": 3, "events_per_second": 0.5, "later": 1})
    assert quotas == TenantQuotas(tools=3, events_per_second=0.5)
    assert quotas.to_dict() == {"tools": 3, "events_per_second": 0.5}
    for wrong in ({"tools": 0}, {"tools": "3"}, {"sockets": -1}):
        with pytest.raises(ValueError, match="quota"):
            TenantQuotas.from_dict(wrong)


def test_only_who_is_active_is_taken_from() -> None:
    assert not Tenant("t", state=ACTIVE).trouble
    assert "unpaid" in Tenant("t", state=SUSPENDED, reason="unpaid").trouble
    assert "deleted" in Tenant("t", state=DELETING).trouble


def test_a_tenant_without_a_row_has_no_quotas_and_is_not_suspended() -> None:
    catalog = Catalog(tenants={"default": Tenant("default")})
    assert catalog.tenant("x") == Tenant("x")
    assert not catalog.has_others
    assert Catalog(tenants={"default": Tenant("default"), "x": Tenant("x")}).has_others
