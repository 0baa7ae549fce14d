"""Tokens by Google Chat in ``Authorization``: for a project by its number, or for an address.

Source: https://developers.google.com/workspace/chat/verify-requests-from-chat. For a project's
number Chat signs with keys of its own service account; for an address Google does, as for any
account (``google_oidc.py``). The body is not signed.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.google_oidc import (
    ALGORITHM,
    ISSUERS,
    KEYS_URL,
    TOKEN,
    TOLERANCE_SECONDS,
    VALID_SECONDS,
    bearer_token,
)
from hookstream.app.providers.signatures.key_source import KeySource, never_absent
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import check_sender, keys_for, senders, signer
from hookstream.app.providers.signatures.public_jwt import (
    check_times,
    issued_at,
    key_id,
    sign_public_jwt,
    verified_claims,
)
from hookstream.app.providers.signatures.public_keys import read_key_set
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_age

__all__ = ["chat_keys", "check_chat_secret", "sign_chat", "verify_chat"]

ACCOUNT: Final = "chat@system.gserviceaccount.com"
CHAT_KEYS_URL: Final = f"https://www.googleapis.com/service_accounts/v1/jwk/{ACCOUNT}"

_NUMBER: Final = re.compile(r"[0-9]{1,20}")


def chat_keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    """Chat's keys, Google's, or both; nowhere if the tool has its own. Raises SignatureError."""
    named = key_id(bearer_token(request), ALGORITHM, TOKEN)
    urls = [
        CHAT_KEYS_URL if _is_number(sender.name) else KEYS_URL
        for sender in senders(secrets)
        if sender.key is None
    ]
    if urls and not named:
        raise SignatureError(f"{TOKEN} does not name its key (kid)")
    return [
        KeySource(url, read_key_set, named, is_absent=never_absent) for url in dict.fromkeys(urls)
    ]


def verify_chat(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    """Secrets are the audiences that a token may have. Raises SignatureError."""
    text = bearer_token(request)
    refused = SignatureError("")
    for sender, keys in keys_for(senders(secrets), request.keys):
        try:
            _, claims = verified_claims(text, keys, ALGORITHM, TOKEN)
            return _check(claims, sender.name, options, now)
        except SignatureError as error:
            refused = error
    raise refused


def sign_chat(secret: str, now: float, key_id: str = "") -> str:
    """A token for the audience in ``secret``, by the private key behind it."""
    audience, key = signer(secret)
    issued = int(now)
    claims: dict[str, Any] = {"aud": audience, "iat": issued, "exp": issued + VALID_SECONDS}
    if _is_number(audience):
        claims["iss"] = ACCOUNT
    else:
        claims |= {"iss": ISSUERS[0], "email": ACCOUNT, "email_verified": True}
    return sign_public_jwt(claims, key, ALGORITHM, key_id)


def check_chat_secret(secret: str) -> None:
    """Raises BadRequestError: it begins with neither a project's number nor an address."""
    what = "the app's project number, or its HTTP endpoint URL (https://…)"
    name = check_sender(secret, what)
    if not _is_number(name) and not name.startswith("https://"):
        raise BadRequestError(f"it does not begin with {what}")


def _check(claims: dict[str, Any], audience: str, options: SignatureOptions, now: float) -> None:
    tolerance = options.tolerance(TOLERANCE_SECONDS)
    check_age(now - issued_at(claims, TOKEN), tolerance, f"iat of {TOKEN}")
    if tolerance < math.inf:
        check_times(claims, now, TOKEN)
    if claims.get("aud") != audience:
        raise SignatureError(f"{TOKEN} is for another audience than the tool's secret")
    if _is_number(audience):
        is_chat = claims.get("iss") == ACCOUNT
    else:
        is_chat = (
            claims.get("iss") in ISSUERS
            and claims.get("email") == ACCOUNT
            and claims.get("email_verified") is True
        )
    if not is_chat:
        raise SignatureError(f"{TOKEN} is none of Google Chat")


def _is_number(audience: str) -> bool:
    return _NUMBER.fullmatch(audience) is not None
