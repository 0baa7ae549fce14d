"""Heroku: app webhooks."""

from hookstream.app.providers.parts import delivery_at, keys_at, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="Heroku-Webhook-Hmac-SHA256", encoding="base64")

PROVIDER = Provider(
    name="heroku",
    title="Heroku",
    verify=verified_by(SCHEME),
    event_type=type_at("resource", "action"),
    delivery_id=delivery_at("webhook_metadata.delivery.id"),
    sign=signed_by(SCHEME),
    # each attempt has an id of its own in the body
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    credential="the webhook's secret, as given with -s or shown once",
    check_secret=any_secret,
    correlation=keys_at(
        "heroku",
        "data.build.id",
        "data.release.id",
        "data.id",
        naming=("data.description", "data.slug.commit_description"),
    ),
    hosts=("dashboard.heroku.com",),
    notes=Notes(
        setup="`heroku webhooks:add -i api:release -l sync -u URL -s SECRET`",
        verified_by="`Heroku-Webhook-Hmac-SHA256`: base64 HMAC-SHA256 of the body",
        type_from="`resource` and `action`: `release.update`",
        delivery_from="`webhook_metadata.delivery.id`",
        why="the id is in the signed body; each attempt has another body (`attempt.id`)",
        retries="level `sync` until it succeeds or a limit is reached, `notify` never",
        source="https://devcenter.heroku.com/articles/app-webhooks",
    ),
)
