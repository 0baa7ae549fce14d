"""Tokens by Microsoft Entra: which count, for Microsoft Graph and Azure Event Grid."""

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers import PROVIDERS, check_options, check_secrets
from hookstream.app.providers.signatures.entra import KEYS_URL
from hookstream.app.providers.signatures.jws import sign_jws
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import AnyAge, SignatureOptions
from hookstream.app.providers.signatures.public_jwt import sign_public_jwt
from hookstream.app.providers.signatures.public_keys import read_key_set
from hookstream.app.providers.signatures.request import WebhookRequest
from tests.support.senders import NOW, OTHER_RSA, RSA, request
from tests.unit.providers.test_fetched_keys import jwk

TENANT = "9f4ebab6-520d-49c0-85cc-7b25c78d4a93"
OTHER_TENANT = "84bd8158-6d4d-4958-8b9f-9d6445542f95"
#: Of people's own accounts.
CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
AUDIENCE = "925bff9b-f6e2-4a69-b858-f71ea2b9b6d0"
APPS = {
    "graph": "0bf30f3b-4a52-48df-9a82-234910c4a086",
    "eventgrid": "4962773b-9cdb-44cf-a8bf-237846a00ab7",
}
V2, V1 = "https://login.microsoftonline.com/{}/v2.0", "https://sts.windows.net/{}/"
STATE = "b7d1f0e2c94a4b3f8e6a"
OPTIONS = SignatureOptions(audience=AUDIENCE, tenant=TENANT)
KEYS = read_key_set(
    orjson.dumps(
        {
            "keys": [
                jwk(RSA, "k1", issuer=V2.format("{tenantid}")),
                jwk(OTHER_RSA, "msa", issuer=V2.format(CONSUMERS)),
                jwk(OTHER_RSA, "odd", issuer=["x"]),
            ]
        }
    )
)
rows = pytest.mark.parametrize("name", APPS)


def claims(name: str, **more: Any) -> dict[str, Any]:
    """As the example on Graph's page."""
    tenant = more.get("tid", TENANT)
    found = {
        "aud": AUDIENCE,
        "iss": V2.format(tenant),
        "iat": int(NOW),
        "nbf": int(NOW),
        "exp": int(NOW) + 86_700,
        "azp": APPS[name],
        "azpacr": "2",
        "tid": tenant,
        "ver": "2.0",
        **more,
    }
    return {key: value for key, value in found.items() if value is not None}


def token(name: str, key: Any = RSA, kid: str = "k1", **more: Any) -> str:
    return sign_public_jwt(claims(name, **more), key, "RS256", kid)


def rich(*tokens: Any, tenant: str = TENANT, **more: Any) -> WebhookRequest:
    """A notification with resource data."""
    one = {
        "clientState": STATE,
        "tenantId": tenant,
        "changeType": "created",
        "resource": "chats('1')/messages('2')",
        "encryptedContent": {"data": "x", "dataKey": "y"},
    }
    body = {"value": [one], "validationTokens": list(tokens), **more}
    return request({"Content-Type": "application/json"}, orjson.dumps(body))


def sent(name: str, text: Any) -> WebhookRequest:
    if name == "graph":
        return rich(text)
    body = b'[{"id": "1", "eventType": "Microsoft.Storage.BlobCreated"}]'
    return request({"Authorization": f"Bearer {text}"}, body)


def verify(
    name: str, hook: WebhookRequest, options: SignatureOptions = OPTIONS, now: float = NOW
) -> None:
    secrets = (STATE,) if name == "graph" else ()
    PROVIDERS[name].verify(replace(hook, keys=KEYS), secrets, options, now)


def sources(name: str, hook: WebhookRequest, *secrets: str) -> list[KeySource]:
    keys = PROVIDERS[name].keys
    assert keys
    return list(keys(hook, secrets or ((STATE,) if name == "graph" else ()), OPTIONS, NOW))


@rows
def test_tokens_of_both_versions_count(name: str) -> None:
    for text in (
        token(name),
        token(name, iss=V1.format(TENANT), azp=None, appid=APPS[name], ver="1.0"),
    ):
        hook = sent(name, text)
        [source] = sources(name, hook)
        assert (source.url, source.key_id) == (KEYS_URL, "k1")
        assert not source.is_absent(404, b"")
        verify(name, hook)
        # a minute before it begins, as clocks differ, and until it ends
        for now in (NOW - 60, NOW + 86_700):
            verify(name, hook, now=now)


@rows
@pytest.mark.parametrize(
    "more",
    [
        {"aud": "another"},
        {"aud": [AUDIENCE]},
        {"aud": None},
        {"azp": "11111111-2222-3333-4444-555555555555"},
        {"azp": None},
        # what the other version calls it counts for nothing
        {"azp": None, "appid": "0bf30f3b-4a52-48df-9a82-234910c4a086"},
        {"azp": None, "appid": "4962773b-9cdb-44cf-a8bf-237846a00ab7"},
        {"iss": V1.format(TENANT)},
        {"tid": OTHER_TENANT},
        {"tid": None},
        {"tid": "x/../y", "iss": V2.format("x/../y")},
        {"iss": V2.format(OTHER_TENANT)},
        {"iss": "https://login.microsoftonline.com.evil.example/" + TENANT + "/v2.0"},
        {"iss": "https://accounts.google.com"},
        {"exp": int(NOW) - 301},
        {"exp": None},
        {"exp": True},
        {"exp": "never"},
        {"exp": 1e300},
        {"nbf": int(NOW) + 301},
        {"nbf": "now"},
        {"key": OTHER_RSA},
        {"kid": "k2"},
        {"kid": "odd", "key": OTHER_RSA},
        # a key of people's own accounts, which would sign for a tenant
        {"kid": "msa", "key": OTHER_RSA},
    ],
)
def test_a_token_for_something_else_is_refused(name: str, more: dict[str, Any]) -> None:
    hook = sent(name, token(name, **more))
    with pytest.raises(SignatureError):
        verify(name, hook)


@rows
def test_a_public_key_is_no_secret_and_no_key_is_no_key(name: str) -> None:
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    head, body, _ = token(name).split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
    forged = {
        "public key": sign_jws(claims(name), pem),
        "none": f"{none}.{body}.",
        "unnamed": sign_public_jwt(claims(name), RSA, "RS256"),
        "no token": "a.b.c",
    }
    for what, text in {**forged, "unsigned": f"{head}.{body}."}.items():
        with pytest.raises(SignatureError):
            verify(name, sent(name, text))
        if what in forged:
            with pytest.raises(SignatureError):
                sources(name, sent(name, text))


def test_a_key_of_people_s_own_accounts_signs_for_those() -> None:
    options = SignatureOptions(audience=AUDIENCE)
    verify(
        "graph", rich(token("graph", OTHER_RSA, "msa", tid=CONSUMERS), tenant=CONSUMERS), options
    )


@rows
def test_what_is_replayed_by_an_operator_may_be_over(name: str) -> None:
    verify(name, sent(name, token(name)), AnyAge(audience=AUDIENCE, tenant=TENANT), NOW + 10**7)


def test_resource_data_of_graph_needs_a_token_of_its_tenant() -> None:
    good, other = token("graph"), token("graph", tid=OTHER_TENANT)
    any_tenant = SignatureOptions(audience=AUDIENCE)
    verify("graph", rich(good, other), any_tenant)
    verify("graph", rich(good, other, tenant=OTHER_TENANT), any_tenant)
    verify("graph", rich(good, tenant=TENANT.upper()), any_tenant)
    for bad in (
        rich(),
        rich(validationTokens=None),
        rich(good, tenant=OTHER_TENANT),
        rich(good, tenant=""),
        rich(good, "x"),
        rich(good, 5),
        rich(validationTokens=good),
        rich(validationTokens={"0": good}),
        rich(*[good] * 33),
        # one that is of another tenant than is said
        rich(good, other, good),
    ):
        with pytest.raises(SignatureError):
            verify("graph", bad)
    # what has no data has no tokens
    plain = {"value": [{"clientState": STATE, "lifecycleEvent": "missed"}]}
    verify("graph", request({}, orjson.dumps(plain)))
    # who says not for whom has them not looked at, as before
    verify("graph", rich(), SignatureOptions())
    assert sources("graph", request({}, orjson.dumps(plain))) == []


def test_who_does_not_know_client_state_has_nothing_fetched() -> None:
    with pytest.raises(SignatureError, match="clientState"):
        sources("graph", rich(token("graph")), "another state")


def test_event_grid_goes_on_taking_the_tool_s_secret() -> None:
    hook = sent("eventgrid", "a-static-secret")
    assert sources("eventgrid", hook) == []
    PROVIDERS["eventgrid"].verify(hook, ("a-static-secret",), OPTIONS, NOW)
    # and nothing at all where it has none
    for text in ("a-static-secret", "", "x.y"):
        with pytest.raises(SignatureError):
            verify("eventgrid", sent("eventgrid", text))
    with pytest.raises(SignatureError):
        PROVIDERS["eventgrid"].verify(request({}, b"[]"), (), OPTIONS, NOW)
    # a tool that does not say for whom takes no token
    with pytest.raises(SignatureError):
        verify("eventgrid", sent("eventgrid", token("eventgrid")), SignatureOptions())


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("eventgrid", {"tenant": "contoso.com", "audience": AUDIENCE}, "the tenant's id"),
        ("eventgrid", {"tenant": TENANT.upper(), "audience": AUDIENCE}, "in lower case"),
        ("eventgrid", {"tenant": TENANT}, "options.audience"),
        ("eventgrid", {"audience": AUDIENCE}, "options.tenant"),
        ("graph", {"tenant": TENANT}, "options.audience"),
        ("pubsub", {"tenant": TENANT}, "reads no such option"),
    ],
)
def test_options_that_do_not_say_who_sends_are_refused(
    name: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadRequestError, match=said):
        check_options(PROVIDERS[name], SignatureOptions(**given))


def test_event_grid_needs_no_secret_where_its_options_say_who_sends() -> None:
    check_options(PROVIDERS["eventgrid"], OPTIONS)
    check_secrets(PROVIDERS["eventgrid"], [], (), OPTIONS)
    with pytest.raises(BadRequestError, match="at least one"):
        check_secrets(PROVIDERS["eventgrid"], [])
    with pytest.raises(BadRequestError, match="at least one"):
        check_secrets(PROVIDERS["graph"], [], (), OPTIONS)
