"""Nothing verified."""

from hookstream.app.providers.plain import named_delivery, named_headers, named_type
from hookstream.app.providers.provider import (
    HOUR,
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
    dedup_window_seconds=24 * HOUR,
    needs_secret=False,
    credential="none: whoever knows the URL can send",
    check_secret=any_secret,
)
