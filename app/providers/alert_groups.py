"""Alerts in groups, as Alertmanager sends them, and Grafana after it."""

from collections.abc import Callable, Iterator
from typing import Any

from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import UNKNOWN, event_name
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["alert_keys", "alert_type"]

MAX_ALERTS = 8


def alert_type(request: WebhookRequest, options: SignatureOptions) -> str:
    """``alert.firing`` or ``alert.resolved``: a group of both is firing."""
    payload = request.json()
    status = text_at(payload, "status") or text_at(payload, "state")
    return event_name("alert", status) if status else UNKNOWN


def alert_keys(name: str) -> Callable[[Any], Iterator[str]]:
    """The ``correlation``: each alert's fingerprint, which is that of its labels."""

    def keys(payload: Any) -> Iterator[str]:
        alerts = value_at(payload, "alerts")
        for alert in alerts[:MAX_ALERTS] if isinstance(alerts, ARRAYS) else ():
            if found := word_at(alert, "fingerprint"):
                yield f"{name}:{found}"

    return keys
