"""Hugging Face: webhooks of the Hub."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import no_delivery, token_in, type_at
from hookstream.app.providers.provider import JSON, Delivery, Notes, Provider, any_secret, signed

__all__ = ["PROVIDER"]

HEADER = "X-Webhook-Secret"


def _correlation(payload: Any) -> Iterator[str]:
    place = word_at(payload, "repo.name")
    if place and (number := word_at(payload, "discussion.num")):
        yield f"huggingface:{place}#{number}"
        yield from tickets(word_at(payload, "discussion.title"))
    elif place:
        yield f"huggingface:{place}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": JSON, HEADER: hook.secret}


PROVIDER = Provider(
    name="huggingface",
    title="Hugging Face",
    verify=token_in(HEADER),
    event_type=type_at("event.scope", "event.action"),
    delivery_id=no_delivery,
    sign=signed(_sign),
    # a discussion that is closed, opened and closed again is told each time in the same words
    dedup_strategy="payload",
    dedup_window_seconds=10 * 60,
    credential="the webhook's Secret",
    check_secret=any_secret,
    correlation=_correlation,
    hosts=("huggingface.co",),
    notes=Notes(
        setup="Settings, Webhooks; a Secret",
        verified_by="`X-Webhook-Secret` is the secret; nothing is signed",
        type_from="`event.scope` and `event.action`: `discussion.comment.create`",
        delivery_from="none is sent",
        why=(
            "no id and no time is sent: a discussion closed, opened and closed again is told "
            "twice in the same words, so only what comes within minutes is a repetition"
        ),
        source="https://huggingface.co/docs/hub/webhooks",
    ),
)
