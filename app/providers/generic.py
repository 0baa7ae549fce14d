"""Any HMAC over the body, or over a template of the request."""

from collections.abc import Sequence

from hookstream.app.providers.first_contact import any_challenge, learn_named, signs_challenges
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
from hookstream.app.providers.signatures.digests import check_key
from hookstream.app.providers.signatures.hmac_scheme import hmac_key
from hookstream.app.providers.signatures.named_challenge import is_token
from hookstream.app.providers.signatures.option_checks import check_scheme_options
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Signature"
#: The options that say how it is signed.
SCHEME = frozenset(
    {
        *("header", "signed", "algorithm", "encoding", "key_encoding", "prefix"),
        *("signature_name", "signature_field", "signature_query", "separator"),
        *("timestamp_name", "timestamp_header", "timestamp_field", "timestamp_unit"),
        *("id_header", "tolerance_seconds"),
    }
)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    scheme, tolerance = options.scheme(HEADER), options.tolerance()
    if not signs_challenges(options):
        scheme.verify(request, secrets, now=now, tolerance_seconds=tolerance)
        return
    # all that is signed counts, not the body alone: "{timestamp}.{body}" of no body is a token
    scheme.verify(request, secrets, now=now, tolerance_seconds=tolerance, given_away=is_token)


def _sign(hook: Delivery) -> dict[str, str]:
    headers = named_headers(hook)
    return headers | hook.options.scheme(HEADER).sign(
        hook.request(headers), hook.secret, now=hook.now, delivery_id=hook.delivery_id
    )


def _secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    check_key(hmac_key(secret, options.key_encoding))


PROVIDER = Provider(
    name="generic",
    title="Any HMAC",
    verify=_verify,
    event_type=named_type,
    delivery_id=named_delivery,
    # without a field it is the Content-Type that says whether a body names its type
    signed_type=lambda options: bool(options.type_field) and not options.type_header,
    sign=signed(_sign),
    dedup_strategy="payload",
    # as long as retries take: one text twice may well be two events
    dedup_window_seconds=HOUR // 6,
    credential="the key of the HMAC, as text",
    check_secret=_secret,
    options=NAMED | ANSWERED | CHALLENGED | SCHEME | {"secret_from"},
    check_options=lambda options: check_scheme_options(options, HEADER),
    answer=named_answer,
    batch_by=named_batch,
    challenge=any_challenge,
    learn=learn_named,
    learns_by="secret_from",
    notes=Notes(
        setup="any sender that signs with an HMAC",
        verified_by=(
            "`options.header` (`X-Signature`), and [what else is said of its scheme](#any-hmac)"
        ),
        type_from="`options.type_header`, else `options.type_field`",
        delivery_from="`options.delivery_header`, else `options.delivery_field`",
        why="`delivery` within 24h where an option names the delivery",
        answers=(
            (
                "all",
                "`options.answer_*`",
                "some senders want a status, a body or a type of their own",
            ),
        ),
    ),
)
