"""BigCommerce: Standard Webhooks, by the app's client secret as it is; payloads are thin."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import answered_empty
from hookstream.app.providers.provider import (
    HOUR,
    Notes,
    any_secret,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.standard import verify_standard
from hookstream.app.providers.standard import PROVIDER as STANDARD
from hookstream.app.providers.standard_parts import standard_headers

__all__ = ["PROVIDER"]

RAW = "raw"
#: What is something of another thing: the path of that, and its kind.
WITHIN = (("orderId", "order"), ("cartId", "cart"), ("inventory.product_id", "product"))


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_standard(
        request,
        secrets,
        now=now,
        tolerance_seconds=options.tolerance(),
        secret_format=RAW,
    )


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # "store/order/created"
    return event_name(text_at(request.json(), "scope").replace("/", "."))


def _correlation(payload: Any) -> Iterator[str]:
    for path, kind in WITHIN:
        if found := word_at(payload, f"data.{path}"):
            yield f"bigcommerce:{kind}/{found}"
    kind = word_at(payload, "data.type")
    if kind and (found := word_at(payload, "data.id")):
        yield f"bigcommerce:{kind}/{found}"


PROVIDER = replace(
    STANDARD,
    name="bigcommerce",
    title="BigCommerce",
    verify=_verify,
    event_type=_type,
    sign=signed(lambda hook: standard_headers(hook, RAW)),
    dedup_window_seconds=72 * HOUR,
    credential="the client secret of the app or account that made the webhook",
    check_secret=any_secret,
    answer=answered_empty,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="the client secret of the app or API account that made the webhook",
        verified_by="as `standard`, in `webhook-` headers; the key is the client secret as it is",
        type_from="`scope` with dots: `store.order.created`",
        delivery_from="`webhook-id`",
        why="the id is signed, and the same in every retry",
        source="https://developer.bigcommerce.com/docs/integrations/webhooks",
        answers=(
            (
                "all",
                "200, empty",
                "[BigCommerce waits for a 200, and would rather have no body](https://developer.bigcommerce.com/docs/"
                "integrations/webhooks)",
            ),
        ),
    ),
)
