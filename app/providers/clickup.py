"""ClickUp: webhooks of a workspace."""

from hookstream.app.providers.parts import keys_at, no_delivery, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Signature")

PROVIDER = Provider(
    name="clickup",
    title="ClickUp",
    verify=verified_by(SCHEME),
    event_type=type_at("event"),
    delivery_id=no_delivery,
    sign=signed_by(SCHEME),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="webhook.secret, as the answer to its creation has it",
    check_secret=any_secret,
    correlation=keys_at(
        "clickup", "task_id", "goal_id", "key_result_id", "list_id", "folder_id", "space_id"
    ),
    hosts=("app.clickup.com",),
    notes=Notes(
        setup="`POST /api/v2/team/TEAM/webhook`; the secret is in its answer",
        verified_by="`X-Signature`: hex HMAC-SHA256 of the body",
        type_from="`event`: `taskStatusUpdated`",
        delivery_from="none is sent",
        why="no id of the delivery is sent; each change has an id in `history_items`",
        source="https://developer.clickup.com/docs/webhooks",
    ),
)
