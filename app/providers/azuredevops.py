"""Azure DevOps: service hooks of its Web Hooks consumer."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import delivery_at, type_at
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, signed
from hookstream.app.providers.shared_secret import (
    VERIFIED_BY,
    password_of,
    shared_secret_headers,
    verify_shared_secret,
)

__all__ = ["PROVIDER"]


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("resource.repository", "resource.pullRequest.repository"):
        above = path.removesuffix("repository")
        number = word_at(payload, f"{above}pullRequestId")
        if number and (place := word_at(payload, f"{path}.name")):
            yield f"azuredevops:{place}!{number}"
            yield from tickets(
                word_at(payload, f"{above}title"), word_at(payload, f"{above}sourceRefName")
            )
    subject = word_at(payload, "eventType").partition(".")[0]
    found = word_at(payload, "resource.workItemId") or word_at(payload, "resource.id")
    if subject in ("workitem", "build") and found:
        yield f"azuredevops:{subject}/{found}"
    for path in ("resource.refUpdates.0.newObjectId", "resource.lastMergeSourceCommit.commitId"):
        if sha := word_at(payload, path):
            yield f"azuredevops:@{sha}"


PROVIDER = Provider(
    name="azuredevops",
    title="Azure DevOps",
    verify=verify_shared_secret,
    event_type=type_at("eventType"),
    delivery_id=delivery_at("id"),
    sign=signed(shared_secret_headers),
    # nothing is signed: who has the password could send anything
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    browsers_can_send=True,
    credential="the basic authentication's user:password, or a header's value",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=_correlation,
    options=frozenset({"header"}),
    hosts=("dev.azure.com", "*.visualstudio.com"),
    notes=Notes(
        setup="Service hooks, Web Hooks: Basic authentication, or an HTTP header; send all details",
        verified_by=VERIFIED_BY,
        type_from="`eventType`: `git.pullrequest.merged`",
        delivery_from="`id`",
        why="the event's id stays when it is sent again",
        source="https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks",
    ),
)
