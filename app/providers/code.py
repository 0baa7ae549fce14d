"""Code hosts: GitHub, GitLab, Bitbucket."""

# ruff: noqa: S106
# (a secret_format is a sentence for people)

from collections.abc import Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Delivery,
    Provider,
    any_secret,
    body_type,
    event_name,
    short_id,
    signed,
    text_at,
)
from hookstream.app.providers.signatures import (
    FORM,
    SignatureOptions,
    WebhookRequest,
    sign_hmac,
    sign_standard,
    standard_key,
    verify_hmac,
    verify_standard,
    verify_token,
)

__all__ = ["BITBUCKET", "GITHUB", "GITLAB"]

WHSEC = "whsec_"


def _github_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "X-Hub-Signature-256", prefix="sha256=")


def _github_type(request: WebhookRequest, options: SignatureOptions) -> str:
    # a hook's content type is a setting at GitHub: JSON, or a form with the JSON in one field
    if request.content_type == FORM:
        payload = parse_json(request.form().get("payload", ""))
    else:
        payload = request.json()
    return event_name(request.header("x-github-event"), text_at(payload, "action"))


def _github_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "GitHub-Hookshot/hookstream",
        "X-GitHub-Event": hook.event_type.partition(".")[0] or "pull_request",
        "X-GitHub-Delivery": hook.delivery_id,
        "X-Hub-Signature-256": "sha256=" + sign_hmac(hook.body, hook.secret),
    }


GITHUB = Provider(
    name="github",
    title="GitHub",
    verify=_github_verify,
    event_type=_github_type,
    delivery_id=lambda request, options: short_id(request.header("x-github-delivery")),
    sign=signed(_github_sign),
    # X-GitHub-Delivery is not covered by the signature: who has one webhook could send it again
    # and again under new ids
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        "x-github-event",
        "x-github-delivery",
        "x-github-hook-id",
        "x-github-hook-installation-target-type",
        "x-github-hook-installation-target-id",
    ),
    secret_format="the webhook's Secret, as typed into GitHub's settings",
    check_secret=any_secret,
)


def _gitlab_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    signing = [secret for secret in secrets if secret.startswith(WHSEC)]
    # a signature that fails is not made good by a token beside it
    if signing and "webhook-signature" in request.headers:
        verify_standard(request, signing, now=now, tolerance_seconds=options.tolerance())
    else:
        plain = [secret for secret in secrets if not secret.startswith(WHSEC)]
        verify_token(request, plain, "X-Gitlab-Token")


def _gitlab_type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    event = text_at(payload, "object_kind") or text_at(payload, "event_name")
    if not event:
        # "Merge Request Hook"
        event = request.header("x-gitlab-event").removesuffix(" Hook").lower().replace(" ", "_")
    action = text_at(payload, "object_attributes.action") or text_at(payload, "action")
    return event_name(event, action)


def _gitlab_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    # not X-Gitlab-Event-UUID: hooks that trigger each other share one
    return short_id(request.header("webhook-id") or request.header("idempotency-key"))


def _gitlab_sign(hook: Delivery) -> dict[str, str]:
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


def _gitlab_secret(secret: str) -> None:
    any_secret(secret)
    if secret.startswith(WHSEC) and standard_key(secret) is None:
        raise BadRequestError("what follows whsec_ is not base64")


GITLAB = Provider(
    name="gitlab",
    title="GitLab",
    verify=_gitlab_verify,
    event_type=_gitlab_type,
    delivery_id=_gitlab_delivery,
    sign=signed(_gitlab_sign),
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
    secret_format="the webhook's signing token (whsec_…, GitLab 19.0 and later) or Secret token",
    check_secret=_gitlab_secret,
)


def _bitbucket_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "X-Hub-Signature", prefix="sha256=")


def _bitbucket_type(request: WebhookRequest, options: SignatureOptions) -> str:
    # "pullrequest:created"; the body is read so that what is not JSON is refused here
    request.json()
    return event_name(request.header("x-event-key").replace(":", "."))


def _bitbucket_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return short_id(request.header("x-request-uuid") or request.header("x-request-id"))


def _bitbucket_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Event-Key": (hook.event_type or "repo.push").replace(".", ":"),
        "X-Request-UUID": hook.delivery_id,
        "X-Attempt-Number": "1",
        "X-Hub-Signature": "sha256=" + sign_hmac(hook.body, hook.secret),
    }


BITBUCKET = Provider(
    name="bitbucket",
    title="Bitbucket",
    verify=_bitbucket_verify,
    event_type=_bitbucket_type,
    delivery_id=_bitbucket_delivery,
    sign=signed(_bitbucket_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        "x-event-key",
        "x-hook-uuid",
        "x-request-uuid",
        "x-request-id",
        "x-attempt-number",
        "x-event-time",
    ),
    secret_format="the webhook's Secret, as typed into or generated by Bitbucket's settings",
    check_secret=any_secret,
)
