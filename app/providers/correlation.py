"""Correlation keys: the one thing that events of different types and tools are about.

A pull request, its reviews, its comments and its checks share ``github:acme/app#5``; a ticket that
a branch or a title names adds ``ticket:OPS-7``, which Jira's and Linear's own events carry too.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from hookstream.codecs.envelope import Event

__all__ = ["correlation_keys"]

MAX_KEYS = 8
MAX_KEY_CHARS = 200
#: Keys of tickets as Jira and Linear make them. Version names such as UTF-8 look alike: two letters
#: at least, and no zero in front.
_TICKET: Final = re.compile(r"(?<![A-Za-z0-9-])([A-Z][A-Z0-9]{1,9}-[1-9][0-9]{0,6})(?![A-Za-z0-9])")
_NO_TICKETS: Final = ("UTF-", "ISO-", "SHA-", "CVE-", "RFC-", "HTTP-", "AES-", "BASE-")

Finder = Callable[[Any], Iterator[str]]


def correlation_keys(event: Event) -> tuple[str, ...]:
    """The keys of an event, the most telling first; empty where nothing is known of its payload."""
    finder = _FINDERS.get(event.provider)
    payload = event.data() if finder else None
    if finder is None or not isinstance(payload, (dict, list)):
        return ()
    clean = (key for key in finder(payload) if len(key) <= MAX_KEY_CHARS and key.isprintable())
    return tuple(dict.fromkeys(clean))[:MAX_KEYS]


@cache
def _steps(path: str) -> tuple[str | int, ...]:
    """The parts of a dotted path of this module; numbers are places in a list."""
    return tuple(int(part) if part.isdecimal() else part for part in path.split("."))


def _get(value: Any, path: str) -> Any:
    """What is at a dotted path; None where there is nothing."""
    for step in _steps(path):
        if type(value) is dict:
            value = value.get(step)
        elif type(value) is list and type(step) is int and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _text(value: Any, path: str) -> str:
    """A text or a number at a dotted path; "" where there is neither."""
    found = _get(value, path)
    if found is None or type(found) is str:
        return found or ""
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else ""


def _tickets(*texts: str) -> Iterator[str]:
    for text in texts:
        # most texts name none: a hyphen is found sooner than a word before it
        if "-" not in text:
            continue
        for ticket in _TICKET.findall(text[:500]):
            if not ticket.startswith(_NO_TICKETS):
                yield f"ticket:{ticket}"


def _github(p: Any) -> Iterator[str]:
    place = _text(p, "repository.full_name")
    if not place:
        return
    # issues and pull requests share their numbers
    for subject in ("pull_request", "issue"):
        if number := _text(p, f"{subject}.number"):
            yield f"github:{place}#{number}"
            yield from _tickets(_text(p, f"{subject}.title"), _text(p, f"{subject}.head.ref"))
    if number := _text(p, "discussion.number"):
        yield f"github:{place}/discussions/{number}"
    for subject in ("workflow_run", "check_run", "check_suite"):
        if number := _text(p, f"{subject}.pull_requests.0.number"):
            yield f"github:{place}#{number}"
        yield from _tickets(_text(p, f"{subject}.head_branch"))
    for path in (
        "workflow_run.head_sha", "workflow_job.head_sha", "check_run.head_sha",
        "check_suite.head_sha", "deployment.sha", "after", "sha", "comment.commit_id",
        "pull_request.head.sha",
    ):  # fmt: skip
        if sha := _text(p, path):
            yield f"github:{place}@{sha}"
    if tag := _text(p, "release.tag_name"):
        yield f"github:{place}/releases/{tag}"
    if number := _text(p, "alert.number"):
        yield f"github:{place}/alerts/{number}"


def _gitlab(p: Any) -> Iterator[str]:
    place = _text(p, "project.path_with_namespace")
    if not place:
        return
    kind, iid = _text(p, "object_kind"), _text(p, "object_attributes.iid")
    if kind == "merge_request" and iid:
        yield f"gitlab:{place}!{iid}"
        yield from _tickets(
            _text(p, "object_attributes.title"), _text(p, "object_attributes.source_branch")
        )
    elif kind in ("issue", "work_item") and iid:
        yield f"gitlab:{place}#{iid}"
        yield from _tickets(_text(p, "object_attributes.title"))
    if iid := _text(p, "merge_request.iid"):
        yield f"gitlab:{place}!{iid}"
        yield from _tickets(
            _text(p, "merge_request.title"), _text(p, "merge_request.source_branch")
        )
    if iid := _text(p, "issue.iid"):
        yield f"gitlab:{place}#{iid}"
    for path in ("checkout_sha", "commit.id", "object_attributes.sha", "sha"):
        if sha := _text(p, path):
            yield f"gitlab:{place}@{sha}"


def _bitbucket(p: Any) -> Iterator[str]:
    place = _text(p, "repository.full_name")
    if place and (number := _text(p, "pullrequest.id")):
        yield f"bitbucket:{place}/pull-requests/{number}"
        yield from _tickets(
            _text(p, "pullrequest.title"), _text(p, "pullrequest.source.branch.name")
        )
    if place and (number := _text(p, "issue.id")):
        yield f"bitbucket:{place}/issues/{number}"
    project = _text(p, "pullRequest.toRef.repository.project.key")
    if project and (number := _text(p, "pullRequest.id")):
        slug = _text(p, "pullRequest.toRef.repository.slug")
        yield f"bitbucket:{project}/{slug}/pull-requests/{number}"
        yield from _tickets(
            _text(p, "pullRequest.title"), _text(p, "pullRequest.fromRef.displayId")
        )


def _jira(p: Any) -> Iterator[str]:
    if key := _text(p, "issue.key"):
        yield f"jira:{key}"
        yield f"ticket:{key}"
    elif sprint := _text(p, "sprint.id"):
        yield f"jira:sprint/{sprint}"


def _linear(p: Any) -> Iterator[str]:
    for path in ("data.identifier", "data.issue.identifier"):
        if key := _text(p, path):
            yield f"linear:{key}"
            yield f"ticket:{key}"
    if not _text(p, "data.identifier") and (found := _text(p, "data.issueId")):
        yield f"linear:{found}"
    if found := _text(p, "data.id"):
        yield f"linear:{found}"


def _stripe(p: Any) -> Iterator[str]:
    thing = _get(p, "data.object")
    for path in ("invoice", "payment_intent", "charge", "id", "subscription", "customer"):
        if found := _text(thing, path):
            yield f"stripe:{found}"


def _shopify(p: Any) -> Iterator[str]:
    if (order := _text(p, "order_id")) or ("line_items" in p and (order := _text(p, "id"))):
        yield f"shopify:order/{order}"
    elif "variants" in p and (product := _text(p, "id")):
        yield f"shopify:product/{product}"
    if customer := _text(p, "customer.id"):
        yield f"shopify:customer/{customer}"


def _slack(p: Any) -> Iterator[str]:
    channel = _text(p, "event.channel") or _text(p, "event.item.channel")
    channel = channel or _text(p, "channel.id") or _text(p, "channel_id")
    for path in ("event.thread_ts", "event.message.thread_ts", "event.item.ts", "event.ts"):
        if channel and (ts := _text(p, path)):
            yield f"slack:{channel}/{ts}"
            break
    if channel:
        yield f"slack:{channel}"


def _twilio(p: Any) -> Iterator[str]:
    for name in ("CallSid", "MessageSid", "SmsSid", "ConferenceSid"):
        if sid := _text(p, name):
            yield f"twilio:{sid}"


def _sendgrid(p: Any) -> Iterator[str]:
    for item in p if isinstance(p, list) else ():
        if message := _text(item, "sg_message_id"):
            yield f"sendgrid:{message.partition('.')[0]}"


def _pagerduty(p: Any) -> Iterator[str]:
    data = _get(p, "event.data")
    if incident := _text(data, "incident.id") or _text(data, "id"):
        yield f"pagerduty:{incident}"
    if service := _text(data, "service.id"):
        yield f"pagerduty:{service}"


def _sentry(p: Any) -> Iterator[str]:
    for path in (
        "data.issue.id", "data.event.issue_id", "data.error.issue_id", "data.issue_id",
        "data.metric_alert.id",
    ):  # fmt: skip
        if found := _text(p, path):
            yield f"sentry:{found}"


def _datadog(p: Any) -> Iterator[str]:
    for path in ("alert_id", "alert.id", "aggreg_key", "id"):
        if found := _text(p, path):
            yield f"datadog:{found}"
            return


_FINDERS: Final[dict[str, Finder]] = {
    "github": _github,
    "gitlab": _gitlab,
    "bitbucket": _bitbucket,
    "jira": _jira,
    "linear": _linear,
    "stripe": _stripe,
    "shopify": _shopify,
    "slack": _slack,
    "twilio": _twilio,
    "sendgrid": _sendgrid,
    "pagerduty": _pagerduty,
    "sentry": _sentry,
    "datadog": _datadog,
}
