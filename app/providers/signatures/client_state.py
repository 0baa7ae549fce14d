"""A text in each notification of a body, where nothing is signed: Microsoft Graph, SharePoint."""

from collections.abc import Sequence

from hookstream.app.errors import SignatureError
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at, value_at
from hookstream.app.providers.signatures.digests import key_bytes, keys_of, match
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["verify_client_state"]


def verify_client_state(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """Each of the body's ``value[]`` has one of the secrets as its ``clientState``.

    Whoever has seen one body can write another. Raises SignatureError.
    """
    keys = keys_of(secrets)
    notifications = value_at(request.json(), "value")
    if not isinstance(notifications, ARRAYS) or not len(notifications):
        raise SignatureError("the body has no value[], a list of notifications")
    for notification in notifications:
        state = text_at(notification, "clientState")
        if not state:
            raise SignatureError(
                "a notification has no clientState: give the subscription one that is the tool's "
                "secret"
            )
        match("clientState", keys, [key_bytes(state)])
