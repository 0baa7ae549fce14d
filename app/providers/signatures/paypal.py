"""PayPal: RSA of the transmission and a checksum of the body, by a certificate of PayPal's.

Source: https://developer.paypal.com/api/rest/webhooks/rest. Of the body only its CRC-32 is signed:
who has captured one webhook can make another body with the same. TLS keeps it from being captured.
"""

import re
import zlib
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import mismatch
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import keys_for, senders
from hookstream.app.providers.signatures.public_keys import Keys, read_certificate
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.rsa import rsa_signature, verifies_rsa
from hookstream.app.providers.signatures.timestamps import check_age, iso_seconds

__all__ = [
    "ID_HEADER",
    "SIGNATURE_HEADER",
    "TIME_HEADER",
    "TOLERANCE_SECONDS",
    "URL_HEADER",
    "paypal_content",
    "paypal_keys",
    "verify_paypal",
]

ID_HEADER: Final = "PayPal-Transmission-Id"
TIME_HEADER: Final = "PayPal-Transmission-Time"
SIGNATURE_HEADER: Final = "PayPal-Transmission-Sig"
URL_HEADER: Final = "PayPal-Cert-Url"
#: PayPal repeats for three days; whether with a new time is not documented.
TOLERANCE_SECONDS: Final = 73 * 3600
_CERTIFICATE: Final = re.compile(
    r"https://api(?:-m)?(?:\.sandbox)?\.paypal\.com/v1/notifications/certs/CERT-[0-9A-Za-z-]{1,80}"
)
#: What PayPal's own SDKs want of a certificate's subject: messageverificationcerts.paypal.com.
_SUBJECT: Final = re.compile(r"messageverificationcerts(?:\.[a-z0-9-]+)*\.paypal\.com")


def paypal_content(request: WebhookRequest, webhook_id: str) -> bytes:
    """What is signed for a webhook of this id. Raises SignatureError: a header is missing."""
    parts = (request.single(ID_HEADER), request.single(TIME_HEADER), webhook_id)
    if any("|" in part for part in parts):
        raise SignatureError(f"{ID_HEADER} or {TIME_HEADER} is none that PayPal sends")
    return "|".join((*parts, str(zlib.crc32(request.body)))).encode("utf-8", "surrogatepass")


def paypal_keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    """Where the certificate is; nowhere if the tool has the key. Raises SignatureError."""
    _signed_at(request, options, now)
    if all(sender.key for sender in senders(secrets)):
        return ()
    url = request.single(URL_HEADER)
    if not _CERTIFICATE.fullmatch(url):
        raise SignatureError(f"{URL_HEADER} is no address of a certificate of PayPal")
    return (KeySource(url, _read),)


def verify_paypal(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    """Secrets are ids of webhooks. Raises SignatureError."""
    taken = senders(secrets)
    signed_at = _signed_at(request, options, now)
    signature = rsa_signature(request.single(SIGNATURE_HEADER), SIGNATURE_HEADER)
    for sender, keys in keys_for(taken, request.keys):
        content = paypal_content(request, sender.name)
        for key in keys.values():
            if verifies_rsa(key.key, signature, content):
                return key.check_valid(signed_at)
    raise SignatureError(mismatch(SIGNATURE_HEADER))


def _signed_at(request: WebhookRequest, options: SignatureOptions, now: float) -> float:
    signed_at = iso_seconds(request.single(TIME_HEADER), TIME_HEADER)
    check_age(now - signed_at, options.tolerance(TOLERANCE_SECONDS), TIME_HEADER)
    return signed_at


def _read(body: bytes) -> Keys:
    keys = read_certificate(body)
    subject = x509.load_pem_x509_certificates(body)[0].subject
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not any(_SUBJECT.fullmatch(name) for name in names):
        raise ValueError("the certificate is not one that PayPal signs with")
    return keys
