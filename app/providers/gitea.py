"""Gitea, and Forgejo, which signs and names as Gitea does."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import no_delivery, signed_by, verified_by
from hookstream.app.providers.provider import HOUR, UNKNOWN, Notes, Provider, any_secret, event_name
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Gitea-Signature")
#: What only a body of that kind has, the most particular first. The header that names the kind is
#: not signed, so it is not read.
KINDS = (
    ("review", "pull_request_review"),
    ("comment", "issue_comment"),
    ("pull_request", "pull_request"),
    ("issue", "issues"),
    ("commits", "push"),
    ("forkee", "fork"),
    ("release", "release"),
    ("package", "package"),
    ("page", "wiki"),
    ("workflow_job", "workflow_job"),
    ("workflow_run", "workflow_run"),
)


def _kind(payload: Any) -> str:
    for field, kind in KINDS:
        if value_at(payload, field) is not None:
            return kind
    if text_at(payload, "ref_type"):
        # a new branch or tag has a commit, one that is gone has who deleted it
        return "create" if text_at(payload, "sha") else "delete"
    if text_at(payload, "context") and text_at(payload, "sha"):
        return "status"
    return "repository" if text_at(payload, "action") else ""


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if value_at(payload, "repository") is None:
        return UNKNOWN
    kind, action = _kind(payload), text_at(payload, "action")
    if kind == "pull_request_review":
        # "pull_request_review_approved", where the action is "reviewed" for all
        # and "pull_request_comment" where it only comments
        verdict = text_at(payload, "review.type").removeprefix("pull_request_")
        action = verdict.removeprefix("review_") or action
    return event_name(kind, action)


def _correlation(payload: Any) -> Iterator[str]:
    place = word_at(payload, "repository.full_name")
    if not place:
        return
    # issues and pull requests share their numbers
    for subject in ("pull_request", "issue"):
        if number := word_at(payload, f"{subject}.number"):
            yield f"gitea:{place}#{number}"
            yield from tickets(
                word_at(payload, f"{subject}.title"), word_at(payload, f"{subject}.head.ref")
            )
    for path in ("after", "sha", "pull_request.head.sha"):
        if sha := word_at(payload, path):
            yield f"gitea:{place}@{sha}"
    if tag := word_at(payload, "release.tag_name"):
        yield f"gitea:{place}/releases/{tag}"
    if name := word_at(payload, "package.name"):
        yield f"gitea:{place}/packages/{name}"


PROVIDER = Provider(
    name="gitea",
    title="Gitea",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(SCHEME, type_header="X-Gitea-Event", delivery_header="X-Gitea-Delivery"),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("x-gitea-event", "x-gitea-event-type", "x-gitea-delivery"),
    credential="the webhook's Secret, as typed into the repository's settings",
    check_secret=any_secret,
    correlation=_correlation,
    notes=Notes(
        setup="Settings, Webhooks, Gitea (or Forgejo); content type application/json, a Secret",
        verified_by="`X-Gitea-Signature`: hex HMAC-SHA256 of the body",
        type_from=(
            "what the body is of, in the words of `X-Gitea-Event`, and its `action`: `push`, "
            "`pull_request.opened`, `pull_request_review.approved`"
        ),
        delivery_from="not read: `X-Gitea-Delivery` is not signed",
        why="the headers are not signed: who has one webhook could send it again under new ids",
        retries="never by itself; by hand from its page",
        source="https://docs.gitea.com/usage/webhooks",
    ),
)
