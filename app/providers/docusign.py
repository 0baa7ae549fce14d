"""DocuSign Connect."""

from collections.abc import Sequence
from typing import Final

from hookstream.app.errors import SignatureError
from hookstream.app.providers.parts import answered_200, keys_at, no_delivery, type_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER: Final = "X-DocuSign-Signature-"
#: One for each of the account's keys, of which there may be a hundred; while they are replaced
#: there are two or three.
MAX_SIGNATURES: Final = 10


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    last: SignatureError | None = None
    for number in range(1, MAX_SIGNATURES + 1):
        header = f"{HEADER}{number}"
        if number > 1 and header.lower() not in request.headers:
            break
        try:
            return verify_hmac(request, secrets, header, encoding="base64")
        except SignatureError as error:
            last = last or error
    raise last or SignatureError(f"{HEADER}1 is missing")


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "DocuSign Connect",
        f"{HEADER}1": sign_hmac(hook.body, hook.secret, encoding="base64"),
    }


PROVIDER = Provider(
    name="docusign",
    title="DocuSign",
    verify=_verify,
    event_type=type_at("event"),
    delivery_id=no_delivery,
    sign=signed(_sign),
    # retryCount in the body differs in a retry
    dedup_strategy="fields",
    dedup_fields=("event", "data.envelopeId", "data.recipientId", "generatedDateTime"),
    dedup_window_seconds=15 * 24 * HOUR,
    credential="a Connect key of the account (Connect, Connect Keys)",
    check_secret=any_secret,
    answer=answered_200,
    correlation=keys_at("docusign", "data.envelopeId", "data.templateId"),
    notes=Notes(
        setup="a Connect configuration with data format REST v2.1 (JSON), and Include HMAC "
        "Signature on; the Connect key is the secret",
        verified_by="`X-DocuSign-Signature-1` and so on, one a key: base64 HMAC-SHA256; one that "
        "matches is enough",
        type_from="`event`: `envelope-completed`",
        delivery_from="none is sent",
        why="event, envelope, recipient and `generatedDateTime` are one event; `retryCount` in the "
        "body differs in a retry",
        retries="where an acknowledgement is required: once, then at most once a day, ten times",
        source="https://developers.docusign.com/platform/webhooks/connect/validate/",
        answers=(
            (
                "all",
                "200, the same JSON",
                "[anything but a 200 is logged as a failure](https://developers.docusign.com/"
                "platform/webhooks/connect/)",
            ),
        ),
    ),
)
