"""Prometheus Alertmanager."""

from hookstream.app.providers.alert_groups import alert_keys, alert_type
from hookstream.app.providers.parts import no_delivery
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, signed
from hookstream.app.providers.shared_secret import (
    VERIFIED_BY,
    password_of,
    shared_secret_headers,
    verify_shared_secret,
)

__all__ = ["PROVIDER"]

PROVIDER = Provider(
    name="alertmanager",
    title="Alertmanager",
    verify=verify_shared_secret,
    event_type=alert_type,
    delivery_id=no_delivery,
    sign=signed(shared_secret_headers),
    dedup_strategy="payload",
    # what still fires is told again after four hours, word for word: that is no duplicate
    dedup_window_seconds=HOUR,
    browsers_can_send=True,
    credential="user:password of http_config.basic_auth, or authorization.credentials",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=alert_keys("alertmanager"),
    options=frozenset({"header"}),
    notes=Notes(
        setup="webhook_config, `http_config` with `basic_auth` or `authorization`",
        verified_by=VERIFIED_BY,
        type_from="`status`: `alert.firing`, `alert.resolved`",
        delivery_from="none is sent",
        batch="`alerts[]` is one event: a group is one notification, as its rules say",
        why=(
            "no id is sent; what still fires is told again after `repeat_interval` (4 h), the "
            "same, and is no duplicate"
        ),
        retries="until `group_interval` is over",
        source="https://prometheus.io/docs/alerting/latest/configuration/#webhook_config",
    ),
)
