"""HTTP Basic."""

from hookstream.app.errors import BadRequestError
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
    Delivery,
    Notes,
    Provider,
    any_secret,
    signed,
)
from hookstream.app.providers.signatures.basic import sign_basic, verify_basic
from hookstream.app.providers.signatures.options import SignatureOptions

__all__ = ["PROVIDER"]


def _secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    name, colon, password = secret.partition(":")
    if not (name and colon and password):
        raise BadRequestError("not username:password")


def _sign(hook: Delivery) -> dict[str, str]:
    return named_headers(hook) | {"Authorization": sign_basic(hook.secret)}


PROVIDER = Provider(
    name="basic",
    title="HTTP Basic",
    verify=lambda request, secrets, options, now: verify_basic(request, secrets),
    event_type=named_type,
    delivery_id=named_delivery,
    sign=signed(_sign),
    dedup_strategy="payload",
    # as long as retries take: one text twice may well be two events
    dedup_window_seconds=HOUR // 6,
    browsers_can_send=True,
    credential="username:password",
    check_secret=_secret,
    guessed_part=lambda secret: secret.partition(":")[2],
    options=NAMED | ANSWERED | CHALLENGED,
    answer=named_answer,
    batch_by=named_batch,
    challenge=any_challenge,
    notes=Notes(
        setup="a user and a password",
        verified_by="`Authorization: Basic`; the secret is `username:password`",
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
