"""Plaid."""

from hookstream.app.providers.parts import answered_200, keys_at, no_delivery, type_at
from hookstream.app.providers.provider import HOUR, JSON, Delivery, Notes, Provider, signed
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import check_sender
from hookstream.app.providers.signatures.plaid import (
    HEADER,
    TOLERANCE_SECONDS,
    credentials,
    plaid_content,
    plaid_keys,
    sign_plaid,
    verify_plaid,
)

__all__ = ["PROVIDER"]


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": JSON, HEADER: sign_plaid(hook.body, hook.secret, hook.now)}


def _secret(secret: str, options: SignatureOptions) -> None:
    name = check_sender(secret, "CLIENT_ID:SECRET")
    if name == secret.strip():
        credentials(name)


PROVIDER = Provider(
    name="plaid",
    title="Plaid",
    keys=plaid_keys,
    verify=verify_plaid,
    event_type=type_at("webhook_type", "webhook_code"),
    delivery_id=no_delivery,
    sign=signed(_sign),
    # bodies say little: two true events are equal, but for the time they were signed at
    dedup_strategy="payload",
    dedup_window_seconds=48 * HOUR,
    content=plaid_content,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential=(
        "CLIENT_ID:SECRET of Plaid's API (sandbox:CLIENT_ID:SECRET for its sandbox), which gives "
        "its keys to nobody else"
    ),
    check_secret=_secret,
    answer=answered_200,
    correlation=keys_at(
        "plaid", "item_id", "transfer_id", "link_session_id", "identity_verification_id", "user_id"
    ),
    options=frozenset({"tolerance_seconds"}),
    hosts=("dashboard.plaid.com",),
    notes=Notes(
        setup=(
            "the `webhook` of a Link token, or Developers, Webhooks; the secret is "
            "`CLIENT_ID:SECRET` of Plaid's API, or `sandbox:CLIENT_ID:SECRET`"
        ),
        verified_by=(
            "`Plaid-Verification`: a token (ES256) with the body's SHA-256, by the key that "
            "`/webhook_verification_key/get` of Plaid's API has for its `kid`, asked for with the "
            "secret; Plaid's keys are the same for all of its customers"
        ),
        type_from="`webhook_type` and `webhook_code`: `TRANSACTIONS.SYNC_UPDATES_AVAILABLE`",
        delivery_from="none is sent",
        why=(
            "bodies of true events are equal, so the signed time counts with them; a day of "
            "retries, and whether they are signed anew is not documented"
        ),
        retries="for 24 hours, first after 30 s, then ever more seldom",
        source="https://plaid.com/docs/api/webhooks/webhook-verification/",
        answers=(
            (
                "all",
                "200, the same JSON",
                "any other answer, and none in 10 s, is a failure to Plaid",
            ),
        ),
    ),
)
