"""Slack's scheme: a time in a header of its own, and the HMAC of ``v0:TIME:body``."""

import hmac
from collections.abc import Sequence

from hookstream.app.providers.signatures.body_hmac import sign_hmac
from hookstream.app.providers.signatures.digests import digests_of, keys_of, match
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_timestamp

__all__ = ["sign_slack", "verify_slack"]


def sign_slack(body: bytes, secret: str, now: float) -> str:
    """An X-Slack-Signature for an X-Slack-Request-Timestamp of ``now``."""
    return "v0=" + sign_hmac(b"v0:%d:%s" % (int(now), body), secret)


def verify_slack(
    request: WebhookRequest, secrets: Sequence[str], *, now: float, tolerance_seconds: float
) -> None:
    """``v0=HEX`` over ``v0:TIME:body``, the time in a header of its own. Raises SignatureError."""
    keys = keys_of(secrets)
    header, time_header = "X-Slack-Signature", "X-Slack-Request-Timestamp"
    text = request.single(header)
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    candidates = digests_of(header, [text[3:]] if text.startswith("v0=") else [], "hex")
    signed = b"v0:" + time.encode() + b":" + request.body
    match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)
