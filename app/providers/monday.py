"""monday.com."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.first_contact import echoed_json
from hookstream.app.providers.json_body import OBJECTS
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import answered_200, delivery_at, type_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    signed,
)
from hookstream.app.providers.signatures.jws import sign_jws
from hookstream.app.providers.signatures.jwt_hs256 import verify_jwt
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.url_token import verify_url_token

__all__ = ["PROVIDER"]

HEADER = "Authorization"
PARAMETER = "token"
#: monday sends again once a minute for half an hour; whether with a new token is not documented.
TOLERANCE_SECONDS = 2100
#: What monday gives its tokens.
VALID_SECONDS = 300


def _challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    if request.method != "POST" or b'"challenge"' not in request.decoded:
        return None
    payload = request.json()
    if not isinstance(payload, OBJECTS) or list(payload.keys()) != ["challenge"]:
        return None
    return echoed_json("challenge", text_at(payload, "challenge"))


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    # webhooks that nobody's app has made carry no token
    if not request.header(HEADER) and request.query(PARAMETER):
        verify_url_token(request, secrets, PARAMETER)
        return
    tolerance = options.tolerance(TOLERANCE_SECONDS)
    verify_jwt(request, secrets, HEADER, now=now, tolerance_seconds=tolerance)


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("event.parentItemId", "event.pulseId", "event.itemId"):
        if found := word_at(payload, path):
            yield f"monday:{found}"
    if board := word_at(payload, "event.boardId"):
        yield f"monday:board/{board}"
    yield from tickets(text_at(payload, "event.pulseName"), text_at(payload, "event.itemName"))


def _sign(hook: Delivery) -> dict[str, str]:
    issued = int(hook.now)
    claims = {"aud": hook.url, "exp": issued + VALID_SECONDS, "iat": issued}
    return {"Content-Type": JSON, HEADER: sign_jws(claims, hook.secret)}


PROVIDER = Provider(
    name="monday",
    title="monday.com",
    verify=_verify,
    event_type=type_at("event.type"),
    delivery_id=delivery_at("event.triggerUuid"),
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the app's Signing Secret, or the `token` in the URL",
    check_secret=any_secret,
    challenge=_challenge,
    answer=answered_200,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("*.monday.com",),
    notes=Notes(
        setup=(
            "webhooks that an app makes: its Signing Secret is the secret; those of a board's "
            "Integrations: add `?token=SECRET` to the tool's URL"
        ),
        verified_by=(
            "`Authorization`: a JSON Web Token (HS256) of the app's Signing Secret; where there is "
            "none, `token` in the query is the secret; the body is not signed"
        ),
        type_from="`event.type`: `update_column_value`",
        delivery_from="`event.triggerUuid`",
        why="half an hour of retries, perhaps with the first token",
        retries="once a minute for 30 minutes",
        source="https://developer.monday.com/api-reference/reference/webhooks",
        answers=(
            (
                '`{"challenge": …}`',
                "200, the same JSON",
                "monday tries out the address so; it becomes no event",
            ),
            ("all", "200, the same JSON", "nothing else is known to count as received"),
        ),
    ),
)
