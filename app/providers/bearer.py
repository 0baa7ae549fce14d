"""A token in a header."""

from collections.abc import Sequence

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
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "Authorization"


def _scheme(options: SignatureOptions) -> str:
    # a header of one's own (X-Api-Key) has the token and nothing else
    header = options.header or HEADER
    return "Bearer" if header.lower() == HEADER.lower() else ""


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_token(request, secrets, options.header or HEADER, scheme=_scheme(options))


def _sign(hook: Delivery) -> dict[str, str]:
    return named_headers(hook) | {
        hook.options.header or HEADER: f"{_scheme(hook.options)} {hook.secret}".lstrip()
    }


PROVIDER = Provider(
    name="bearer",
    title="A token in a header",
    verify=_verify,
    event_type=named_type,
    delivery_id=named_delivery,
    sign=signed(_sign),
    dedup_strategy="payload",
    # as long as retries take: one text twice may well be two events
    dedup_window_seconds=HOUR // 6,
    credential="the token, without the word Bearer",
    check_secret=any_secret,
    options=NAMED | ANSWERED | CHALLENGED | {"header"},
    answer=named_answer,
    batch_by=named_batch,
    challenge=any_challenge,
    notes=Notes(
        setup="a token",
        verified_by=(
            "`Authorization: Bearer TOKEN`; with `options.header` that header is the token"
        ),
        type_from="as `generic`",
        delivery_from="as `generic`",
        why="as `generic`",
        answers=(
            (
                "all",
                "`options.answer_*`",
                "some senders want a status, a body or a type of their own",
            ),
        ),
    ),
)
