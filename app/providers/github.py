"""GitHub."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
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

#: docs.github.com/en/webhooks/webhook-events-and-payloads; tried on all examples of
#: octokit/webhooks: none of them fits another type than its own.
SHAPES = Shapes(
    {
        "branch_protection_configuration": "repository sender action action~enabled|disabled .",
        "branch_protection_rule": "rule",
        "check_run": "check_run !deployment",
        "check_suite": "check_suite",
        "code_scanning_alert": "alert commit_oid",
        "commit_comment": "comment !issue !pull_request !discussion",
        "create": "ref ref_type master_branch",
        "custom_property": "definition",
        "custom_property_values": "new_property_values",
        "delete": "ref ref_type !master_branch",
        "dependabot_alert": "alert alert.dependency",
        "deploy_key": "key",
        "deployment": "deployment !deployment_status !workflow_job !deployment_callback_url",
        "deployment_protection_rule": "deployment_callback_url",
        "deployment_review": "workflow_run since",
        "deployment_status": "deployment deployment_status",
        "discussion": "discussion !comment",
        "discussion_comment": "discussion comment",
        "fork": "forkee",
        "github_app_authorization": "sender action action~revoked !repository !installation .",
        "gollum": "pages",
        "installation": "installation sender action !repository !organization .",
        "installation_repositories": "repositories_added repositories_removed",
        "installation_target": "account target_type",
        "issue_comment": "issue comment",
        "issue_dependencies": "blocked_issue",
        "issues": "issue !comment !sub_issue !parent_issue !blocked_issue",
        "label": "label !issue !pull_request !discussion",
        "marketplace_purchase": "marketplace_purchase",
        "member": "member !team",
        "membership": "member team",
        "merge_group": "merge_group",
        "meta": "hook hook_id !zen action~deleted",
        "milestone": "milestone !issue !pull_request",
        "org_block": "blocked_user",
        "organization": "organization sender action !repository .",
        "package": "package",
        "page_build": "build",
        "personal_access_token_request": "personal_access_token_request",
        "ping": "zen",
        "project": "project",
        "project_card": "project_card",
        "project_column": "project_column",
        "projects_v2": "projects_v2",
        "projects_v2_item": "projects_v2_item",
        "projects_v2_status_update": "projects_v2_status_update",
        "public": "repository sender !action .",
        "pull_request": "pull_request !review !comment !thread",
        "pull_request_review": "pull_request review",
        "pull_request_review_comment": "pull_request comment",
        "pull_request_review_thread": "pull_request thread",
        "push": "ref before after commits",
        "registry_package": "registry_package",
        "release": "release",
        "repository": "repository sender action . action~created|deleted|archived|unarchived|"
        "edited|renamed|transferred|publicized|privatized",
        "repository_advisory": "repository_advisory",
        "repository_dispatch": "branch client_payload",
        "repository_import": "repository sender status !action .",
        "repository_ruleset": "repository_ruleset",
        "repository_vulnerability_alert": "alert alert.affected_package_name",
        "secret_scanning_alert": "alert alert.secret_type !location",
        "secret_scanning_alert_location": "alert location",
        "security_advisory": "security_advisory",
        "security_and_analysis": "changes.from.security_and_analysis",
        "sponsorship": "sponsorship",
        "star": "repository starred_at action .",
        "status": "sha state context",
        "sub_issues": "sub_issue parent_issue",
        "team": "team action !member",
        "team_add": "team !action !member",
        "watch": "repository sender action action~started .",
        "workflow_dispatch": "workflow inputs ref",
        "workflow_job": "workflow_job",
        "workflow_run": "workflow_run workflow !deployment !since",
    },
    own_name="{}",
    everywhere="action repository organization installation sender",
)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "X-Hub-Signature-256", prefix="sha256=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # a hook's content type is a setting at GitHub: JSON, or a form with the JSON in one field
    payload = request.json()
    name = SHAPES.checked(request.header("x-github-event"), payload, request.decoded)
    return event_name(name, text_at(payload, "action"))


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
        # what is deleted has none after it
        if (sha := word_at(payload, path)) and sha.strip("0"):
            yield f"github:{place}@{sha}"
    if tag := word_at(payload, "release.tag_name"):
        yield f"github:{place}/releases/{tag}"
    if number := word_at(payload, "alert.number"):
        yield f"github:{place}/alerts/{number}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "GitHub-Hookshot/hookstream",
        "X-GitHub-Event": hook.event_type.partition(".")[0]
        or SHAPES.fitting(hook.body)
        or "pull_request",
        "X-GitHub-Delivery": hook.delivery_id,
        "X-Hub-Signature-256": "sha256=" + sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="github",
    title="GitHub",
    hosts=("github.com",),
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("x-github-delivery")),
    signed_type=unsigned,
    shapes=SHAPES,
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
    # above it GitHub sends none
    max_body_bytes=25 * 1024 * 1024,
    notes=Notes(
        setup="Webhook, Secret; content type JSON (a form works, too)",
        verified_by="`X-Hub-Signature-256`: `sha256=` and hex HMAC-SHA256 of the body",
        type_from="`X-GitHub-Event`, and the payload's `action`: `push`, `pull_request.opened`",
        delivery_from="`X-GitHub-Delivery`",
        why=(
            "the delivery id is not signed: who has one webhook could send it again under new ids"
        ),
    ),
)
