"""HTTP Basic."""

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.plain import named_delivery, named_headers, named_type
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Provider,
    any_secret,
    signed,
)
from hookstream.app.providers.signatures.basic import sign_basic, verify_basic

__all__ = ["PROVIDER"]


def _secret(secret: str) -> None:
    any_secret(secret)
    name, colon, password = secret.partition(":")
    if not (name and colon and password):
        raise BadRequestError("not username:password")


def _sign(hook: Delivery) -> dict[str, str]:
    return named_headers(hook) | {"Authorization": sign_basic(hook.secret)}


PROVIDER = Provider(
    name="basic",
    title="HTTP Basic",
    verify=lambda request, secrets, options, now: verify_basic(request, secrets),
    event_type=named_type,
    delivery_id=named_delivery,
    sign=signed(_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="username:password",
    check_secret=_secret,
)
