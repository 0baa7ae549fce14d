"""Correlation keys: what different events say of one thing is the same."""

from typing import Any

import orjson
import pytest

from hookstream.app.providers import correlation_keys
from hookstream.app.testing import make_event
from tests.support.fixtures import github_examples

REPO = {"repository": {"full_name": "acme/app"}}


def keys(provider: str, payload: Any) -> tuple[str, ...]:
    return correlation_keys(make_event(payload, provider=provider))


@pytest.mark.parametrize(
    "payload",
    [
        {"pull_request": {"number": 5}},
        {"pull_request": {"number": 5}, "review": {"id": 9}},
        {"issue": {"number": 5, "pull_request": {}}, "comment": {"id": 1}},
        {"check_run": {"pull_requests": [{"number": 5}], "head_sha": "abc"}},
        {"workflow_run": {"pull_requests": [{"number": 5}], "head_branch": "fix"}},
    ],
)
def test_a_pull_request_has_one_key_across_types(payload: Any) -> None:
    assert keys("github", {**REPO, **payload})[0] == "github:acme/app#5"


@pytest.mark.parametrize(
    ("provider", "payload"),
    [
        ("github", {**REPO, "pull_request": {"number": 5, "title": "OPS-7: mend the disk"}}),
        ("github", {**REPO, "pull_request": {"number": 5, "head": {"ref": "ann/OPS-7-disk"}}}),
        ("gitlab", {
            "object_kind": "merge_request", "project": {"path_with_namespace": "a/b"},
            "object_attributes": {"iid": 1, "title": "x", "source_branch": "OPS-7"},
        }),
        ("bitbucket", {**REPO, "pullrequest": {"id": 3, "title": "Fix (OPS-7)"}}),
        ("jira", {"issue": {"key": "OPS-7"}}),
        ("linear", {"data": {"identifier": "OPS-7"}}),
    ],
)  # fmt: skip
def test_a_ticket_is_one_thing_across_tools(provider: str, payload: Any) -> None:
    assert "ticket:OPS-7" in keys(provider, payload)


@pytest.mark.parametrize("title", ["UTF-8 bugs", "XOPS-7x", "ops-7", "CVE-2026-1", "A-1", "OPS-07"])
def test_what_only_looks_like_a_ticket_is_none(title: str) -> None:
    payload = {**REPO, "pull_request": {"number": 5, "title": title}}
    assert keys("github", payload) == ("github:acme/app#5",)


@pytest.mark.parametrize(
    ("provider", "one", "other", "shared"),
    [
        (
            "stripe",
            {"data": {"object": {"id": "in_1", "customer": "cus_1"}}},
            {"data": {"object": {"id": "ch_1", "invoice": "in_1", "customer": "cus_1"}}},
            "stripe:in_1",
        ),
        (
            "shopify", {"id": 17, "line_items": []}, {"id": 99, "order_id": 17}, "shopify:order/17",
        ),
        (
            "slack",
            {"event": {"channel": "C1", "ts": "1.5"}},
            {"event": {"channel": "C1", "ts": "1.9", "thread_ts": "1.5"}},
            "slack:C1/1.5",
        ),
        (
            "pagerduty",
            {"event": {"data": {"id": "Q1", "type": "incident"}}},
            {"event": {"data": {"id": "N5", "incident": {"id": "Q1"}}}},
            "pagerduty:Q1",
        ),
        (
            "sentry",
            {"data": {"issue": {"id": "7"}}},
            {"data": {"event": {"issue_id": "7"}}},
            "sentry:7",
        ),
        ("twilio", {"CallSid": "CA1"}, {"CallSid": "CA1", "RecordingSid": "RE1"}, "twilio:CA1"),
        ("datadog", {"alert_id": "5", "id": "1"}, {"alert_id": "5", "id": "2"}, "datadog:5"),
        (
            "sendgrid",
            [{"sg_message_id": "m1.filter1"}], [{"sg_message_id": "m1.filter2"}],
            "sendgrid:m1",
        ),
    ],
)  # fmt: skip
def test_events_about_one_thing_share_its_key(
    provider: str, one: Any, other: Any, shared: str
) -> None:
    assert keys(provider, one)[0] == keys(provider, other)[0] == shared


def test_github_examples_have_keys_where_they_are_about_something() -> None:
    for example in github_examples():
        found = correlation_keys(make_event(example.body, provider="github", type=example.type))
        payload = orjson.loads(example.body)
        if example.event in ("pull_request", "issues", "issue_comment", "pull_request_review"):
            number = payload.get("pull_request", payload.get("issue"))["number"]
            assert found[0] == f"github:{payload['repository']['full_name']}#{number}"
