"""Amazon SNS, over HTTP or HTTPS."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import ARRAYS, look_into_text, parse_json
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import delivery_at
from hookstream.app.providers.provider import (
    UNKNOWN,
    Delivery,
    Notes,
    Provider,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import check_sender
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.sns import (
    TOLERANCE_SECONDS,
    is_topic,
    seal_sns,
    sns_keys,
    subscribe_url,
    verify_sns,
)
from hookstream.codecs.json_payload import dump_json

__all__ = ["PROVIDER"]

#: Where what Amazon's services publish says what it is: EventBridge, SES, S3 and Auto Scaling.
TYPE_PATHS = ("detail-type", "notificationType", "eventType", "Event", "event", "type")
MAX_RECORDS = 8


def _inner_type(message: Any) -> str:
    if isinstance(records := value_at(message, "Records"), ARRAYS):
        # S3 has never put more than one there
        names = {text_at(record, "eventName") for record in records}
        return names.pop() if len(names) == 1 else "batch"
    if state := text_at(message, "NewStateValue"):
        return f"alarm.{state.lower()}"
    return next((found for path in TYPE_PATHS if (found := text_at(message, path))), "")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    kind = text_at(payload, "Type")
    inner = _inner_type(look_into_text(text_at(payload, "Message")))
    return event_name(kind, "" if inner == UNKNOWN else inner)


def _correlation(payload: Any) -> Iterator[str]:
    records = value_at(payload, "Message.Records")
    for record in records[:MAX_RECORDS] if isinstance(records, list) else ():
        if bucket := word_at(record, "s3.bucket.name"):
            yield f"sns:s3/{bucket}/{word_at(record, 's3.object.key')}"
    for path in (
        *("Message.AlarmArn", "Message.mail.messageId", "Message.AutoScalingGroupARN"),
        *("Message.resources.0", "Message.id"),
    ):
        if found := word_at(payload, path):
            yield f"sns:{found}"
    if topic := word_at(payload, "TopicArn"):
        yield f"sns:{topic}"


def _stamp(body: bytes, now: float) -> bytes:
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise BadRequestError("a message of Amazon SNS is a JSON object")
    time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    return dump_json({**payload, "Timestamp": time.replace("+00:00", "Z")})


def _sign(hook: Delivery) -> dict[str, str]:
    payload = hook.request({}).json()
    return {
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": text_at(payload, "Type"),
        "x-amz-sns-message-id": text_at(payload, "MessageId"),
        "x-amz-sns-topic-arn": text_at(payload, "TopicArn"),
    }


def _secret(secret: str, options: SignatureOptions) -> None:
    if not is_topic(check_sender(secret, "the ARN of a topic")):
        raise BadRequestError("not the ARN of a topic, as arn:aws:sns:us-east-1:123456789012:name")


PROVIDER = Provider(
    name="sns",
    title="Amazon SNS",
    keys=sns_keys,
    verify=verify_sns,
    confirm=subscribe_url,
    event_type=_type,
    delivery_id=delivery_at("MessageId"),
    sign=signed(_sign),
    stamp=_stamp,
    seal=seal_sns,
    dedup_strategy="delivery",
    dedup_window_seconds=2 * TOLERANCE_SECONDS,
    tolerance_seconds=TOLERANCE_SECONDS,
    keep_headers=("x-amz-sns-message-type", "x-amz-sns-subscription-arn"),
    credential="the ARN of the topic: anybody can have one of their own sent to any address",
    check_secret=_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("*.console.aws.amazon.com", "console.aws.amazon.com"),
    notes=Notes(
        setup=(
            "a subscription of protocol HTTPS to the tool's URL, raw message delivery off; the "
            "topic's ARN is the secret, and messages of other topics are refused"
        ),
        verified_by=(
            "`Signature` in the body: RSA over SHA-1 (`SignatureVersion` 1) or SHA-256 (2) of the "
            "message's fields, by the certificate at `SigningCertURL`, fetched from "
            "`sns.REGION.amazonaws.com` (`.cn`) only; `MessageAttributes` and `UnsubscribeURL` are "
            "not signed"
        ),
        type_from=(
            "`Type`, and what a JSON `Message` says it is: `Notification.ObjectCreated:Put`, "
            "`Notification.alarm.ok`, `Notification.Bounce`, `UnsubscribeConfirmation`"
        ),
        delivery_from="`MessageId`",
        batch=(
            "`Message.Records[]` of S3 is one event: it has one id, and S3 puts one there; of more "
            "the summary names the first and counts the rest"
        ),
        why=(
            "a retry has the message's id and time, which are signed; a slow topic may be hours "
            "behind"
        ),
        retries="3 times, 20 s apart, unless the topic's policy says more, of at most an hour",
        source="https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html",
        answers=(
            (
                "`SubscriptionConfirmation`",
                "200, empty",
                "`SubscribeURL` has been called, on Amazon's own hosts only; it becomes no event",
            ),
        ),
    ),
)
