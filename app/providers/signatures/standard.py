"""Standard Webhooks 1.0 (Svix, GitLab's signing tokens): HMACs of ``id.TIME.body``."""

import base64
import hmac
from collections.abc import Sequence

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.body_hmac import sign_hmac
from hookstream.app.providers.signatures.digests import UNSET, digests_of, match, parts_of
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_timestamp

__all__ = ["sign_standard", "standard_key", "verify_standard"]

_WHSEC = "whsec_"


def standard_key(secret: str) -> bytes | None:
    """The key in a Standard Webhooks secret, ``whsec_`` and base64; None where it has none."""
    text = secret.removeprefix(_WHSEC)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) or None
    except ValueError:
        return None


def sign_standard(body: bytes, secret: str, message: str, now: float) -> str:
    """A webhook-signature for a webhook-id and a webhook-timestamp of ``now``."""
    key = standard_key(secret)
    if key is None:
        raise BadRequestError("the secret is not whsec_ followed by base64")
    signed = f"{message}.{int(now)}.".encode("utf-8", "surrogatepass") + body
    return "v1," + sign_hmac(signed, key, encoding="base64")


def verify_standard(
    request: WebhookRequest,
    secrets: Sequence[str],
    *,
    now: float,
    tolerance_seconds: float,
    family: str = "webhook",
) -> None:
    """Standard Webhooks 1.0: ``v1,BASE64`` entries over ``id.TIME.body``.

    ``family`` is what the three headers begin with: ``webhook`` or ``svix``. Entries of other
    versions are skipped. Raises SignatureError.
    """
    keys = [key for key in map(standard_key, secrets) if key]
    if not keys:
        raise SignatureError(UNSET)
    header, time_header = f"{family}-signature", f"{family}-timestamp"
    message = request.single(f"{family}-id")
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    entries = (
        entry.partition(",") for entry in parts_of(request.single(header), " ", header) if entry
    )
    candidates = digests_of(
        header, (value for version, _, value in entries if version == "v1"), "base64"
    )
    signed = f"{message}.{time}.".encode("utf-8", "surrogatepass") + request.body
    match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)
