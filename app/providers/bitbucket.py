"""Bitbucket."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    short_id,
    signed,
    unsigned,
)
from hookstream.app.providers.shapes import Shapes
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

_PULL = "pullrequest !approval !changes_request !comment"
#: support.atlassian.com/bitbucket-cloud/docs/event-payloads
SHAPES = Shapes(
    {
        "diagnostics.ping": "test",
        "issue.comment_created": "issue comment !changes",
        "issue.created": "issue !comment !changes",
        "issue.updated": "issue changes",
        "pullrequest.approved": "pullrequest approval",
        "pullrequest.changes_request_created": "pullrequest changes_request",
        "pullrequest.changes_request_removed": "pullrequest changes_request",
        "pullrequest.comment_created": "pullrequest comment",
        "pullrequest.comment_deleted": "pullrequest comment",
        "pullrequest.comment_reopened": "pullrequest comment",
        "pullrequest.comment_resolved": "pullrequest comment",
        "pullrequest.comment_updated": "pullrequest comment",
        "pullrequest.created": f"{_PULL} pullrequest.state~OPEN",
        "pullrequest.fulfilled": f"{_PULL} pullrequest.state~MERGED",
        "pullrequest.push": f"{_PULL} pullrequest.state~OPEN",
        "pullrequest.rejected": f"{_PULL} pullrequest.state~DECLINED|SUPERSEDED",
        "pullrequest.unapproved": "pullrequest approval",
        "pullrequest.updated": _PULL,
        "repo.commit_comment_created": "commit comment",
        "repo.commit_status_created": "commit_status",
        "repo.commit_status_updated": "commit_status",
        "repo.created": "repository actor .",
        "repo.deleted": "repository actor .",
        "repo.fork": "fork",
        "repo.imported": "repository actor .",
        "repo.push": "push",
        "repo.transfer": "previous_owner",
        "repo.updated": "changes !issue",
    },
    everywhere="repository actor",
)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "X-Hub-Signature", prefix="sha256=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # Data Center's bodies say it, and are signed; Cloud's do not: "pullrequest:created"
    payload = request.json()
    if key := text_at(payload, "eventKey"):
        return event_name(key.replace(":", "."))
    name = request.header("x-event-key").replace(":", ".")
    return event_name(SHAPES.checked(name, payload, request.decoded))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return short_id(request.header("x-request-uuid") or request.header("x-request-id"))


def _ping(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    # "Test connection" of Bitbucket Data Center is not signed, and has nothing in it
    is_ping = request.header("x-event-key") == "diagnostics:ping"
    return Answer(200, b"", "text/plain") if is_ping and request.method == "POST" else None


def _correlation(payload: Any) -> Iterator[str]:
    place = word_at(payload, "repository.full_name")
    if place and (number := word_at(payload, "pullrequest.id")):
        yield f"bitbucket:{place}/pull-requests/{number}"
        yield from tickets(
            word_at(payload, "pullrequest.title"),
            word_at(payload, "pullrequest.source.branch.name"),
        )
    if place and (number := word_at(payload, "issue.id")):
        yield f"bitbucket:{place}/issues/{number}"
    project = word_at(payload, "pullRequest.toRef.repository.project.key")
    if project and (number := word_at(payload, "pullRequest.id")):
        slug = word_at(payload, "pullRequest.toRef.repository.slug")
        yield f"bitbucket:{project}/{slug}/pull-requests/{number}"
        yield from tickets(
            word_at(payload, "pullRequest.title"), word_at(payload, "pullRequest.fromRef.displayId")
        )


def _sign(hook: Delivery) -> dict[str, str]:
    event = hook.event_type or SHAPES.fitting(hook.body) or "repo.push"
    return {
        "Content-Type": JSON,
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Event-Key": event.replace(".", ":"),
        "X-Request-UUID": hook.delivery_id,
        "X-Attempt-Number": "1",
        "X-Hub-Signature": "sha256=" + sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="bitbucket",
    title="Bitbucket",
    hosts=("bitbucket.org",),
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    signed_type=unsigned,
    shapes=SHAPES,
    sign=signed(_sign),
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
    credential="the webhook's Secret, as typed into or generated by Bitbucket's settings",
    check_secret=any_secret,
    correlation=_correlation,
    challenge=_ping,
    notes=Notes(
        setup="Webhook, Secret",
        verified_by="`X-Hub-Signature`: `sha256=` and hex HMAC-SHA256",
        type_from="`X-Event-Key` with dots: `repo.push`, `pullrequest.created`",
        delivery_from="`X-Request-UUID`, else `X-Request-Id` (Data Center)",
        why="the ids are not signed",
        answers=(
            (
                "`diagnostics:ping`",
                "200, empty",
                '"Test connection" of Bitbucket Data Center is not signed; it becomes no event',
            ),
        ),
    ),
)
