"""What senders do: secrets of every kind, signed deliveries, and requests as they arrive."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = [
    "BODY", "FORM", "NOW", "OTHER", "PRIVATE", "SIGNING", "URL", "VERIFYING", "WHSEC", "body_of",
    "public_text", "request", "signed", "verify",
]  # fmt: skip

NOW = 1_700_000_000.0
BODY = '{"id": "evt_1", "object": "event", "type": "invoice.paid", "note": "größer 😊"}'.encode()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
URL = "https://hooks.example.com/hooks/t?tenant=a%20b"
WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PRIVATE = ec.generate_private_key(ec.SECP256R1())
PRIVATE_PEM = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_text(key: ec.EllipticCurvePrivateKey = PRIVATE) -> str:
    """A public key as SendGrid shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


#: What a sender signs with and what the tool verifies with, where that is no plain text.
SIGNING = {"sendgrid": PRIVATE_PEM, "standard": WHSEC, "gitlab": WHSEC, "basic": "ada:a:b"}
VERIFYING = {**SIGNING, "sendgrid": public_text()}
OTHER = {
    "sendgrid": public_text(ec.generate_private_key(ec.SECP256R1())),
    "standard": "whsec_" + base64.b64encode(b"another key").decode(),
    "gitlab": "whsec_" + base64.b64encode(b"another key").decode(),
    "basic": "ada:c",
}


def request(
    headers: dict[str, str], body: bytes = BODY, url: str = URL, decoded: bytes | None = None
) -> WebhookRequest:
    return WebhookRequest(
        method="POST",
        url=url,
        headers={name.lower(): (value,) for name, value in headers.items()},
        body=body,
        decoded=body if decoded is None else decoded,
    )


def body_of(name: str, now: float = NOW) -> bytes:
    if name == "twilio":
        return b"MessageSid=SM1&MessageStatus=delivered&Body=a%2Bb&Empty="
    if name == "linear":
        return json.dumps({"type": "Issue", "webhookTimestamp": int(now * 1000)}).encode()
    return BODY


def signed(
    name: str, body: bytes | None = None, *, now: float = NOW, **more: Any
) -> dict[str, str]:
    return PROVIDERS[name].sign(
        body_of(name, now) if body is None else body,
        more.get("secret", SIGNING.get(name, "a secret")),
        more.get("options", SignatureOptions()),
        now=now,
        event_type=more.get("event_type", ""),
        delivery_id="msg_1",
        url=more.get("url", URL),
    )


def verify(
    name: str,
    headers: dict[str, str],
    body: bytes | None = None,
    secrets: tuple[str, ...] | None = None,
    *,
    now: float = NOW,
    url: str = URL,
    options: SignatureOptions | None = None,
) -> None:
    hook = request(headers, body_of(name) if body is None else body, url)
    secrets = (VERIFYING.get(name, "a secret"),) if secrets is None else secrets
    PROVIDERS[name].verify(hook, secrets, options or SignatureOptions(), now)
