"""WorkOS."""

from hookstream.app.providers.parts import (
    answered_200,
    delivery_at,
    keys_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import DEFAULT_TOLERANCE_SECONDS

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="WorkOS-Signature",
    signed="{timestamp}.{body}",
    signature_name="v1",
    timestamp_name="t",
    timestamp_unit="ms",
)


PROVIDER = Provider(
    name="workos",
    title="WorkOS",
    verify=verified_by(SCHEME),
    event_type=type_at("event"),
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME, {"User-Agent": "WorkOS Webhooks"}),
    # signed with the body, and the same in every retry
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    credential="the webhook endpoint's Signing Secret",
    check_secret=any_secret,
    answer=answered_200,
    correlation=keys_at(
        "workos",
        "data.id",
        "data.user.id",
        "data.group.id",
        "data.user_id",
        "data.organization_id",
        "data.directory_id",
    ),
    options=frozenset({"tolerance_seconds"}),
    hosts=("dashboard.workos.com",),
    notes=Notes(
        setup="the webhook endpoint's Signing Secret",
        verified_by="`WorkOS-Signature`: `t=` in milliseconds, and hex HMAC-SHA256 of `time.body` "
        "in `v1=`",
        type_from="`event`: `dsync.user.created`",
        delivery_from="`id`",
        why="the id is signed with the body; WorkOS's own library allows three minutes, so retries "
        "are signed anew",
        source="https://workos.com/docs/events/data-syncing/webhooks",
        answers=(
            (
                "all",
                "200, the same JSON",
                "no other status is known to count",
            ),
        ),
    ),
)
