"""LaunchDarkly: webhooks, whose bodies are entries of its audit log."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import word_at
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

SCHEME = HmacScheme(header="X-LD-Signature")


def _correlation(payload: Any) -> Iterator[str]:
    # "proj/default:env/production:flag/new-cart": a flag is one thing in all environments
    parts = word_at(payload, "accesses.0.resource").split(":")
    if len(parts) > 1 and parts[-1] and not parts[-1].startswith("env/"):
        yield f"launchdarkly:{parts[0]}:{parts[-1].partition(';')[0]}"
    if found := word_at(payload, "target._links.canonical.href"):
        yield f"launchdarkly:{found}"
    yield from tickets(word_at(payload, "comment"), word_at(payload, "name"))


PROVIDER = Provider(
    name="launchdarkly",
    title="LaunchDarkly",
    verify=verified_by(SCHEME),
    event_type=type_at("kind", "accesses.0.action"),
    delivery_id=delivery_at("_id"),
    sign=signed_by(SCHEME),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    credential="the webhook's secret, shown where it is signed",
    check_secret=any_secret,
    # whether it takes another 2xx for success its page, as far as it was to be had, does not say
    answer=answered_200,
    correlation=_correlation,
    hosts=("app.launchdarkly.com",),
    notes=Notes(
        setup="Integrations, Webhooks; Sign this webhook, its secret",
        verified_by="`X-LD-Signature`: hex HMAC-SHA256 of the body",
        type_from="`kind` and the first action: `flag.updateOn`, `environment.updateName`",
        delivery_from="`_id`",
        why="the entry's id is in the signed body",
        source="https://launchdarkly.com/docs/home/infrastructure/webhooks",
        answers=(("all", "200, the same JSON", "what is surely taken for success"),),
    ),
)
