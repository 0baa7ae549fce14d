"""Who may what, by what an identity token says."""

from typing import Any

import pytest

from hookstream.app.identity.mapping import Mapped, RoleMapping, parse_roles
from hookstream.app.roles import Role
from hookstream.app.settings import Settings

ROLES = {"admins": Role.OWNER, "devs": Role.DEVELOPER, "cn=ops,ou=x": Role.OPERATOR}
MAPPING = RoleMapping("groups", ROLES)


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["devs"], Role.DEVELOPER),
        (["devs", "others", "admins"], Role.OWNER),
        ("devs", Role.DEVELOPER),
        (["others"], None),
        ([], None),
        (None, None),
        ({"devs": True}, None),
        ([["devs"], 1, None], None),
        ("admins,devs", None),
    ],
)
def test_the_highest_role_that_is_given_counts(groups: Any, role: Role | None) -> None:
    found = MAPPING.of({"groups": groups})
    assert found == (Mapped("default", role) if role else None)


@pytest.mark.parametrize("tenant", [None, "", "../x", 7, ["a"], "a/b", "x" * 129])
def test_a_tenant_that_is_none_lets_nobody_in(tenant: Any) -> None:
    mapping = RoleMapping("groups", ROLES, "org")
    assert mapping.of({"groups": ["devs"], "org": tenant}) is None
    assert mapping.of({"groups": ["devs"], "org": "acme"}) == Mapped("acme", Role.DEVELOPER)


def test_roles_are_written_by_commas() -> None:
    assert parse_roles("admins=owner, devs=developer") == {
        "admins": Role.OWNER,
        "devs": Role.DEVELOPER,
    }
    assert parse_roles("a=b=auditor") == {"a=b": Role.AUDITOR}
    for wrong in ("admins", "=owner", "x=admin", "x=agent", "x=king"):
        with pytest.raises(ValueError, match="VALUE=ROLE"):
            parse_roles(wrong)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"oidc_client_id": "x"}, "HOOKSTREAM_OIDC_ISSUER is not"),
        ({"oidc_issuer": "https://login.example"}, "HOOKSTREAM_OIDC_CLIENT_ID"),
        (
            {"oidc_issuer": "https://login.example", "oidc_client_id": "x"},
            "HOOKSTREAM_OIDC_ROLES",
        ),
        (
            {"oidc_issuer": "http://login.example", "oidc_client_id": "x", "oidc_roles": "a=owner"},
            "https unless HOOKSTREAM_OIDC_ALLOW_PRIVATE",
        ),
        (
            {"oidc_issuer": "https://10.0.0.1", "oidc_client_id": "x", "oidc_roles": "a=owner"},
            "set HOOKSTREAM_OIDC_ALLOW_PRIVATE=true",
        ),
        (
            {
                "oidc_issuer": "https://login.example",
                "oidc_client_id": "x",
                "oidc_roles": "a=owner",
                "oidc_scopes": "profile",
            },
            "name openid",
        ),
    ],
)
def test_a_sign_in_that_is_half_set_up_is_refused_at_the_start(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**given)
