"""GitLab."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    short_id,
    signed,
    unsigned,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.standard import (
    sign_standard,
    verify_standard,
)
from hookstream.app.providers.standard_parts import check_standard_secret

__all__ = ["PROVIDER"]

WHSEC = "whsec_"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    signing = [secret for secret in secrets if secret.startswith(WHSEC)]
    # a signature that fails is not made good by a token beside it
    if signing and "webhook-signature" in request.headers:
        verify_standard(request, signing, now=now, tolerance_seconds=options.tolerance())
    else:
        plain = [secret for secret in secrets if not secret.startswith(WHSEC)]
        verify_token(request, plain, "X-Gitlab-Token")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    event = text_at(payload, "object_kind") or text_at(payload, "event_name")
    if not event:
        # "Merge Request Hook"
        event = request.header("x-gitlab-event").removesuffix(" Hook").lower().replace(" ", "_")
    action = text_at(payload, "object_attributes.action") or text_at(payload, "action")
    return event_name(event, action)


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    # not X-Gitlab-Event-UUID: hooks that trigger each other share one
    return short_id(request.header("webhook-id") or request.header("idempotency-key"))


def _correlation(payload: Any) -> Iterator[str]:
    place = word_at(payload, "project.path_with_namespace")
    if not place:
        return
    kind, iid = word_at(payload, "object_kind"), word_at(payload, "object_attributes.iid")
    if kind == "merge_request" and iid:
        yield f"gitlab:{place}!{iid}"
        yield from tickets(
            word_at(payload, "object_attributes.title"),
            word_at(payload, "object_attributes.source_branch"),
        )
    elif kind in ("issue", "work_item") and iid:
        yield f"gitlab:{place}#{iid}"
        yield from tickets(word_at(payload, "object_attributes.title"))
    if iid := word_at(payload, "merge_request.iid"):
        yield f"gitlab:{place}!{iid}"
        yield from tickets(
            word_at(payload, "merge_request.title"), word_at(payload, "merge_request.source_branch")
        )
    if iid := word_at(payload, "issue.iid"):
        yield f"gitlab:{place}#{iid}"
    # a job's commit.id is the number of its pipeline
    for path in ("checkout_sha", "commit.id", "commit.sha", "object_attributes.sha", "sha"):
        if (sha := word_at(payload, path)) and not sha.isdecimal():
            yield f"gitlab:{place}@{sha}"


def _sign(hook: Delivery) -> dict[str, str]:
    event = hook.event_type.partition(".")[0] or _object_kind(hook.body)
    headers = {
        "Content-Type": JSON,
        "User-Agent": "GitLab/hookstream",
        "X-Gitlab-Event": f"{event.replace('_', ' ').title()} Hook",
        "Idempotency-Key": hook.delivery_id,
    }
    if not hook.secret.startswith(WHSEC):
        return headers | {"X-Gitlab-Token": hook.secret}
    return headers | {
        "webhook-id": hook.delivery_id,
        "webhook-timestamp": str(int(hook.now)),
        "webhook-signature": sign_standard(hook.body, hook.secret, hook.delivery_id, hook.now),
    }


def _object_kind(body: bytes) -> str:
    try:
        payload: Any = parse_json(body)
    except BadRequestError:
        return UNKNOWN
    return text_at(payload, "object_kind") or UNKNOWN


def _secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    if secret.startswith(WHSEC):
        check_standard_secret(secret, options)


PROVIDER = Provider(
    name="gitlab",
    title="GitLab",
    hosts=("gitlab.com",),
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    # where the body does not say it, a header does, which a signing token does not cover
    signed_type=unsigned,
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        "x-gitlab-event",
        "x-gitlab-event-uuid",
        "x-gitlab-webhook-uuid",
        "x-gitlab-instance",
        "idempotency-key",
        "webhook-id",
        "webhook-timestamp",
    ),
    credential="the webhook's signing token (whsec_…, GitLab 19.0 and later) or Secret token",
    check_secret=_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="Webhook, Signing token (GitLab 19.0 and later) or Secret token",
        verified_by=(
            "`webhook-signature` as in Standard Webhooks, where the tool has a "
            "`whsec_…` and the header is there; else `X-Gitlab-Token`"
        ),
        type_from=(
            "`object_kind` (else `event_name`), and the `action`: `push`, `merge_request.open`"
        ),
        delivery_from="`webhook-id`, else `Idempotency-Key`",
        why=(
            "the id stays through retries. `X-Gitlab-Event-UUID` is not used: webhooks "
            "that trigger each other share one. Before GitLab 17.4 there is no other "
            "id, and the payload counts"
        ),
    ),
    tolerance_seconds=300,
)
