"""Opsgenie: its outgoing webhook integration."""

from hookstream.app.providers.parts import keys_at, no_delivery, type_at
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, signed
from hookstream.app.providers.shared_secret import (
    VERIFIED_BY,
    password_of,
    shared_secret_headers,
    verify_shared_secret,
)

__all__ = ["PROVIDER"]

PROVIDER = Provider(
    name="opsgenie",
    title="Opsgenie",
    verify=verify_shared_secret,
    event_type=type_at("action"),
    delivery_id=no_delivery,
    sign=signed(shared_secret_headers),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    browsers_can_send=True,
    credential="the value of the Authorization header that the integration adds",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=keys_at("opsgenie", "alert.alertId", "alert.alias", naming=("alert.message",)),
    options=frozenset({"header"}),
    hosts=("*.opsgenie.com",),
    notes=Notes(
        setup="Webhook integration, custom header: Authorization, `Bearer …`",
        verified_by=VERIFIED_BY,
        type_from="`action`, in Opsgenie's spelling: `Create`, `AddNote`",
        delivery_from="none is sent",
        why="no id is sent; the body has the alert and when it changed",
        source=("https://support.atlassian.com/opsgenie/docs/integrate-opsgenie-with-webhook/"),
    ),
)
