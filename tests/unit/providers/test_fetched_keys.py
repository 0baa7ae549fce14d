"""Senders whose keys are fetched: where from, which count, and what a forger may try."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers import PROVIDERS, check_secrets, weak_secrets
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import AnyAge, SignatureOptions
from hookstream.app.providers.signatures.public_jwt import sign_public_jwt
from hookstream.app.providers.signatures.public_keys import (
    Keys,
    SigningKey,
    read_certificate,
    read_key_set,
)
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.rsa import sign_rsa
from tests.support import ROOT
from tests.support.key_host import certificate
from tests.support.senders import (
    NAMES,
    NOW,
    OTHER_PRIVATE,
    OTHER_RSA,
    PRIVATE,
    RSA,
    SIGNING,
    URL,
    VERIFYING,
    request,
)

OPTIONS = SignatureOptions()
TOPIC = NAMES["sns"][0]
CERTIFICATE = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
PAYPAL_CERTIFICATE = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-df8cd2d5"
GOOGLE = "https://www.googleapis.com/oauth2/v3/certs"
PLAID = "https://production.plaid.com/webhook_verification_key/get"
KID = "bfbd5111-8e33-4643-8ced-b2e642a72f3c"
fetched_rows = pytest.mark.parametrize("name", NAMES)


def sent(name: str, body: bytes | None = None, now: float = NOW) -> WebhookRequest:
    """A webhook as its provider sends it, with the key that stands for the provider's."""
    row = PROVIDERS[name]
    if body is None:
        [example] = (ROOT / "examples" / "payloads").glob(f"{name}-*")
        body = example.read_bytes()
    body = row.stamp(body, now) if row.stamp else body
    body = row.seal(body, SIGNING[name]) if row.seal else body
    headers = row.sign(
        body, SIGNING[name], OPTIONS, now=now, event_type="", delivery_id="msg_1", url=URL
    )
    return request(headers, body)


def secret(name: str) -> str:
    """The tool's, where the key is the provider's own."""
    return NAMES[name][0]


def sources(name: str, hook: WebhookRequest, *secrets: str) -> list[KeySource]:
    keys = PROVIDERS[name].keys
    assert keys is not None
    return list(keys(hook, secrets or (secret(name),), OPTIONS, NOW))


def verify(name: str, hook: WebhookRequest, keys: Keys, *secrets: str, now: float = NOW) -> None:
    PROVIDERS[name].verify(replace(hook, keys=keys), secrets or (secret(name),), OPTIONS, now)


def pem(key: Any = RSA, name: str = "sns.amazonaws.com", **more: Any) -> bytes:
    return certificate(key, NOW, name, **more).public_bytes(Encoding.PEM)


def jwk(key: Any, kid: str = KID, **more: Any) -> dict[str, Any]:
    kind: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else None
    kind = kind or jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig", **more}


def right_keys(name: str) -> Keys:
    key = NAMES[name][1].public_key()
    return {KID if name == "plaid" else "": SigningKey(key)}


# Where keys are


def test_each_row_says_where_its_keys_are() -> None:
    assert [s.url for s in sources("sns", sent("sns"))] == [CERTIFICATE]
    assert [s.url for s in sources("paypal", sent("paypal"))] == [PAYPAL_CERTIFICATE]
    with pytest.raises(SignatureError, match="kid"):
        sources("pubsub", sent("pubsub"))
    [google] = sources("pubsub", token_hook("pubsub", google_claims(), kid="k1"))
    assert (google.url, google.key_id) == (GOOGLE, "k1")
    # what is wrong there is no forgery
    assert not google.is_absent(404, b"")
    [plaid] = sources("plaid", sent("plaid"))
    assert (plaid.url, plaid.key_id) == (PLAID, KID)
    client, password = secret("plaid").split(":")
    assert orjson.loads(plaid.body) == {"client_id": client, "secret": password, "key_id": KID}
    assert password not in repr(plaid)


def test_plaid_is_asked_with_every_secret_of_its_environment() -> None:
    found = sources("plaid", sent("plaid"), "a:b", "sandbox:c:d")
    assert [s.url.split("/")[2] for s in found] == ["production.plaid.com", "sandbox.plaid.com"]
    assert [orjson.loads(s.body)["client_id"] for s in found] == ["a", "c"]
    # the body names an environment, too: whoever sends it does not choose
    body = b'{"webhook_type":"ITEM","webhook_code":"ERROR","environment":"sandbox"}'
    assert sources("plaid", sent("plaid", body))[0].url == PLAID


def test_plaid_knows_a_key_that_there_is_not_from_wrong_credentials() -> None:
    [plaid] = sources("plaid", sent("plaid"))
    unknown = b'{"error_type":"INVALID_INPUT","error_code":"INVALID_WEBHOOK_VERIFICATION_KEY_ID"}'
    assert plaid.is_absent(400, unknown)
    for body in (b'{"error_code":"INVALID_API_KEYS"}', b"", b"[]", b"<html>"):
        assert not plaid.is_absent(400, body)


@fetched_rows
def test_a_key_that_the_tool_has_is_not_fetched(name: str) -> None:
    assert sources(name, sent(name), VERIFYING[name]) == []


SNS_TRICKS = [
    "",
    "http" + CERTIFICATE.removeprefix("https"),
    CERTIFICATE + "?x=1",
    CERTIFICATE + "#x",
    CERTIFICATE + "\n",
    "\n" + CERTIFICATE,
    CERTIFICATE.replace("us-west-2", "US-WEST-2"),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example"),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com.cn"),
    CERTIFICATE.replace("amazonaws.com", "evilamazonaws.com"),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com."),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com:8443"),
    CERTIFICATE.replace("amazonaws.com", "amazonaws.com:443"),
    CERTIFICATE.replace("sns.", "sns.evil.example/sns."),
    CERTIFICATE.replace("sns.", "evil.example\\sns."),
    CERTIFICATE.replace("https://", "https://evil.example@"),
    CERTIFICATE.replace("https://", "https://u:p@"),
    CERTIFICATE.replace("https://sns", "https://evil-sns"),
    CERTIFICATE.replace("https://sns", "https://bucket.sns"),
    CERTIFICATE.replace("https:", "https:/"),
    # somebody's bucket, which is called sns
    CERTIFICATE.replace("us-west-2", "s3"),
    CERTIFICATE.replace("us-west-2", "s3-us-west-2"),
    CERTIFICATE.replace("us-west-2", "s3.us-west-2"),
    CERTIFICATE.replace("us-west-2", "s3-accelerate"),
    CERTIFICATE.replace("us-west-2.", ""),
    CERTIFICATE.replace("/Simple", "/../Simple"),
    CERTIFICATE.replace("/Simple", "/%2e%2e/Simple"),
    CERTIFICATE.replace("/Simple", "/x/Simple"),
    CERTIFICATE.replace("/Simple", "//Simple"),
    CERTIFICATE.replace("SimpleNotificationService-f3ec", "mine-f3ec"),
    CERTIFICATE.replace(".pem", ".pem.txt"),
    CERTIFICATE.replace("f3ec", "f3еc"),  # a Cyrillic letter
    CERTIFICATE.replace("us-west-2", "us-west-２"),
    "https://[::1]/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "https://169.254.169.254/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "//sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "file:///SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
]


@pytest.mark.parametrize("url", SNS_TRICKS)
def test_a_certificate_elsewhere_is_none_of_amazon(url: str) -> None:
    with pytest.raises(SignatureError, match="SigningCertURL"):
        sources("sns", sns(SigningCertURL=url))


@pytest.mark.parametrize(
    "host",
    [
        *("sns.eu-central-1.amazonaws.com", "sns.us-gov-west-1.amazonaws.com"),
        *("sns.ap-southeast-5.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"),
        "sns.cn-northwest-1.amazonaws.com.cn",
    ],
)
def test_all_of_amazon_s_regions_count(host: str) -> None:
    url = CERTIFICATE.replace("sns.us-west-2.amazonaws.com", host)
    assert [s.url for s in sources("sns", sns(SigningCertURL=url))] == [url]


@pytest.mark.parametrize(
    "url",
    [
        "http" + PAYPAL_CERTIFICATE.removeprefix("https"),
        PAYPAL_CERTIFICATE + "?x=1",
        PAYPAL_CERTIFICATE + "#x",
        PAYPAL_CERTIFICATE + "/..",
        PAYPAL_CERTIFICATE.replace("paypal.com", "paypal.com.evil.example"),
        PAYPAL_CERTIFICATE.replace("paypal.com", "evilpaypal.com"),
        PAYPAL_CERTIFICATE.replace("paypal.com", "paypal.com:8443"),
        PAYPAL_CERTIFICATE.replace("https://", "https://evil.example@"),
        PAYPAL_CERTIFICATE.replace("https://api", "https://evil.example/api"),
        PAYPAL_CERTIFICATE.replace("https://api", "https://api.evil"),
        PAYPAL_CERTIFICATE.replace("api.", "www."),
        PAYPAL_CERTIFICATE.replace("certs/", "certs/../"),
        PAYPAL_CERTIFICATE.replace("/v1/notifications/certs/", "/signin?returnUri="),
        PAYPAL_CERTIFICATE.replace("p", "р", 1),
    ],
)
def test_a_certificate_elsewhere_is_none_of_paypal(url: str) -> None:
    hook = sent("paypal")
    forged = replace(hook, headers={**hook.headers, "paypal-cert-url": (url,)})
    with pytest.raises(SignatureError, match="Cert-Url"):
        sources("paypal", forged)


@pytest.mark.parametrize("host", ["api-m", "api.sandbox", "api-m.sandbox"])
def test_all_of_paypal_s_hosts_count(host: str) -> None:
    hook, url = sent("paypal"), PAYPAL_CERTIFICATE.replace("api", host, 1)
    hook = replace(hook, headers={**hook.headers, "paypal-cert-url": (url,)})
    assert [s.url for s in sources("paypal", hook)] == [url]


# What is read there


@fetched_rows
def test_what_is_read_there_verifies(name: str) -> None:
    hook = sent(name)
    if name == "pubsub":
        hook = token_hook("pubsub", google_claims(), kid=KID)
        body = orjson.dumps({"keys": [jwk(OTHER_RSA, "old"), jwk(RSA)]})
    elif name == "googlechat":
        hook = chat_hook(FOR_NUMBER)
        body = orjson.dumps({"keys": [jwk(OTHER_RSA, "old"), jwk(RSA)]})
    elif name == "plaid":
        body = orjson.dumps({"key": jwk(PRIVATE, expired_at=None, created_at=1), "request_id": "r"})
    else:
        body = pem(RSA, "messageverificationcerts.paypal.com")
    [source] = sources(name, hook)
    verify(name, hook, source.read(body))
    with pytest.raises(SignatureError):
        verify(name, hook, {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ec.generate_private_key(ec.SECP384R1())),
        b"<html>" * 100,
    ],
    ids=["empty", "broken", "a key", "RSA of 1,024 bits", "P-384", "a page"],
)
def test_what_is_no_safe_certificate_is_no_key(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_certificate(body)


@pytest.mark.parametrize(
    "found",
    [
        [],
        {},
        {"keys": {}},
        {"keys": []},
        {"keys": [1, None, {"kid": 1}]},
        {"keys": [{"kid": "a", "kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": [{**jwk(RSA), "use": "enc"}]},
        {"keys": [{**jwk(RSA), "n": "AQAB"}]},
        {"keys": [jwk(rsa.generate_private_key(65537, 1024))]},
    ],
)
def test_what_is_no_key_set_has_no_keys(found: Any) -> None:
    with pytest.raises(ValueError):
        read_key_set(orjson.dumps(found))


def test_one_bad_key_of_a_set_takes_nothing_from_the_others() -> None:
    found = read_key_set(orjson.dumps({"keys": [{"kid": "a", "kty": "oct"}, 1, jwk(RSA, "b")]}))
    assert list(found) == ["b"]
    many = [jwk(RSA, f"{n}") for n in range(100)]
    assert len(read_key_set(orjson.dumps({"keys": many}))) == 64


def test_paypal_signs_with_a_certificate_in_its_name() -> None:
    [source] = sources("paypal", sent("paypal"))
    for name in (
        *("messageverificationcerts.paypal.com.evil.example", "www.paypal.com", "evil.example"),
        *("messageverificationcerts.evilpaypal.com", "xmessageverificationcerts.paypal.com"),
    ):
        with pytest.raises(ValueError, match="not one that PayPal signs with"):
            source.read(pem(RSA, name))
    for name in (
        "messageverificationcerts.paypal.com",
        "messageverificationcerts.sandbox.paypal.com",
    ):
        assert source.read(pem(RSA, name))


@pytest.mark.parametrize("name", ["sns", "paypal"])
def test_a_certificate_counts_while_it_is_valid(name: str) -> None:
    hook = sent(name)
    for times, said in (
        ({"ends": -1.0, "begins": -1000.0}, "has expired"),
        ({"begins": 10.0}, "is not valid yet"),
    ):
        keys = read_certificate(pem(RSA, **times))
        with pytest.raises(SignatureError, match=said):
            verify(name, hook, keys)
    # what was signed while it was valid counts, for as long as it may be late
    keys = read_certificate(pem(RSA, ends=10.0))
    verify(name, hook, keys, now=NOW + 3600)
    PROVIDERS[name].verify(replace(hook, keys=keys), (secret(name),), AnyAge(), NOW + 1e8)


def test_a_key_of_plaid_counts_until_it_expires() -> None:
    [source] = sources("plaid", sent("plaid"))
    keys = source.read(orjson.dumps({"key": jwk(PRIVATE, expired_at=NOW - 1)}))
    with pytest.raises(SignatureError, match="has expired"):
        verify("plaid", sent("plaid"), keys)
    verify("plaid", sent("plaid"), source.read(orjson.dumps({"key": jwk(PRIVATE, expired_at=NOW)})))
    for found in ([], {}, {"key": None}, {"key": {}}, {"key": jwk(OTHER_RSA, kid=1)}):
        with pytest.raises(ValueError):
            source.read(orjson.dumps(found))
    for ends in ("soon", [1], True):
        with pytest.raises(ValueError):
            source.read(orjson.dumps({"key": jwk(PRIVATE, expired_at=ends)}))


# SNS


def sns(sign: bool = True, key: Any = RSA, **fields: Any) -> WebhookRequest:
    """A notification with other fields; None leaves one out."""
    [example] = (ROOT / "examples" / "payloads").glob("sns-*")
    stamp, seal = PROVIDERS["sns"].stamp, PROVIDERS["sns"].seal
    assert stamp
    assert seal
    body = {**orjson.loads(stamp(example.read_bytes(), NOW)), **fields}
    body = {name: value for name, value in body.items() if value is not None}
    if sign:
        sealed = orjson.loads(seal(orjson.dumps(body), SIGNING["sns"]))
        body = {**sealed, "TopicArn": body["TopicArn"]}
    return request({}, orjson.dumps(body))


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_sns_signs_is_what_its_page_says(version: str) -> None:
    """The text is written out here as Amazon's page does it, and signed by nothing of ours."""
    said = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "My First Message",
        "Message": "Hello\nworld! größer 😊",
        "Timestamp": "2023-11-14T22:13:20.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
    }
    text = (
        "Message\nHello\nworld! größer 😊\n"
        "MessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n"
        "Subject\nMy First Message\n"
        "Timestamp\n2023-11-14T22:13:20.000Z\n"
        f"TopicArn\n{TOPIC}\n"
        "Type\nNotification\n"
    )
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = base64.b64encode(RSA.sign(text.encode(), PKCS1v15(), digest)).decode()
    hook = request({}, orjson.dumps({**said, "Signature": signature}))
    verify("sns", hook, right_keys("sns"))
    # by the other digest it is none
    other = "2" if version == "1" else "1"
    hook = request({}, orjson.dumps({**said, "Signature": signature, "SignatureVersion": other}))
    with pytest.raises(SignatureError, match="does not match"):
        verify("sns", hook, right_keys("sns"))


def test_a_confirmation_signs_its_address_and_token() -> None:
    verify("sns", confirmation(), right_keys("sns"))
    for name in ("SubscribeURL", "Token"):
        body = {**orjson.loads(confirmation().body), name: "another"}
        with pytest.raises(SignatureError, match="does not match"):
            verify("sns", request({}, orjson.dumps(body)), right_keys("sns"))


def test_a_message_of_another_topic_is_refused_though_amazon_signed_it() -> None:
    """Anybody can have a topic: it is signed by the same certificate."""
    hook = sns(TopicArn="arn:aws:sns:us-west-2:999999999999:evil")
    for ask in (lambda: sources("sns", hook), lambda: verify("sns", hook, right_keys("sns"))):
        with pytest.raises(SignatureError, match="none of the topics"):
            ask()


def test_a_message_cannot_be_cut_into_fields_in_another_way() -> None:
    """What is signed is one text: with line breaks in fields it could be read in other ways."""
    hook = sns(Subject="S", Message="M")
    body = orjson.loads(hook.body)
    again = {**body, "MessageId": f"{body['MessageId']}\nSubject\nS"}
    del again["Subject"]
    with pytest.raises(SignatureError, match="none that Amazon SNS sends"):
        verify("sns", request({}, orjson.dumps(again)), right_keys("sns"))


def test_who_publishes_to_a_topic_of_their_own_cannot_write_for_another() -> None:
    """Amazon signs what they wrote, with fields of another message in it."""
    time, evil = "2023-11-14T22:13:20.000Z", "arn:aws:sns:us-west-2:999999999999:evil"
    rest = f"MessageId\nreal\nTimestamp\n{time}\nTopicArn\n{evil}\nType\nNotification"
    fields = f"MessageId\nx\nTimestamp\n{time}\nTopicArn\n{TOPIC}\nType\nNotification"
    said = {
        "Message": "M",
        "MessageId": "x",
        "Timestamp": time,
        "TopicArn": TOPIC,
        "Type": "Notification",
        "SignatureVersion": "2",
        "Signature": sign_rsa(RSA, f"Message\nM\n{fields}\n{rest}\n".encode()),
        "SigningCertURL": CERTIFICATE,
    }
    own = {"Message": f"M\n{fields}", "MessageId": "real", "TopicArn": evil}
    moved = rest.rpartition("\nType")[0]
    ways: list[dict[str, str]] = [
        {},
        {"Type": f"Notification\n{rest}"},
        {"TopicArn": f"{TOPIC}\nType\nNotification\n{moved}"},
        own,
    ]
    for way in ways:
        hook = request({}, orjson.dumps({**said, **way}))
        with pytest.raises(SignatureError):
            verify("sns", hook, right_keys("sns"))
    # it is what it is for who has that topic
    verify("sns", request({}, orjson.dumps({**said, **own})), right_keys("sns"), evil)


@pytest.mark.parametrize(
    "fields",
    [
        {"SignatureVersion": "3"},
        {"SignatureVersion": 1},
        {"SignatureVersion": None},
        {"Type": "notification"},
        {"Type": None},
        {"MessageId": None},
        {"MessageId": 1},
        {"Message": {"a": 1}},
        {"Message": None},
        {"Signature": ""},
        {"Signature": "%%%"},
        {"Signature": ["a"]},
        {"Timestamp": "yesterday"},
        {"Timestamp": None},
        {"Subject": 1},
    ],
)
def test_what_sns_does_not_send_is_refused(fields: dict[str, Any]) -> None:
    body = {**orjson.loads(sns().body), **fields}
    hook = request({}, orjson.dumps({k: v for k, v in body.items() if v is not None}))
    with pytest.raises(SignatureError):
        verify("sns", hook, right_keys("sns"))


def test_no_subject_and_an_empty_one_are_not_the_same() -> None:
    verify("sns", sns(Subject=None), right_keys("sns"))
    body = orjson.loads(sns(Subject=None).body)
    verify("sns", request({}, orjson.dumps({**body, "Subject": None})), right_keys("sns"))
    with pytest.raises(SignatureError, match="does not match"):
        verify("sns", request({}, orjson.dumps({**body, "Subject": ""})), right_keys("sns"))


def test_raw_delivery_is_told_from_a_forgery() -> None:
    hook = request({"x-amz-sns-rawdelivery": "true"}, b'{"TopicArn": "x"}')
    with pytest.raises(SignatureError, match="turn it off"):
        sources("sns", hook)


TOKEN = "2336412f37fb687f5d51e6e241d09c805a5a57b3"
SUBSCRIBE = f"https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}"


def confirmation(url: str = SUBSCRIBE, **more: Any) -> WebhookRequest:
    fields = {"Type": "SubscriptionConfirmation", "Token": TOKEN, "SubscribeURL": url}
    return sns(**{"Subject": None, "Message": "You have chosen", **fields, **more})


def confirm(hook: WebhookRequest) -> str | None:
    ask = PROVIDERS["sns"].confirm
    assert ask
    return ask(hook)


def test_only_a_subscription_asks_for_a_confirmation() -> None:
    assert confirm(confirmation()) == SUBSCRIBE
    quoted = SUBSCRIBE.replace(TOPIC, TOPIC.replace(":", "%3A"))
    assert confirm(confirmation(quoted)) == quoted
    assert confirm(sns()) is None
    gone = confirmation(Type="UnsubscribeConfirmation")
    # to call its address would subscribe anew
    assert confirm(gone) is None
    assert PROVIDERS["sns"].event_type(gone, OPTIONS) == "UnsubscribeConfirmation"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://evil.example/?Action=ConfirmSubscription",
        SUBSCRIBE.replace("https", "http"),
        SUBSCRIBE.replace("amazonaws.com", "amazonaws.com.evil.example"),
        SUBSCRIBE.replace("amazonaws.com", "amazonaws.com:80"),
        SUBSCRIBE.replace("https://", "https://evil.example@"),
        SUBSCRIBE.replace("us-west-2", "s3-us-west-2", 1),
        SUBSCRIBE.replace("ConfirmSubscription", "Publish"),
        SUBSCRIBE.replace("ConfirmSubscription", "Unsubscribe"),
        SUBSCRIBE + "&Action=DeleteTopic",
        SUBSCRIBE + "#",
        SUBSCRIBE.replace("123456789012", "999999999999"),
        SUBSCRIBE.replace("/?", "/x?"),
    ],
)
def test_only_amazon_s_own_address_is_called_to_confirm(url: str) -> None:
    with pytest.raises(SignatureError, match="SubscribeURL"):
        confirm(confirmation(url))


# Tokens


def google_claims(**more: Any) -> dict[str, Any]:
    claims = {
        "aud": URL,
        "email": secret("pubsub"),
        "email_verified": True,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "iss": "https://accounts.google.com",
        "sub": "113774264463038321964",
        **more,
    }
    return {name: value for name, value in claims.items() if value is not None}


def token_hook(
    name: str, claims: Any, key: Any = None, kid: str = "", **head: Any
) -> WebhookRequest:
    """The example with a token of these claims."""
    text = claims if isinstance(claims, str) else token(name, claims, key, kid, **head)
    header, scheme = (
        ("authorization", "Bearer ") if name == "pubsub" else ("plaid-verification", "")
    )
    return replace(sent(name), headers={header: (scheme + text,)})


def token(name: str, claims: Any, key: Any = None, kid: str = "", **head: Any) -> str:
    if not head:
        algorithm: Any = "RS256" if name == "pubsub" else "ES256"
        return sign_public_jwt(claims, key or NAMES[name][1], algorithm, kid)
    return raw_token({"alg": "RS256" if name == "pubsub" else "ES256", **head}, claims, b"x" * 64)


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw_token(head: Any, claims: Any, signature: bytes | Callable[[bytes], bytes]) -> str:
    signed = f"{part(head)}.{part(claims)}"
    made = signature if isinstance(signature, bytes) else signature(signed.encode())
    return f"{signed}.{part(made)}"


def plaid_claims(body: bytes) -> dict[str, Any]:
    return {"iat": int(NOW), "request_body_sha256": hashlib.sha256(body).hexdigest()}


def forged_tokens(name: str) -> dict[str, str]:
    """What forgers of tokens do, who know the public key and the claims that count."""
    public = NAMES[name][1].public_key()
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    claims = google_claims() if name == "pubsub" else plaid_claims(sent(name).body)
    other: Any = OTHER_RSA if name == "pubsub" else OTHER_PRIVATE
    own: Any = "RS256" if name == "pubsub" else "ES256"
    genuine = token(name, claims, None, KID)
    head, said, signature = genuine.split(".")
    tokens = {
        "none": raw_token({"alg": "none", "kid": KID}, claims, b""),
        "None": raw_token({"alg": "None", "kid": KID}, claims, b""),
        "no alg": raw_token({"kid": KID}, claims, b"x"),
        "alg of another kind": raw_token({"alg": ["RS256", "ES256"], "kid": KID}, claims, b"x"),
        "other key": sign_public_jwt(claims, other, own, KID),
        "own key in the header": raw_token(
            {"alg": own, "kid": KID, "jwk": jwk(other)},
            claims,
            base64.urlsafe_b64decode(sign_public_jwt(claims, other, own).split(".")[2] + "=="),
        ),
        "address of a key": raw_token(
            {
                "alg": own,
                "kid": KID,
                "jku": "https://evil.example/k",
                "x5u": "https://evil.example",
            },
            claims,
            b"x" * 64,
        ),
        "unknown kid": sign_public_jwt(claims, NAMES[name][1], own, "another"),
        "kid no text": raw_token({"alg": own, "kid": {"a": 1}}, claims, b"x"),
        "unknown crit": raw_token({"alg": own, "kid": KID, "crit": ["exp"]}, claims, b"x" * 64),
        "not encoded": raw_token({"alg": own, "kid": KID, "b64": False}, claims, b"x" * 64),
        "claims changed": f"{head}.{part({**claims, 'iat': int(NOW) + 1})}.{signature}",
        "no signature": f"{head}.{said}.",
        "two parts": f"{head}.{said}",
        "four parts": f"{genuine}.{signature}",
        "five parts": f"{genuine}.a.b",
        "no base64": f"{head}.{said}.%%%",
        "spaces": f"{head}.{said}.{signature} ",
        "deep header": f"{part(b'[' * 900 + b']' * 900)}.{said}.{signature}",
        "deeper header": f"{part(b'[' * 3000 + b']' * 3000)}.{said}.{signature}",
        "surrogates": f"{head}.{said}.\udcff",
        "header no object": f"{part([1])}.{said}.{signature}",
    }
    for size, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
        for what, key in (("PEM", text), ("DER", der), ("empty key", b"")):
            tokens[f"{size} by {what}"] = raw_token(
                {"alg": size, "kid": KID}, claims,
                lambda signed, key=key, digest=digest: hmac.digest(key, signed, digest),
            )  # fmt: skip
    return tokens


@pytest.mark.parametrize("name", ["pubsub", "plaid"])
def test_forged_tokens_are_refused(name: str) -> None:
    keys = {KID: SigningKey(NAMES[name][1].public_key())}
    claims = google_claims() if name == "pubsub" else plaid_claims(sent(name).body)
    verify(name, token_hook(name, claims, kid=KID), keys)
    for what, text in forged_tokens(name).items():
        hook = token_hook(name, text)
        with pytest.raises(SignatureError) as caught:
            verify(name, hook, keys)
        assert "x" * 20 not in str(caught.value), what


@pytest.mark.parametrize("name", ["pubsub", "plaid"])
def test_no_key_is_asked_for_by_what_is_no_token_of_the_algorithm(name: str) -> None:
    for what in ("none", "no alg", "HS256 by PEM", "kid no text", "two parts", "five parts"):
        with pytest.raises(SignatureError):
            sources(name, token_hook(name, forged_tokens(name)[what]))


def test_one_token_is_not_several() -> None:
    """Bits that base64 leaves over could be anything."""
    hook = token_hook("plaid", plaid_claims(sent("plaid").body), kid=KID)
    [text] = hook.headers["plaid-verification"]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = letters.index(text[-1])
    # 64 bytes leave four bits of the last letter
    for other in range(at - at % 16, at - at % 16 + 16):
        again = token_hook("plaid", text[:-1] + letters[other])
        if other != at:
            with pytest.raises(SignatureError):
                verify("plaid", again, right_keys("plaid"))


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "evil@evil.iam.gserviceaccount.com"},
        {"email": None},
        {"email": ["push@acme-prod.iam.gserviceaccount.com"]},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"iss": "https://accounts.google.com.evil.example"},
        {"iss": None},
        {"aud": "https://other.example.com/hooks/t"},
        {"aud": URL + "/"},
        {"aud": [URL]},
        {"aud": None},
        {"iat": int(NOW) - 3901},
        {"iat": int(NOW) + 3901},
        {"iat": str(NOW)},
        {"iat": True},
        {"iat": None},
        {"iat": 1e300},
        {"exp": int(NOW) - 301},
        {"exp": None},
        {"exp": "never"},
    ],
    ids=str,
)
def test_a_token_of_google_for_something_else_is_refused(claims: dict[str, Any]) -> None:
    hook = token_hook("pubsub", google_claims(**claims))
    with pytest.raises(SignatureError):
        verify("pubsub", hook, right_keys("pubsub"))


def test_the_audience_is_what_is_set_else_the_tool_s_url() -> None:
    options = SignatureOptions(audience="hookstream")
    for aud, ok in (("hookstream", True), (URL, False)):
        hook = replace(token_hook("pubsub", google_claims(aud=aud)), keys=right_keys("pubsub"))
        if ok:
            PROVIDERS["pubsub"].verify(hook, (secret("pubsub"),), options, NOW)
        else:
            with pytest.raises(SignatureError, match="audience"):
                PROVIDERS["pubsub"].verify(hook, (secret("pubsub"),), options, NOW)


def test_claims_may_be_anything() -> None:
    for claims in ([], 1, "a", None, {"iat": [1]}, {"iat": {}}):
        for name, key in (("pubsub", RSA), ("plaid", PRIVATE)):
            algorithm: Any = "RS256" if name == "pubsub" else "ES256"
            text = sign_public_jwt(claims, key, algorithm)  # type: ignore[arg-type]
            with pytest.raises(SignatureError):
                verify(name, token_hook(name, text), {"": SigningKey(key.public_key())})


def test_plaid_s_token_is_for_its_body_alone() -> None:
    hook = sent("plaid")
    other = WebhookRequest("POST", URL, hook.headers, b"{}", b"{}", right_keys("plaid"))
    with pytest.raises(SignatureError, match="does not match"):
        PROVIDERS["plaid"].verify(other, (secret("plaid"),), OPTIONS, NOW)


def test_plaid_s_equal_bodies_are_told_apart_by_when_they_were_signed() -> None:
    content = PROVIDERS["plaid"].content
    assert content
    one, two, again = sent("plaid"), sent("plaid", now=NOW + 60), sent("plaid")
    assert content(one) == content(again) != content(two)
    # two signatures of ECDSA over the same are never the same
    assert one.headers != again.headers
    assert content(replace(one, headers={})) == one.body


# Several secrets, and keys that the tool has


@fetched_rows
def test_a_key_that_the_tool_has_counts_for_its_own_name_only(name: str) -> None:
    hook = sent(name)
    named = f"{secret(name)} {VERIFYING[name].rpartition(' ')[2]}"
    verify(name, hook, {}, named)
    # by this name the provider's keys count no more
    other = f"{secret(name)} {VERIFYING['plaid' if name != 'plaid' else 'sns'].rpartition(' ')[2]}"
    with pytest.raises(SignatureError):
        verify(name, hook, right_keys(name), other)
    verify(name, hook, right_keys(name), other, secret(name))


@fetched_rows
def test_what_follows_a_name_and_is_no_key_makes_nothing_of_it(name: str) -> None:
    """Where the key is broken the provider's do not stand in for it."""
    with pytest.raises(SignatureError, match="the tool has no secret"):
        verify(name, sent(name), right_keys(name), f"{secret(name)} nonsense")
    with pytest.raises(BadRequestError, match="no public key"):
        check_secrets(PROVIDERS[name], [f"{secret(name)} nonsense"])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sns", "arn:aws:sns:us-west-2:123456789012"),
        ("sns", "arn:aws:sqs:us-west-2:123456789012:MyTopic"),
        ("sns", "arn:aws:sns:*:*:*"),
        ("sns", "MyTopic"),
        ("plaid", "only-one-part"),
        ("plaid", "staging:a:b"),
        ("plaid", ":b"),
        ("plaid", "a:"),
        ("wix", "not a key"),
    ],
)
def test_secrets_that_let_nothing_in_are_refused(name: str, wrong: str) -> None:
    with pytest.raises(BadRequestError, match="secrets: number 1"):
        check_secrets(PROVIDERS[name], [wrong])


@pytest.mark.parametrize(
    "right",
    [
        "arn:aws:sns:us-east-1:123456789012:orders.fifo",
        "arn:aws-cn:sns:cn-north-1:123456789012:orders",
        "arn:aws-us-gov:sns:us-gov-west-1:123456789012:orders",
    ],
)
def test_topics_of_every_partition_are_secrets(right: str) -> None:
    check_secrets(PROVIDERS["sns"], [right])


def test_paypal_s_webhook_of_another_id_is_another() -> None:
    with pytest.raises(SignatureError, match="does not match"):
        verify("paypal", sent("paypal"), right_keys("paypal"), "WEBHOOK_ID")
    verify("paypal", sent("paypal"), right_keys("paypal"), "WEBHOOK_ID", secret("paypal"))


def test_what_paypal_signs_is_what_its_page_says() -> None:
    body = b'{"id":"WH-1"}'
    text = "a-b-c|2023-11-14T22:13:20Z|5L518819FA0214926|838965618"
    headers = {
        "PAYPAL-TRANSMISSION-ID": "a-b-c",
        "PAYPAL-TRANSMISSION-TIME": "2023-11-14T22:13:20Z",
        "PAYPAL-TRANSMISSION-SIG": sign_rsa(RSA, text.encode()),
        "PAYPAL-CERT-URL": PAYPAL_CERTIFICATE,
    }
    verify("paypal", request(headers, body), right_keys("paypal"))
    # parts cannot be moved over their border
    moved = {
        **headers,
        "PAYPAL-TRANSMISSION-ID": "a-b-c|2023-11-14T22:13:20Z",
    }
    with pytest.raises(SignatureError):
        verify("paypal", request(moved, body), right_keys("paypal"))


def test_a_key_for_another_algorithm_verifies_nothing() -> None:
    for name, key in (("sns", PRIVATE), ("paypal", PRIVATE), ("pubsub", PRIVATE), ("plaid", RSA)):
        keys = {"": SigningKey(key.public_key()), KID: SigningKey(key.public_key())}
        with pytest.raises(SignatureError):
            verify(name, sent(name), keys)


def test_wix_verifies_the_whole_body() -> None:
    row = PROVIDERS["wix"]
    hook = sent("wix")
    row.verify(hook, (VERIFYING["wix"],), OPTIONS, NOW)
    assert row.event_type(hook, OPTIONS) == "wix.contacts.v4.contact_created"
    forged = [
        raw_token({"alg": "none"}, {"iat": NOW}, b""),
        raw_token({"alg": "HS256"}, {"iat": NOW}, lambda s: hmac.digest(b"", s, "sha256")),
        sign_public_jwt({"iat": NOW}, OTHER_RSA, "RS256"),
        sign_public_jwt({}, RSA, "RS256"),
    ]
    for text in forged:
        with pytest.raises(SignatureError):
            row.verify(request({}, text.encode()), (VERIFYING["wix"],), OPTIONS, NOW)


def test_keys_count_for_ever_unless_they_say_otherwise() -> None:
    SigningKey(RSA.public_key()).check_valid(math.pi)


# Google Chat: for a project's number by keys of its own, for an address by Google's

CHAT = "chat@system.gserviceaccount.com"
CHAT_KEYS = f"https://www.googleapis.com/service_accounts/v1/jwk/{CHAT}"
NUMBER, ADDRESS = "846532198470", "https://hooks.example.com/hooks/chat"
FOR_NUMBER = {"aud": NUMBER, "iss": CHAT}
FOR_ADDRESS = {
    "aud": ADDRESS,
    "iss": "https://accounts.google.com",
    "email": CHAT,
    "email_verified": True,
}


def chat_hook(claims: dict[str, Any], key: Any = RSA, kid: str = KID) -> WebhookRequest:
    times = {"iat": int(NOW), "exp": int(NOW) + 3600}
    text = sign_public_jwt({**times, **claims}, key, "RS256", kid)
    return replace(sent("googlechat"), headers={"authorization": (f"Bearer {text}",)})


def test_chat_signs_for_a_number_by_its_own_keys_and_for_an_address_by_google_s() -> None:
    for claims, audience, url in (
        (FOR_NUMBER, NUMBER, CHAT_KEYS),
        (FOR_ADDRESS, ADDRESS, GOOGLE),
    ):
        hook = chat_hook(claims)
        [source] = sources("googlechat", hook, audience)
        assert (source.url, source.key_id) == (url, KID)
        assert not source.is_absent(404, b"")
        keys = {KID: SigningKey(RSA.public_key())}
        verify("googlechat", hook, keys, audience)
        # either audience may be one of several
        verify("googlechat", hook, keys, ADDRESS, NUMBER)
    found = sources("googlechat", chat_hook(FOR_NUMBER), NUMBER, ADDRESS, "12345678901")
    assert [source.url for source in found] == [CHAT_KEYS, GOOGLE]


@pytest.mark.parametrize(
    ("claims", "audience"),
    [
        ({**FOR_NUMBER, "aud": "12345678901"}, NUMBER),
        ({**FOR_NUMBER, "aud": int(NUMBER)}, NUMBER),
        ({**FOR_NUMBER, "aud": [NUMBER]}, NUMBER),
        # anybody can have Google sign for any audience
        ({**FOR_ADDRESS, "aud": NUMBER}, NUMBER),
        ({**FOR_NUMBER, "iss": "https://accounts.google.com"}, NUMBER),
        ({**FOR_NUMBER, "iss": "me@acme.iam.gserviceaccount.com"}, NUMBER),
        ({**FOR_NUMBER, "exp": int(NOW) - 301}, NUMBER),
        ({**FOR_NUMBER, "exp": None}, NUMBER),
        ({**FOR_NUMBER, "iat": int(NOW) - 4000, "exp": int(NOW) + 10**7}, NUMBER),
        ({**FOR_NUMBER, "iat": None}, NUMBER),
        (FOR_ADDRESS, ADDRESS + "/"),
        ({**FOR_ADDRESS, "email": "me@acme.iam.gserviceaccount.com"}, ADDRESS),
        ({**FOR_ADDRESS, "email_verified": "true"}, ADDRESS),
        ({**FOR_ADDRESS, "iss": CHAT}, ADDRESS),
        (FOR_ADDRESS, NUMBER),
        (FOR_NUMBER, ADDRESS),
    ],
)
def test_a_token_of_google_that_is_none_of_chat_is_refused(
    claims: dict[str, Any], audience: str
) -> None:
    keys = {KID: SigningKey(RSA.public_key())}
    with pytest.raises(SignatureError):
        verify("googlechat", chat_hook(claims), keys, audience)


@pytest.mark.parametrize("wrong", ["acme-prod", "http://hooks.example.com", "me@x.com", "12 x"])
def test_chat_s_secret_is_a_number_or_an_address(wrong: str) -> None:
    with pytest.raises(BadRequestError):
        check_secrets(PROVIDERS["googlechat"], [wrong])
    # neither is anything to be guessed
    check_secrets(PROVIDERS["googlechat"], ["123456", NUMBER, ADDRESS])
    assert weak_secrets("googlechat", [NUMBER]) == 0
