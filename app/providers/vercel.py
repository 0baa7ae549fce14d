"""Vercel: webhooks of a team or of an integration."""

from hookstream.app.providers.parts import delivery_at, keys_at, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="x-vercel-signature", algorithm="sha1")

PROVIDER = Provider(
    name="vercel",
    title="Vercel",
    verify=verified_by(SCHEME),
    event_type=type_at("type"),
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the webhook's secret, shown once, or the integration's Client Secret",
    check_secret=any_secret,
    correlation=keys_at(
        "vercel",
        "payload.deployment.id",
        "payload.project.id",
        naming=(
            "payload.deployment.meta.githubCommitRef",
            "payload.deployment.meta.githubCommitMessage",
            "payload.deployment.meta.gitlabCommitRef",
            "payload.deployment.meta.bitbucketCommitRef",
        ),
    ),
    hosts=("vercel.com",),
    notes=Notes(
        setup="the team's Settings, Webhooks; or an integration's webhook URL",
        verified_by="`x-vercel-signature`: hex HMAC-SHA1 of the body",
        type_from="`type`: `deployment.succeeded`",
        delivery_from="`id`",
        why="the id is in the signed body",
        retries="for 24 hours, ever more seldom",
        source="https://vercel.com/docs/webhooks",
    ),
)
