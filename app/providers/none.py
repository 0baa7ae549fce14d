"""Nothing verified."""

from hookstream.app.providers.first_contact import any_challenge
from hookstream.app.providers.plain import (
    ANSWERED,
    CHALLENGED,
    NAMED,
    named_answer,
    named_batch,
    named_delivery,
    named_headers,
    named_type,
)
from hookstream.app.providers.provider import (
    HOUR,
    Notes,
    Provider,
    any_secret,
    signed,
)

__all__ = ["PROVIDER"]

PROVIDER = Provider(
    name="none",
    title="Nothing verified",
    verify=lambda request, secrets, options, now: None,
    event_type=named_type,
    delivery_id=named_delivery,
    sign=signed(named_headers),
    dedup_strategy="payload",
    # as long as retries take: one text twice may well be two events
    dedup_window_seconds=HOUR // 6,
    needs_secret=False,
    browsers_can_send=True,
    credential="none: whoever knows the URL can send",
    check_secret=any_secret,
    options=NAMED | ANSWERED | CHALLENGED,
    answer=named_answer,
    batch_by=named_batch,
    challenge=any_challenge,
    notes=Notes(
        setup="nothing is verified: whoever knows the URL can send",
        verified_by="nothing",
        type_from="as `generic`",
        delivery_from="as `generic`",
        why="as `generic`",
        answers=(
            (
                "all",
                "`options.answer_*`",
                "as `bearer`",
            ),
        ),
    ),
)
