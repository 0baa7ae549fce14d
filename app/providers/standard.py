"""Standard Webhooks."""

from collections.abc import Sequence

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.provider import (
    HOUR,
    Notes,
    Provider,
    any_secret,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.digests import check_key
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.standard import (
    standard_key,
    verify_standard,
)
from hookstream.app.providers.standard_parts import standard_headers

__all__ = ["PROVIDER"]


def _family(request: WebhookRequest) -> str:
    return "svix" if "svix-signature" in request.headers else "webhook"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_standard(
        request,
        secrets,
        now=now,
        tolerance_seconds=options.tolerance(),
        family=_family(request),
        secret_format=options.secret_format,
    )


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(), options.type_field or "type"))


def _secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    key = standard_key(secret, options.secret_format)
    if key is not None:
        check_key(key)
    else:
        raise BadRequestError(
            "what follows whsec_ is not base64 (options.secret_format is raw for senders whose "
            "secret is plain text)"
        )


PROVIDER = Provider(
    name="standard",
    title="Standard Webhooks",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header(f"{_family(request)}-id")),
    sign=signed(lambda hook: standard_headers(hook, hook.options.secret_format)),
    # the id is signed, and the same when a webhook is sent again
    dedup_strategy="delivery",
    dedup_window_seconds=72 * HOUR,
    keep_headers=("webhook-id", "webhook-timestamp", "svix-id", "svix-timestamp"),
    credential="whsec_ and base64, as the sender shows it",
    check_secret=_secret,
    options=frozenset({"tolerance_seconds", "type_field", "secret_format"}),
    notes=Notes(
        setup="the endpoint's secret, `whsec_…`",
        verified_by=(
            "`webhook-signature`, `-id` and `-timestamp`, or the same with `svix-`: "
            "base64 HMAC-SHA256 of `id.time.body`"
        ),
        type_from="`type`, as it is",
        delivery_from="`webhook-id`",
        why="the id is signed, and the same in every retry",
    ),
    tolerance_seconds=300,
)
