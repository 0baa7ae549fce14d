"""Senders that sign nothing and send what an operator has set: a header, or HTTP Basic.

It proves who sends, and nothing of what is sent: whoever has it can send anything.
"""

from collections.abc import Sequence

from hookstream.app.providers.provider import Delivery, body_type
from hookstream.app.providers.signatures.basic import sign_basic, verify_basic
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["VERIFIED_BY", "password_of", "shared_secret_headers", "verify_shared_secret"]

AUTHORIZATION = "Authorization"
#: What `docs/providers.md` says of it.
VERIFIED_BY = (
    "`Authorization`: HTTP Basic of the secret (`user:password`), or `Bearer` and the secret; with "
    "`options.header` that header is the secret"
)


def verify_shared_secret(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    """The secret is in ``Authorization``, as Basic or Bearer, or in ``options.header``.

    Raises SignatureError.
    """
    header = options.header or AUTHORIZATION
    if header.lower() != AUTHORIZATION.lower():
        verify_token(request, secrets, header)
    elif request.header(header)[:6].lower() == "basic ":
        verify_basic(request, secrets)
    else:
        verify_token(request, secrets, header, scheme="Bearer")


def shared_secret_headers(hook: Delivery) -> dict[str, str]:
    """The headers of a delivery: Basic where the secret is ``user:password``, else Bearer."""
    header = hook.options.header or AUTHORIZATION
    if header.lower() != AUTHORIZATION.lower():
        value = hook.secret
    else:
        value = sign_basic(hook.secret) if ":" in hook.secret else f"Bearer {hook.secret}"
    return {"Content-Type": body_type(hook.body), header: value}


def password_of(secret: str) -> str:
    """Of a secret, what a stranger has to guess."""
    return secret.partition(":")[2] or secret
