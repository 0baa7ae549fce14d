"""Tokens by Microsoft Entra: which of Microsoft's services sends, of which tenant, to whom.

Sources: https://learn.microsoft.com/graph/change-notifications-with-resource-data#validation-tokens-in-the-change-notification,
https://learn.microsoft.com/azure/event-grid/secure-webhook-delivery,
https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens.
"""

import math
import re
from typing import Any, Final

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.key_source import KeySource, never_absent
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.public_jwt import check_times, key_id, verified_claims
from hookstream.app.providers.signatures.public_keys import Keys, read_key_set
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["KEYS_URL", "check_entra_options", "entra_keys", "entra_tenant"]

#: Of all tenants of Microsoft's public cloud; each key says whose tokens it signs.
KEYS_URL: Final = "https://login.microsoftonline.com/common/discovery/v2.0/keys"
ALGORITHM: Final = "RS256"
#: Tokens of both versions are sent: as an application is registered.
ISSUERS: Final = ("https://login.microsoftonline.com/{}/v2.0", "https://sts.windows.net/{}/")
#: What stands in a key's issuer for any tenant.
ANY_TENANT: Final = "{tenantid}"

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def entra_keys(text: str, where: str) -> KeySource:
    """Where the key is that a token names. Raises SignatureError: it is no token, or names none."""
    named = key_id(text, ALGORITHM, where)
    if not named:
        raise SignatureError(f"{where} does not name its key (kid)")
    return KeySource(KEYS_URL, read_key_set, named, is_absent=never_absent)


def entra_tenant(
    text: str, request: WebhookRequest, options: SignatureOptions, now: float, app: str, where: str
) -> str:
    """The tenant of a token that ``app`` sends with, which is for ``options.audience``.

    Of ``options.tenant``, where that is set. Raises SignatureError: it is another's, or over.
    """
    claims = _claims(text, request.keys, where)
    tenant = claims["tid"]
    if options.tenant and tenant != options.tenant:
        raise SignatureError(f"{where} is of another tenant than options.tenant")
    if claims.get("aud") != options.audience:
        raise SignatureError(f"{where} is for another audience than options.audience")
    # the second version calls it so, the first one otherwise
    if claims.get("azp" if claims["iss"] == ISSUERS[0].format(tenant) else "appid") != app:
        raise SignatureError(f"{where} is of another application than the one that sends")
    if options.tolerance() < math.inf:
        check_times(claims, now, where)
    return tenant  # type: ignore[no-any-return]


def _claims(text: str, keys: Keys, where: str) -> dict[str, Any]:
    """What a token says that Microsoft has issued for a tenant. Raises SignatureError."""
    key, claims = verified_claims(text, keys, ALGORITHM, where)
    tenant = claims.get("tid")
    if not isinstance(tenant, str) or not _GUID.fullmatch(tenant):
        raise SignatureError(f"{where} names no tenant (tid)")
    issuers = [issuer.format(tenant) for issuer in ISSUERS]
    if claims.get("iss") not in issuers:
        raise SignatureError(f"{where} was not issued by Microsoft Entra for its tenant")
    # a key of people's own accounts signs nothing for organisations
    if key.issuer and key.issuer.replace(ANY_TENANT, tenant) not in issuers:
        raise SignatureError(f"{where}: the key that its kid names is not of its tenant")
    return claims


def check_entra_options(options: SignatureOptions) -> None:
    """Raises BadRequestError: a tenant that is none, or without an audience."""
    if options.tenant and not _GUID.fullmatch(options.tenant):
        raise BadRequestError(
            "options.tenant: the tenant's id, in lower case: 9f4ebab6-520d-49c0-85cc-7b25c78d4a93"
        )
    if options.tenant and not options.audience:
        raise BadRequestError("options.audience: the application's id, which goes with tenant")
