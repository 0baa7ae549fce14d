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


def standard_key(secret: str, secret_format: str = "") -> bytes | None:
    """The key in a Standard Webhooks secret; None where it has none.

    ``whsec_`` and base64, also after ``v1,`` as Supabase shows it; ``raw``: the secret's own
    characters, whole, as Polar has it.
    """
    if secret_format == "raw":  # noqa: S105 the name of a format
        return secret.encode("utf-8", "surrogatepass") or None
    text = secret.removeprefix("v1,").removeprefix(_WHSEC)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) or None
    except ValueError:
        return None


def sign_standard(
    body: bytes, secret: str, message: str, now: float, secret_format: str = ""
) -> str:
    """A webhook-signature for a webhook-id and a webhook-timestamp of ``now``."""
    key = standard_key(secret, secret_format)
    if key is None:
        raise BadRequestError("the secret is not whsec_ followed by base64")
    signed = f"{message}.{int(now)}.".encode("utf-8", "surrogatepass") + body
    return "v1," + sign_hmac(signed, key, encoding="base64")


def _signatures(text: str, header: str) -> list[str]:
    """Those of version 1 in ``v1,BASE64 v1a,BASE64 …``.

    What joins the lines of a header puts a comma between them (``v1,BASE64, v1,BASE64``), which is
    also what parts a version from its signature.
    """
    found = []
    for entry in parts_of(text, " ", header):
        words = entry.strip(",").split(",")
        found += [
            value
            for version, value in zip(words[::2], words[1::2], strict=False)
            if version == "v1"
        ]
    return found


def verify_standard(
    request: WebhookRequest,
    secrets: Sequence[str],
    *,
    now: float,
    tolerance_seconds: float,
    family: str = "webhook",
    secret_format: str = "",
) -> None:
    """Standard Webhooks 1.0: ``v1,BASE64`` entries over ``id.TIME.body``.

    ``family`` is what the three headers begin with: ``webhook`` or ``svix``. Entries of other
    versions are skipped. Raises SignatureError.
    """
    keys = [key for secret in secrets if (key := standard_key(secret, secret_format))]
    if not keys:
        raise SignatureError(UNSET)
    header, time_header = f"{family}-signature", f"{family}-timestamp"
    message = request.single(f"{family}-id")
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    candidates = digests_of(header, _signatures(request.joined(header, " "), header), "base64")
    signed = f"{message}.{time}.".encode("utf-8", "surrogatepass") + request.body
    match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)
