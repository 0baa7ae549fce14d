"""What senders do: secrets of every kind, signed deliveries, and requests as they arrive."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from tests.support import ROOT

__all__ = [
    "BODY", "FORM", "NAMES", "NOW", "OTHER", "OTHER_PRIVATE", "OTHER_RSA",
    "OTHER_SIGNING", "PRIVATE", "RSA",
    "SIGNING", "URL", "VERIFYING", "WHSEC", "body_of", "ed25519_public_text", "private_text",
    "public_text", "request", "signed", "verify",
]  # fmt: skip

NOW = 1_700_000_000.0
BODY = '{"id": "evt_1", "object": "event", "type": "invoice.paid", "note": "größer 😊"}'.encode()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
URL = "https://hooks.example.com/hooks/t?tenant=a%20b"
WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PRIVATE = ec.generate_private_key(ec.SECP256R1())
PRIVATE_PEM = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_text(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = PRIVATE) -> str:
    """A public key as SendGrid shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def private_text(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """The private one in the same form."""
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return base64.b64encode(der).decode()


RSA, OTHER_RSA = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
OTHER_PRIVATE = ec.generate_private_key(ec.SECP256R1())
#: Whose webhooks come with a key of their provider's: the name, and the keys that stand for those.
NAMES = {
    "sns": ("arn:aws:sns:us-west-2:123456789012:MyTopic", RSA, OTHER_RSA),
    "paypal": ("5L518819FA0214926", RSA, OTHER_RSA),
    "googlechat": ("846532198470", RSA, OTHER_RSA),
    "pubsub": ("push@acme-prod.iam.gserviceaccount.com", RSA, OTHER_RSA),
    "plaid": ("5f0a1b2c3d4e5f6a7b8c9d0e:0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c", PRIVATE, OTHER_PRIVATE),
}

#: Keys as Adyen has them; the first is of its own library's tests.
ADYEN = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
ADYEN_OTHER = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"


def ed25519_public_text(seed: str) -> str:
    """The public key in hex of a private one in hex, as Discord shows it."""
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    return private.public_key().public_bytes_raw().hex()


SEED, OTHER_SEED = bytes(range(32)).hex(), bytes(range(1, 33)).hex()
#: As in the examples of payloads, which carry it.
CLIENT_STATE = "b7d1f0e2c94a4b3f8e6a"
TEAMS_TOKEN = base64.b64encode(bytes(range(32))).decode()

#: What a sender signs with and what the tool verifies with, where that is no plain text.
SIGNING = {
    "sendgrid": PRIVATE_PEM,
    "standard": WHSEC,
    "gitlab": WHSEC,
    "basic": "ada:a:P4ss-b",
    "adyen": ADYEN,
    "airtable": base64.b64encode(bytes(range(7, 39))).decode(),
    "clerk": WHSEC,
    "postmark": "ada:a:P4ss-b",
    "resend": WHSEC,
    "discord": SEED,
    "graph": CLIENT_STATE,
    "sharepoint": CLIENT_STATE,
    "teams": TEAMS_TOKEN,
    "telegram": "5eCReT-a",
}
SIGNING |= dict.fromkeys(("openai", "claude"), WHSEC)
SIGNING |= {row: f"{name} {private_text(key)}" for row, (name, key, _) in NAMES.items()}
SIGNING["wix"] = private_text(RSA)
VERIFYING = {**SIGNING, "sendgrid": public_text(), "discord": ed25519_public_text(SEED)}
VERIFYING |= {row: f"{name} {public_text(key)}" for row, (name, key, _) in NAMES.items()}
VERIFYING["wix"] = public_text(RSA)
OTHER = {
    "sendgrid": public_text(ec.generate_private_key(ec.SECP256R1())),
    "standard": "whsec_" + base64.b64encode(b"another key").decode(),
    "gitlab": "whsec_" + base64.b64encode(b"another key").decode(),
    "basic": "ada:another-P4ss",
    "adyen": ADYEN_OTHER,
    "airtable": base64.b64encode(b"another key, as long").decode(),
    "clerk": "whsec_" + base64.b64encode(b"another key").decode(),
    "postmark": "ada:another-P4ss",
    "resend": "whsec_" + base64.b64encode(b"another key").decode(),
    "discord": ed25519_public_text(OTHER_SEED),
    "teams": base64.b64encode(bytes(range(1, 33))).decode(),
    "telegram": "5eCReT-b",
}
OTHER |= dict.fromkeys(("openai", "claude"), OTHER["standard"])
OTHER |= {row: f"{name} {public_text(key)}" for row, (name, _, key) in NAMES.items()}
OTHER["wix"] = public_text(OTHER_RSA)
#: What signs for those of ``OTHER`` that are public keys.
OTHER_SIGNING = {row: f"{name} {private_text(key)}" for row, (name, _, key) in NAMES.items()}
OTHER_SIGNING["wix"] = private_text(OTHER_RSA)


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
    if name in ("graph", "sharepoint"):
        return json.dumps({"value": [{"clientState": CLIENT_STATE, "resource": "a"}]}).encode()
    if name in ("adyen", "mailgun", "sns"):
        # what is signed of theirs is in the body, and so is the signature
        [example] = (ROOT / "examples" / "payloads").glob(f"{name}-*")
        return example.read_bytes()
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
