"""CircleCI: outbound webhooks of a project."""

from hookstream.app.providers.parts import (
    delivery_at,
    keys_at,
    ping_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="circleci-signature", signature_name="v1")

PROVIDER = Provider(
    name="circleci",
    title="CircleCI",
    verify=verified_by(SCHEME),
    event_type=type_at("type"),
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME, {"User-Agent": "CircleCI-Webhook/1.0"}),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the webhook's Secret token",
    check_secret=any_secret,
    handshake=ping_at("type", "ping"),
    correlation=keys_at(
        "circleci",
        "workflow.id",
        "pipeline.id",
        naming=(
            "pipeline.vcs.branch",
            "pipeline.vcs.commit.subject",
            "pipeline.trigger_parameters.git.branch",
            "pipeline.trigger_parameters.gitlab.commit_title",
        ),
    ),
    hosts=("app.circleci.com", "circleci.com"),
    notes=Notes(
        setup="Project Settings, Webhooks; its Secret token is the secret",
        verified_by="`circleci-signature`: a list with `v1=` and hex HMAC-SHA256 of the body",
        type_from="`type`: `workflow-completed`, `job-completed`",
        delivery_from="`id`",
        why="CircleCI's page names `id` as what tells a repetition; it is in the signed body",
        retries="after any answer but 2xx, or 10 seconds; how often is not documented",
        source="https://circleci.com/docs/guides/integration/outbound-webhooks/",
        answers=(("`ping`", "200", "a trial of the URL; it becomes no event"),),
    ),
)
