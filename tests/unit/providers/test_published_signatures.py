"""Signatures that senders have published: in the tests of their own libraries, or on their pages.

What a sender's library makes of a key and a body is no opinion of ours about its scheme.
"""

import base64
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from standardwebhooks.webhooks import Webhook

from hookstream.app.errors import SignatureError
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import AnyAge, SignatureOptions
from tests.support.senders import ADYEN, ADYEN_OTHER, FORM, NOW, WHSEC, request

FIXTURES = Path(__file__).parent / "fixtures"


def published(
    name: str, secret: str, headers: dict[str, str], body: bytes, url: str = "https://x.test/"
) -> None:
    """It verifies, at whatever age; and not with a byte more, or another secret."""
    verify = PROVIDERS[name].verify
    verify(request(headers, body, url), (secret,), AnyAge(), NOW)
    other = secret[:-1] + ("1" if secret[-1] != "1" else "2")
    for bad, key in ((body + b" ", secret), (body, other)):
        # white space is nothing to a scheme that signs fields
        if bad == body or not PROVIDERS[name].seal:
            with pytest.raises(SignatureError):
                verify(request(headers, bad, url), (key,), AnyAge(), NOW)


def test_square() -> None:
    # https://developer.squareup.com/docs/webhooks/step3validate
    headers = {"x-square-hmacsha256-signature": "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="}
    published("square", "asdf1234", headers, b'{"hello":"world"}', "https://example.com/webhook")


def test_paddle() -> None:
    # github.com/PaddleHQ/paddle-python-sdk, tests/Unit/Notification/test_Verifier.py
    signature = "d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02"
    headers = {"Paddle-Signature": f"ts=1696195954;h1=dummy;h1={signature}"}
    secret = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh"
    published("paddle", secret, headers, b"hello-world")


def test_razorpay() -> None:
    # github.com/razorpay/razorpay-python, tests/test_client_utility.py
    signature = "d60e67fd884556c045e9be7dad57903e33efc7172c17c6e3ef77db42d2b366e9"
    body = (FIXTURES / "razorpay" / "payment-authorized.json").read_bytes()
    published("razorpay", "key_secret", {"X-Razorpay-Signature": signature}, body)


def adyen(**item: object) -> bytes:
    items = [{"NotificationRequestItem": item}]
    return json.dumps({"live": "false", "notificationItems": items}).encode()


def test_adyen() -> None:
    # github.com/Adyen/adyen-python-api-library, test/UtilTest.py
    item = {
        "pspReference": "7914073381342284",
        "merchantReference": "TestPayment-1407325143704",
        "merchantAccountCode": "TestMerchant",
        "amount": {"currency": "EUR", "value": 1130},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": {"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},
    }
    published("adyen", ADYEN, {}, adyen(**item))
    with pytest.raises(SignatureError):
        published("adyen", ADYEN, {}, adyen(**item | {"success": "false"}))


@pytest.mark.parametrize(
    ("reference", "psp", "signature"),
    [
        (":slashes are fun", "M8NB66SBZSGLNK82", "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA="),
        (r"\\slashes are fun", "T7FD4VM4D3RZNN82", "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo="),
    ],
)
def test_adyen_signs_colons_and_backslashes_as_they_are(
    reference: str, psp: str, signature: str
) -> None:
    # the same repository, test/mocks/util
    item = {
        "pspReference": psp,
        "merchantReference": reference,
        "merchantAccountCode": "AntoniStroinski",
        "amount": {"currency": "EUR", "value": 1000},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": {"hmacSignature": signature},
    }
    published("adyen", ADYEN_OTHER, {}, adyen(**item))


def test_adyen_every_item_is_signed_and_a_field_that_stands_twice_is_the_later() -> None:
    verify = PROVIDERS["adyen"].verify
    item = {"pspReference": "p", "eventCode": "REFUND", "amount": {"value": 1, "currency": "EUR"}}
    text = b"p::::1:EUR:REFUND:"
    digest = hmac.digest(bytes.fromhex(ADYEN), text, "sha256")
    good = item | {"additionalData": {"hmacSignature": base64.b64encode(digest).decode()}}
    body = adyen(**good)
    verify(request({}, body), (ADYEN,), SignatureOptions(), NOW)
    forged = body.replace(b'"currency": "EUR"}', b'"currency": "EUR"}, "amount": {"value": 9}')
    assert forged != body
    unsigned = json.loads(body)
    unsigned["notificationItems"].append({"NotificationRequestItem": item})
    for bad in (forged, json.dumps(unsigned).encode(), b'{"notificationItems": []}', b"[]"):
        with pytest.raises(SignatureError):
            verify(request({}, bad), (ADYEN,), SignatureOptions(), NOW)


@pytest.mark.parametrize("name", ["resend", "clerk", "bigcommerce"])
def test_standard_webhooks_by_their_own_library(name: str) -> None:
    body, now = b'{"type":"user.created","data":{}}', datetime.now(UTC)
    secret = "client-secret 123" if name == "bigcommerce" else WHSEC
    # BigCommerce's page has the library be given the base64 of the client secret
    given = base64.b64encode(secret.encode()).decode() if name == "bigcommerce" else secret
    family = "webhook" if name == "bigcommerce" else "svix"
    headers = {
        f"{family}-id": "msg_1",
        f"{family}-timestamp": str(int(now.timestamp())),
        f"{family}-signature": Webhook(given).sign("msg_1", now, body.decode()),
    }
    verify = PROVIDERS[name].verify
    verify(request(headers, body), (secret,), SignatureOptions(), now.timestamp())
    with pytest.raises(SignatureError):
        verify(request(headers, body + b" "), (secret,), SignatureOptions(), now.timestamp())


def test_mandrill_and_mailgun_as_a_client_of_theirs_tests_them() -> None:
    # github.com/anymail/django-anymail, tests: test_mandrill_webhooks.py, test_mailgun_webhooks.py
    events = '[{"event": "send"}]'
    url = "https://example.com/anymail/mandrill/"
    digest = hmac.digest(b"KEY", f"{url}mandrill_events{events}".encode(), "sha1")
    body = urlencode({"mandrill_events": events}).encode()
    headers = {**FORM, "X-Mandrill-Signature": base64.b64encode(digest).decode()}
    verify = PROVIDERS["mandrill"].verify
    verify(request(headers, body, url), ("KEY",), SignatureOptions(), NOW)
    with pytest.raises(SignatureError, match="HOOKSTREAM_PUBLIC_URL"):
        verify(request(headers, body, url + "/"), ("KEY",), SignatureOptions(), NOW)
    stamp, token = str(int(NOW)), "1234567890abcdef1234567890abcdef"
    signature = hmac.digest(b"KEY", f"{stamp}{token}".encode(), "sha256").hex()
    signed = {"timestamp": stamp, "token": token, "signature": signature}
    body = json.dumps({"event-data": {"event": "delivered"}, "signature": signed}).encode()
    verify = PROVIDERS["mailgun"].verify
    verify(request({}, body), ("KEY",), SignatureOptions(), NOW + 8 * 3600)
    with pytest.raises(SignatureError, match="this server's clock"):
        verify(request({}, body), ("KEY",), SignatureOptions(), NOW + 10 * 3600)


def test_workos_as_its_library_makes_it() -> None:
    # github.com/workos/workos-python, src/workos/webhooks/_verification.py
    body, stamp = b'{"id": "wh_123"}', str(int(NOW * 1000))
    digest = hmac.digest(b"secret", f"{stamp}.".encode() + body, "sha256").hex()
    headers = {"WorkOS-Signature": f"t={stamp}, v1={digest}"}
    published("workos", "secret", headers, body)
