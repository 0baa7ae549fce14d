"""Senders that follow a scheme rather than a company: Standard Webhooks, HMAC, credentials."""

# ruff: noqa: S106
# (a secret_format is a sentence for people)

from collections.abc import Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Delivery,
    Provider,
    any_secret,
    body_type,
    event_name,
    id_at,
    short_id,
    signed,
    text_at,
)
from hookstream.app.providers.signatures import (
    SignatureOptions,
    WebhookRequest,
    sign_basic,
    sign_hmac,
    sign_standard,
    standard_key,
    verify_basic,
    verify_hmac,
    verify_standard,
    verify_token,
)

__all__ = ["BASIC", "BEARER", "GENERIC", "NONE", "STANDARD"]

GENERIC_HEADER = "X-Signature"
BEARER_HEADER = "Authorization"


def _family(request: WebhookRequest) -> str:
    return "svix" if "svix-signature" in request.headers else "webhook"


def _standard_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_standard(
        request,
        secrets,
        now=now,
        tolerance_seconds=options.tolerance(),
        family=_family(request),
    )


def _standard_type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(), options.type_field or "type"))


def _standard_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "webhook-id": hook.delivery_id,
        "webhook-timestamp": str(int(hook.now)),
        "webhook-signature": sign_standard(hook.body, hook.secret, hook.delivery_id, hook.now),
    }


def _standard_secret(secret: str) -> None:
    any_secret(secret)
    if standard_key(secret) is None:
        raise BadRequestError("what follows whsec_ is not base64")


STANDARD = Provider(
    name="standard",
    title="Standard Webhooks",
    verify=_standard_verify,
    event_type=_standard_type,
    delivery_id=lambda request, options: short_id(request.header(f"{_family(request)}-id")),
    sign=signed(_standard_sign),
    # the id is signed, and the same when a webhook is sent again
    dedup_strategy="delivery",
    dedup_window_seconds=72 * HOUR,
    keep_headers=("webhook-id", "webhook-timestamp", "svix-id", "svix-timestamp"),
    secret_format="whsec_ and base64, as the sender shows it",
    check_secret=_standard_secret,
)


def _named_type(request: WebhookRequest, options: SignatureOptions) -> str:
    """From the header or the field that the options name; a body need not be JSON."""
    if options.type_header and (text := request.header(options.type_header)):
        return event_name(text)
    if options.type_field:
        return event_name(text_at(_json_or_none(request), options.type_field))
    return UNKNOWN


def _named_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    if options.delivery_header and (text := request.header(options.delivery_header)):
        return short_id(text)
    if options.delivery_field:
        return id_at(_json_or_none(request), options.delivery_field)
    return ""


def _json_or_none(request: WebhookRequest) -> Any:
    try:
        return request.json()
    except BadRequestError:
        return None


def _named_headers(hook: Delivery) -> dict[str, str]:
    headers = {"Content-Type": body_type(hook.body)}
    if hook.options.type_header:
        headers[hook.options.type_header] = hook.event_type
    if hook.options.delivery_header:
        headers[hook.options.delivery_header] = hook.delivery_id
    return headers


def _generic_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(
        request,
        secrets,
        options.header or GENERIC_HEADER,
        prefix=options.prefix,
        algorithm=options.algorithm,
        encoding=options.encoding,
    )


def _generic_sign(hook: Delivery) -> dict[str, str]:
    signature = sign_hmac(hook.body, hook.secret, hook.options.algorithm, hook.options.encoding)
    return _named_headers(hook) | {
        hook.options.header or GENERIC_HEADER: hook.options.prefix + signature
    }


GENERIC = Provider(
    name="generic",
    title="Any HMAC over the body",
    verify=_generic_verify,
    event_type=_named_type,
    delivery_id=_named_delivery,
    sign=signed(_generic_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    secret_format="the key of the HMAC, as text",
    check_secret=any_secret,
)


def _bearer_scheme(options: SignatureOptions) -> str:
    # a header of one's own (X-Api-Key) has the token and nothing else
    header = options.header or BEARER_HEADER
    return "Bearer" if header.lower() == BEARER_HEADER.lower() else ""


def _bearer_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_token(request, secrets, options.header or BEARER_HEADER, scheme=_bearer_scheme(options))


def _bearer_sign(hook: Delivery) -> dict[str, str]:
    return _named_headers(hook) | {
        hook.options.header
        or BEARER_HEADER: f"{_bearer_scheme(hook.options)} {hook.secret}".lstrip()
    }


BEARER = Provider(
    name="bearer",
    title="A token in a header",
    verify=_bearer_verify,
    event_type=_named_type,
    delivery_id=_named_delivery,
    sign=signed(_bearer_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    secret_format="the token, without the word Bearer",
    check_secret=any_secret,
)


def _basic_secret(secret: str) -> None:
    any_secret(secret)
    name, colon, password = secret.partition(":")
    if not (name and colon and password):
        raise BadRequestError("not username:password")


def _basic_sign(hook: Delivery) -> dict[str, str]:
    return _named_headers(hook) | {"Authorization": sign_basic(hook.secret)}


BASIC = Provider(
    name="basic",
    title="HTTP Basic",
    verify=lambda request, secrets, options, now: verify_basic(request, secrets),
    event_type=_named_type,
    delivery_id=_named_delivery,
    sign=signed(_basic_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    secret_format="username:password",
    check_secret=_basic_secret,
)


NONE = Provider(
    name="none",
    title="Nothing verified",
    verify=lambda request, secrets, options, now: None,
    event_type=_named_type,
    delivery_id=_named_delivery,
    sign=signed(_named_headers),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    needs_secret=False,
    secret_format="none: whoever knows the URL can send",
    check_secret=any_secret,
)
