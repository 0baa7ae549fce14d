"""GitHub."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Provider,
    any_secret,
    body_type,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.envelope import FORM

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "X-Hub-Signature-256", prefix="sha256=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # a hook's content type is a setting at GitHub: JSON, or a form with the JSON in one field
    if request.content_type == FORM:
        payload = parse_json(request.form().get("payload", ""))
    else:
        payload = request.json()
    return event_name(request.header("x-github-event"), text_at(payload, "action"))


def _correlation(payload: Any) -> Iterator[str]:
    place = word_at(payload, "repository.full_name")
    if not place:
        return
    # issues and pull requests share their numbers
    for subject in ("pull_request", "issue"):
        thing = value_at(payload, subject)
        if number := word_at(thing, "number"):
            yield f"github:{place}#{number}"
            yield from tickets(word_at(thing, "title"), word_at(thing, "head.ref"))
    if number := word_at(payload, "discussion.number"):
        yield f"github:{place}/discussions/{number}"
    for subject in ("workflow_run", "check_run", "check_suite"):
        if thing := value_at(payload, subject):
            if number := word_at(thing, "pull_requests.0.number"):
                yield f"github:{place}#{number}"
            yield from tickets(word_at(thing, "head_branch"))
    for path in (
        "workflow_run.head_sha", "workflow_job.head_sha", "check_run.head_sha",
        "check_suite.head_sha", "deployment.sha", "after", "sha", "comment.commit_id",
        "pull_request.head.sha",
    ):  # fmt: skip
        if sha := word_at(payload, path):
            yield f"github:{place}@{sha}"
    if tag := word_at(payload, "release.tag_name"):
        yield f"github:{place}/releases/{tag}"
    if number := word_at(payload, "alert.number"):
        yield f"github:{place}/alerts/{number}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "GitHub-Hookshot/hookstream",
        "X-GitHub-Event": hook.event_type.partition(".")[0] or "pull_request",
        "X-GitHub-Delivery": hook.delivery_id,
        "X-Hub-Signature-256": "sha256=" + sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="github",
    title="GitHub",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("x-github-delivery")),
    sign=signed(_sign),
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
    credential="the webhook's Secret, as typed into GitHub's settings",
    check_secret=any_secret,
    correlation=_correlation,
)
