"""Amazon SNS: a signature in the body by a certificate that Amazon has on its own hosts.

Sources: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html and Amazon's
validators (github.com/aws/aws-php-sns-message-validator). What is signed is ``Name\\nvalue\\n`` of
some fields in the order of their names. ``Message`` may have lines of its own; were others let
have them, a message could be cut into fields in another way, and pass for another.
"""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import OBJECTS, parse_json
from hookstream.app.providers.lookup import text_at, value_at
from hookstream.app.providers.signatures.digests import mismatch
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import Sender, keys_for, senders, signer
from hookstream.app.providers.signatures.public_keys import read_certificate
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.rsa import rsa_signature, sign_rsa, verifies_rsa
from hookstream.app.providers.signatures.timestamps import check_age, iso_seconds
from hookstream.codecs.json_payload import dump_json

__all__ = ["TOLERANCE_SECONDS", "is_topic", "seal_sns", "sns_keys", "subscribe_url", "verify_sns"]

NOTIFICATION: Final = "Notification"
CONFIRMATIONS: Final = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
SIGNED: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
SIGNED_OF_CONFIRMATIONS: Final = (
    *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
)
#: SNS sends again for an hour at most; a topic that is sent slowly may be hours behind.
TOLERANCE_SECONDS: Final = 24 * 3600
#: The signature is over SHA-1 unless the topic has been told to use version 2.
VERSIONS: Final = {"1": True, "2": False}

#: Of a region, and of nothing else that Amazon has under this name: ``sns.s3-us-west-2`` would be
#: somebody's bucket, which is called sns.
_REGION: Final = r"[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}"
_HOST: Final = (
    rf"https://sns\.(?:{_REGION}\.amazonaws\.com|cn(?:-[a-z]+)+-[0-9]\.amazonaws\.com\.cn)"
)
_CERTIFICATE: Final = re.compile(rf"{_HOST}/SimpleNotificationService-[0-9A-Za-z]{{16,64}}\.pem")
_SUBSCRIBE: Final = re.compile(
    rf"{_HOST}/\?Action=ConfirmSubscription&TopicArn=([A-Za-z0-9:%._-]+)&Token=[0-9A-Za-z]+"
)
_TOPIC: Final = re.compile(
    rf"arn:aws(?:-[a-z]+)*:sns:{_REGION}:[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}}(?:\.fifo)?"
)


def is_topic(text: str) -> bool:
    """Whether a text is the ARN of a topic."""
    return _TOPIC.fullmatch(text) is not None


def sns_keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    """Where the certificate is; nowhere if the tool has the key. Raises SignatureError."""
    _, payload, taken = _checked(request, secrets, options, now)
    if all(sender.key for sender in taken):
        return ()
    url = text_at(payload, "SigningCertURL")
    if not _CERTIFICATE.fullmatch(url):
        raise SignatureError("SigningCertURL is no address of a certificate of Amazon SNS")
    return (KeySource(url, read_certificate),)


def verify_sns(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    """``Signature`` in the body; secrets are ARNs of topics. Raises SignatureError."""
    signed_at, payload, taken = _checked(request, secrets, options, now)
    sha1 = VERSIONS.get(text_at(payload, "SignatureVersion"))
    if sha1 is None:
        raise SignatureError("SignatureVersion is neither 1 nor 2")
    signature = rsa_signature(text_at(payload, "Signature"), "Signature")
    content = _content(payload)
    for _, keys in keys_for(taken, request.keys):
        for key in keys.values():
            if verifies_rsa(key.key, signature, content, sha1=sha1):
                return key.check_valid(signed_at)
    raise SignatureError(mismatch("Signature"))


def subscribe_url(request: WebhookRequest) -> str | None:
    """Where to confirm, of a verified confirmation that is asked for; None of others.

    Raises:
        SignatureError: it is none of Amazon's addresses, or of another topic.
    """
    payload = request.json()
    if text_at(payload, "Type") != CONFIRMATIONS[0]:
        return None
    url = text_at(payload, "SubscribeURL")
    found = _SUBSCRIBE.fullmatch(url)
    if found is None or unquote(found[1]) != text_at(payload, "TopicArn"):
        raise SignatureError("SubscribeURL is no address of Amazon SNS that confirms this topic")
    return url


def seal_sns(body: bytes, secret: str) -> bytes:
    """A message as of the topic in ``secret``, signed with the private key behind it.

    Raises:
        BadRequestError: it is no message of SNS, or there is no such key.
    """
    topic, key = signer(secret)
    payload = parse_json(body)
    if not isinstance(payload, dict) or text_at(payload, "Type") == "":
        raise BadRequestError("a message of Amazon SNS is a JSON object with its Type")
    made = {"SignatureVersion": "2", **payload, "TopicArn": topic}
    try:
        sha1 = VERSIONS.get(made["SignatureVersion"], False)
        return dump_json({**made, "Signature": sign_rsa(key, _content(made), sha1=sha1)})
    except SignatureError as error:
        raise BadRequestError(str(error)) from error


def _checked(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> tuple[float, Any, list[Sender]]:
    """When it was signed, the message, and the secrets that are its topic."""
    known = senders(secrets)
    payload = request.json()
    if request.header("x-amz-sns-rawdelivery").lower() == "true":
        raise SignatureError("raw message delivery has no signature: turn it off for this topic")
    if not isinstance(payload, OBJECTS):
        raise SignatureError("the body is no message of Amazon SNS")
    topic = text_at(payload, "TopicArn")
    taken = [sender for sender in known if sender.name == topic]
    if not taken:
        raise SignatureError("TopicArn is none of the topics that are the tool's secrets")
    signed_at = iso_seconds(text_at(payload, "Timestamp"), "Timestamp")
    check_age(now - signed_at, options.tolerance(TOLERANCE_SECONDS), "Timestamp")
    return signed_at, payload, taken


def _content(payload: Any) -> bytes:
    """What is signed. Raises SignatureError: a field is missing, or is none that SNS sends."""
    kind = text_at(payload, "Type")
    if kind != NOTIFICATION and kind not in CONFIRMATIONS:
        raise SignatureError("Type is none of a message of Amazon SNS")
    parts = []
    for name in SIGNED if kind == NOTIFICATION else SIGNED_OF_CONFIRMATIONS:
        text = value_at(payload, name)
        if text is None and name == "Subject":
            continue
        if not isinstance(text, str) or ("\n" in text and name != "Message"):
            raise SignatureError(f"{name} is missing, or is none that Amazon SNS sends")
        parts.append(f"{name}\n{text}\n")
    return "".join(parts).encode("utf-8", "surrogatepass")
