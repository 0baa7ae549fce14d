"""Adyen's scheme: in each item of a body an HMAC of eight of its fields."""

import base64
import hmac
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.signatures.digests import UNSET, digests_of, match
from hookstream.app.providers.signatures.hmac_scheme import hmac_key
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["seal_adyen", "verify_adyen"]

PLACE: Final = "additionalData.hmacSignature"
FIELDS: Final = (
    "pspReference",
    "originalReference",
    "merchantAccountCode",
    "merchantReference",
    "amount.value",
    "amount.currency",
    "eventCode",
    "success",
)
#: Adyen puts one item into a JSON body, and six into others.
MAX_ITEMS: Final = 100


def _signed(item: Any) -> bytes:
    return ":".join(word_at(item, path) for path in FIELDS).encode("utf-8", "surrogatepass")


def _items(body: Any) -> list[Any]:
    """The items of a parsed body; empty where it is none of Adyen's."""
    items = value_at(body, "notificationItems")
    found = items if isinstance(items, list) else []
    return [value_at(item, "NotificationRequestItem") for item in found]


def verify_adyen(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """Every item has an HMAC by one of the secrets, which are hex.

    Source: https://docs.adyen.com/development-resources/webhooks/verify-hmac-signatures. Only
    :data:`FIELDS` are signed. Raises SignatureError.
    """
    keys = list(_keys(secrets))
    if not keys:
        raise SignatureError(UNSET)
    try:
        # converted, not looked into: of a name that is there twice the one that counts later
        items = _items(parse_json(request.body))
    except BadRequestError as error:
        raise SignatureError(f"what Adyen signs is in the body: {error}") from error
    if not 0 < len(items) <= MAX_ITEMS:
        raise SignatureError(f"notificationItems has none, or more than {MAX_ITEMS}")
    for item in items:
        text = text_at(item, PLACE)
        if not text:
            raise SignatureError(f"{PLACE} is missing or empty: each item has to carry it")
        expected = (hmac.digest(key, _signed(item), "sha256") for key in keys)
        match(PLACE, expected, digests_of(PLACE, [text], "base64"))


def seal_adyen(body: bytes, secret: str) -> bytes:
    """The body with each item signed. Raises BadRequestError: no key, or no body of Adyen's."""
    key, payload = hmac_key(secret, "hex"), parse_json(body)
    for item in _items(payload):
        if isinstance(item, dict):
            more = item.get("additionalData")
            digest = base64.b64encode(hmac.digest(key, _signed(item), "sha256")).decode()
            item["additionalData"] = {
                **(more if isinstance(more, dict) else {}),
                "hmacSignature": digest,
            }
    return orjson.dumps(payload)


def _keys(secrets: Sequence[str]) -> Iterator[bytes]:
    for secret in secrets:
        try:
            if secret:
                yield hmac_key(secret, "hex")
        except BadRequestError:
            continue
