"""Auth0 log streams."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import answered_200, delivery_at, kind_at, token_in, type_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    signed,
)

__all__ = ["PROVIDER"]

HEADER = "Authorization"


def _correlation(payload: Any) -> Iterator[str]:
    for log in payload if isinstance(payload, list) else [payload]:
        for path in ("user_id", "organization_id", "client_id"):
            if found := word_at(log, f"data.{path}"):
                yield f"auth0:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": body_type(hook.body), HEADER: hook.secret}


PROVIDER = Provider(
    name="auth0",
    title="Auth0",
    verify=token_in(HEADER),
    event_type=type_at("data.type"),
    delivery_id=delivery_at("log_id"),
    sign=signed(_sign),
    batch=Batch([], kind=kind_at("data.type"), lines=True),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    credential="the log stream's Authorization Token, whole (with Bearer where it has that)",
    check_secret=any_secret,
    answer=answered_200,
    correlation=_correlation,
    notes=Notes(
        setup="a Custom Webhook stream, content format JSON Array; its Authorization Token is the "
        "secret",
        verified_by="the secret in `Authorization` as it was typed in; Auth0 signs nothing",
        type_from="`data.type`: `fp`",
        delivery_from="`log_id`",
        why="each log has an id",
        source="https://auth0.com/docs/customize/log-streams/custom-log-streams",
        answers=(
            (
                "all",
                "200, the same JSON",
                "no other status is known to count",
            ),
        ),
    ),
)
