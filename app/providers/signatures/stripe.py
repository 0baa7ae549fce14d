"""Stripe's scheme: a time and HMACs in one header, over ``TIME.body``."""

import hmac
from collections.abc import Sequence

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.body_hmac import sign_hmac
from hookstream.app.providers.signatures.digests import digests_of, keys_of, match, parts_of
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_timestamp

__all__ = ["sign_stripe", "verify_stripe"]


def sign_stripe(body: bytes, secret: str, now: float) -> str:
    """A Stripe-Signature."""
    return f"t={int(now)},v1={sign_hmac(b'%d.%s' % (int(now), body), secret)}"


def verify_stripe(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    *,
    now: float,
    tolerance_seconds: float,
) -> None:
    """``t=TIME,v1=HEX[,v1=HEX…]`` over ``TIME.body``. Raises SignatureError."""
    keys = keys_of(secrets)
    pairs = [
        entry.lstrip(" ").partition("=") for entry in parts_of(request.joined(header), ",", header)
    ]
    # on several lines each may say it
    times = list(dict.fromkeys(value for name, _, value in pairs if name == "t"))
    if len(times) != 1:
        raise SignatureError(f"{header} does not carry one time, t=…")
    check_timestamp(times[0], now, tolerance_seconds, f"the time in {header}")
    candidates = digests_of(header, (value for name, _, value in pairs if name == "v1"), "hex")
    signed = times[0].encode() + b"." + request.body
    match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)
