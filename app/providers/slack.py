"""Slack."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import answered_empty
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    event_name,
    id_at,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.slack import sign_slack, verify_slack
from hookstream.codecs.form import FORM

__all__ = ["PROVIDER"]

#: Slack's channel types as they stand in the names of its message events.
CHANNELS = {"channel": "channels", "group": "groups"}

MAX_CHALLENGE_CHARS = 1024


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_slack(request, secrets, now=now, tolerance_seconds=options.tolerance())


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # events are JSON; commands are forms; interactions are forms with JSON in one field
    payload = request.json(FORM)
    kind = text_at(payload, "type")
    if kind == "event_callback":
        event = text_at(payload, "event.type")
        channel = text_at(payload, "event.channel_type")
        if event == "message" and channel:
            return event_name(event, CHANNELS.get(channel, channel))
        return event_name(event)
    if not kind and (command := text_at(payload, "command")):
        return event_name("command", command.removeprefix("/"))
    return event_name(kind)


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json(FORM)
    return id_at(payload, "event_id") or id_at(payload, "trigger_id")


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    if request.content_type == FORM:
        return None
    payload = request.json()
    challenge = text_at(payload, "challenge")
    if text_at(payload, "type") != "url_verification" or not challenge:
        return None
    if len(challenge) > MAX_CHALLENGE_CHARS or not (
        challenge.isascii() and challenge.isprintable()
    ):
        raise BadRequestError("the challenge is not a short printable text")
    return Answer(200, challenge.encode(), "text/plain")


def _correlation(payload: Any) -> Iterator[str]:
    channel = word_at(payload, "event.channel") or word_at(payload, "event.item.channel")
    channel = channel or word_at(payload, "channel.id") or word_at(payload, "channel_id")
    for path in ("event.thread_ts", "event.message.thread_ts", "event.item.ts", "event.ts"):
        if channel and (ts := word_at(payload, path)):
            yield f"slack:{channel}/{ts}"
            break
    if channel:
        yield f"slack:{channel}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        "X-Slack-Request-Timestamp": str(int(hook.now)),
        "X-Slack-Signature": sign_slack(hook.body, hook.secret, hook.now),
    }


PROVIDER = Provider(
    name="slack",
    title="Slack",
    hosts=("slack.com", "*.slack.com"),
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    # with delayed events on, Slack repeats for a day
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    keep_headers=("x-slack-retry-num", "x-slack-retry-reason", "x-slack-request-timestamp"),
    credential="the app's Signing Secret, from Basic Information",
    check_secret=any_secret,
    handshake=_handshake,
    # a command's answer is shown to who typed it, and a modal's is an instruction: Slack wants 200
    # and nothing else (docs.slack.dev/interactivity/handling-user-interaction)
    answer=answered_empty,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup=(
            "the app's Signing Secret; Event Subscriptions, Slash Commands and "
            "Interactivity to the tool's URL"
        ),
        verified_by=(
            "`X-Slack-Signature` and `X-Slack-Request-Timestamp`: HMAC-SHA256 of `v0:time:body`"
        ),
        type_from=(
            "as in Slack's subscriptions: `message.channels`, `app_mention`; "
            "`command.deploy`; `block_actions`"
        ),
        delivery_from="`event_id`, else `trigger_id`",
        why="with delayed events on, Slack retries for a day, signing anew each time",
        answers=(
            (
                "all",
                "200, empty",
                "[a command's answer is "
                "shown](https://docs.slack.dev/interactivity/implementing-slash-commands) to "
                "who typed it; a modal takes JSON for an instruction",
            ),
            (
                "`url_verification`",
                "200, its `challenge` as text",
                "Slack tries out the URL that way; it becomes no event",
            ),
        ),
    ),
    tolerance_seconds=300,
)
