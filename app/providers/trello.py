"""Trello."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import (
    answered_200,
    delivery_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="X-Trello-Webhook", signed="{body}{url}", algorithm="sha1", encoding="base64"
)


def _correlation(payload: Any) -> Iterator[str]:
    for kind in ("card", "board"):
        if found := word_at(payload, f"action.data.{kind}.id"):
            yield f"trello:{kind}/{found}"
    yield from tickets(text_at(payload, "action.data.card.name"))


PROVIDER = Provider(
    name="trello",
    title="Trello",
    verify=verified_by(SCHEME),
    event_type=type_at("action.type"),
    delivery_id=delivery_at("action.id"),
    sign=signed_by(SCHEME),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    credential="the application's secret, from the page of its API key",
    check_secret=any_secret,
    answer=answered_200,
    correlation=_correlation,
    hosts=("trello.com",),
    notes=Notes(
        setup=(
            "`POST /1/webhooks` of Trello's API with the tool's URL, exactly as it is here, as "
            "`callbackURL`"
        ),
        verified_by="`X-Trello-Webhook`: base64 HMAC-SHA1 of the body and the URL",
        type_from="`action.type`: `updateCard`",
        delivery_from="`action.id`",
        why="an action's `id` is its own; the webhook of a board and of its card send the same",
        source="https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/",
        answers=(
            ("HEAD", "200, empty", "Trello tries out the address so, and takes 200 only"),
            ("all", "200, the same JSON", "nothing else is known to count as received"),
        ),
    ),
)
