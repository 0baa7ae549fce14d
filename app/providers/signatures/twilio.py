"""Twilio's scheme: HMAC of the URL and the fields of a form, or the body's hash in the URL."""

import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit, urlunsplit

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.body_hmac import sign_hmac
from hookstream.app.providers.signatures.digests import (
    DIGEST_BYTES,
    Algorithm,
    digest_of,
    digests_of,
    keys_of,
    match,
    parts_of,
)
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.form import FORM, MAX_FORM_FIELDS, form_pairs

__all__ = ["sign_twilio", "verify_twilio"]


def sign_twilio(url: str, body: bytes, content_type: str, secret: str) -> str:
    """An X-Twilio-Signature; a body that is no form needs ``bodySHA256`` in the URL."""
    fields = _twilio_fields(body) if content_type == FORM else ""
    return sign_hmac((url + fields).encode(), secret, "sha1", "base64")


def verify_twilio(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """HMAC of the URL and the sorted fields, or the URL with the body's hash in its query.

    Source: https://www.twilio.com/docs/usage/security#validating-requests. As in Twilio's own
    libraries the URL may have its port or not. Raises SignatureError.
    """
    keys = keys_of(secrets)
    header = "X-Twilio-Signature"
    text = request.single(header)
    algorithm = _twilio_algorithm(request)
    candidates = digests_of(header, [text], "base64", DIGEST_BYTES[algorithm])
    if request.content_type == FORM:
        try:
            fields = _twilio_fields(request.body)
        except ValueError as error:
            raise SignatureError("the body is not a form in UTF-8, as Twilio signs it") from error
    else:
        fields = ""
        _check_body_hash(request)
    expected = (
        hmac.digest(key, (url + fields).encode("utf-8", "surrogatepass"), algorithm)
        for key in keys
        for url in _with_and_without_port(request.url)
    )
    hint = "also check that the tool's public_url, or HOOKSTREAM_PUBLIC_URL, is as Twilio has it"
    match(header, expected, candidates, hint)


def _twilio_algorithm(request: WebhookRequest) -> Algorithm:
    settings_header = "X-Twilio-Webhooks-Signature-Settings"
    if not request.header(settings_header):
        return "sha1"
    for entry in parts_of(request.single(settings_header), ",", settings_header):
        name, _, value = entry.strip().partition("=")
        if name == "algorithm" and value in ("HMAC_SHA1", "HMAC_SHA256"):
            return "sha1" if value == "HMAC_SHA1" else "sha256"
    raise SignatureError(f"{settings_header} names no algorithm that is known here")


def _twilio_fields(body: bytes) -> str:
    # a name sent twice with the same value counts once, as in Twilio's libraries
    return "".join(name + value for name, value in sorted(set(form_pairs(body))))


def _check_body_hash(request: WebhookRequest) -> None:
    try:
        hashes = parse_qs(urlsplit(request.url).query, max_num_fields=MAX_FORM_FIELDS)["bodySHA256"]
    except (ValueError, KeyError) as error:
        raise SignatureError(
            "the signature does not cover this body: a form is expected, or bodySHA256 in the URL"
        ) from error
    digest = digest_of(hashes[0], 32, "hex") if len(hashes) == 1 else None
    if digest is None or not hmac.compare_digest(digest, hashlib.sha256(request.body).digest()):
        raise SignatureError("bodySHA256 in the URL is not the SHA-256 of the body")


def _with_and_without_port(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return [url]
    if port is None:
        netloc = f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    else:
        netloc = parts.netloc.rpartition(":")[0]
    return [url, urlunsplit(parts._replace(netloc=netloc))]
