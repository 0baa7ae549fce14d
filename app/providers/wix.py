"""Wix: the body is a token (RS256) by the app's key, and carries the event as texts of JSON."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import OBJECTS, parse_json
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import answered_200
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    id_at,
    signed,
)
from hookstream.app.providers.signatures.digests import UNSET
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.public_jwt import (
    issued_at,
    sign_public_jwt,
    verified_claims,
)
from hookstream.app.providers.signatures.public_keys import SigningKey, private_key, public_key
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_age
from hookstream.codecs.inner import token_part
from hookstream.codecs.json_payload import dump_json

__all__ = ["PROVIDER"]

ALGORITHM: Final = "RS256"
WHERE = "the token in the body"
#: Of what is no JSON of its own: a token is looked for.
PLAIN: Final = "text/plain"
#: Wix repeats for two days; whether with a new token is not documented. Tokens end after 83 hours.
TOLERANCE_SECONDS = 72 * HOUR
VALID_SECONDS = 300_000


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    keys = [key for secret in secrets if (key := public_key(secret))]
    if not keys:
        raise SignatureError(UNSET)
    # readers know a token by how it begins
    text = request.body.decode("ascii", "replace").rstrip()
    refused = SignatureError("")
    for key in keys:
        try:
            _, claims = verified_claims(text, {"": SigningKey(key)}, ALGORITHM, WHERE)
        except SignatureError as error:
            refused = error
            continue
        tolerance = options.tolerance(TOLERANCE_SECONDS)
        return check_age(now - issued_at(claims, WHERE), tolerance, f"iat of {WHERE}")
    raise refused


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(PLAIN), "data.eventType"))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return id_at(request.json(PLAIN), "data.data.id")


def _correlation(payload: Any) -> Iterator[str]:
    if found := word_at(payload, "data.data.entityId"):
        yield f"wix:{text_at(payload, 'data.data.entityFqdn')}/{found}"
    if found := word_at(payload, "data.instanceId"):
        yield f"wix:{found}"


def _claims(body: bytes) -> dict[str, Any]:
    found = parse_json(token_part(body) or body)
    if not isinstance(found, OBJECTS):
        raise BadRequestError("a webhook of Wix is a token, or the JSON object in it")
    return dict(found)


def _stamp(body: bytes, now: float) -> bytes:
    issued = int(now)
    return dump_json({**_claims(body), "iat": issued, "exp": issued + VALID_SECONDS})


def _seal(body: bytes, secret: str) -> bytes:
    return sign_public_jwt(_claims(body), private_key(secret), ALGORITHM).encode()


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": "text/plain; charset=utf-8"}


def _secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    if public_key(secret) is None:
        raise BadRequestError("not a public key of RSA, PEM or base64 of DER")


PROVIDER = Provider(
    name="wix",
    title="Wix",
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    content=lambda request: request.decoded.rstrip(),
    sign=signed(_sign),
    stamp=_stamp,
    seal=_seal,
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the app's public key",
    check_secret=_secret,
    answer=answered_200,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("manage.wix.com",),
    notes=Notes(
        setup="Webhooks of the app, Get Public Key: that key is the secret",
        verified_by="the body is a token (RS256) by the app's key",
        type_from="`eventType` in the token's `data`: `wix.contacts.v4.contact_created`",
        delivery_from="`id` of the event in there; events of the older form have none",
        why=(
            "an event's `id` stays when it is sent again; two days of retries, and whether with a "
            "new token is not documented"
        ),
        retries="12 times within two days, first after a minute",
        source="https://dev.wix.com/docs/rest/articles/get-started/webhook-structure",
        answers=(("all", "200, the same JSON", "any other status is a failure to Wix"),),
    ),
)
