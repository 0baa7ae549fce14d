"""A token sent as it is: bearer tokens, GitLab's secret tokens, Datadog, Telegram, monday."""

from collections.abc import Sequence

from hookstream.app.providers.signatures.digests import after_scheme, key_bytes, keys_of, match
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["verify_token"]


def verify_token(
    request: WebhookRequest, secrets: Sequence[str], header: str, *, scheme: str = ""
) -> None:
    """``header`` is the secret itself, after ``scheme`` (as ``Bearer``) and spaces if given.

    Raises SignatureError.
    """
    keys = keys_of(secrets)
    text = request.single(header)
    if scheme:
        text = after_scheme(text, scheme, header)
    match(header, keys, [key_bytes(text)])
