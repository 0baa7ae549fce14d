"""What a tool's queue is, as it is kept."""

import pytest

from hookstream.app.errors import SettingsError
from hookstream.app.routing.queues import Queue, SqsSource
from hookstream.app.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/hooks", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/hooks.fifo", "cn-north-1"),
        ("https://us-west-2.queue.amazonaws.com/123456789012/hooks", "us-west-2"),
        ("http://localhost:4566/000000000000/hooks", ""),
        ("http://[::1]:4566/queue/us-east-1/000000000000/hooks", ""),
    ],
)
def test_a_queue_s_region_follows_from_amazon_s_own_urls(url: str, region: str) -> None:
    assert Queue.from_dict({"queue_url": url}).region_in_url == region
    assert Queue.from_dict({"queue_url": url, "region": "eu-north-1"}).region_in_url == "eu-north-1"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"queue_url": "hooks"}, "queue_url"),
        ({"queue_url": "https://sqs.eu-west-1.amazonaws.com/"}, "queue_url"),
        ({"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/../2/q"}, "queue_url"),
        ({"queue_url": "https://user:word@sqs.eu-west-1.amazonaws.com/1/q"}, "queue_url"),
        ({"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q?Action=x"}, "queue_url"),
        ({"region": "Frankfurt!"}, "region"),
        ({"format": "xml"}, "format"),
        ({"headers": {"X Event": "event"}}, "headers"),
    ],
)
def test_what_is_no_queue_is_refused_by_the_name_of_what_is_wrong(
    changed: dict[str, object], said: str
) -> None:
    good = {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q", "format": "raw"}
    assert SqsSource.from_dict({"sqs": good}).queue.name == "q"
    with pytest.raises(ValueError, match=said):
        SqsSource.from_dict({"sqs": {**good, **changed}})


def test_tools_name_the_queues_that_the_setting_names_and_no_others() -> None:
    account = "https://sqs.eu-west-1.amazonaws.com/123456789012/"
    other = "https://sqs.eu-west-1.amazonaws.com/999/one"
    settings = Settings(sqs_queues=f"{account}, {other}")
    assert settings.may_ask_queue(account + "any")
    assert settings.may_ask_queue(other)
    for taken in (account + "q.fifo", "http://127.0.0.1:9324/", "http://[::1]:9324/queue/q"):
        assert Settings(sqs_queues=taken).sqs_queue_urls == (taken,)
    for url in (other + "s", account + "a/b", account, "https://sqs.eu-west-1.amazonaws.com/999/x"):
        assert not settings.may_ask_queue(url), url
    assert not Settings().may_ask_queue(account + "any")


@pytest.mark.parametrize(
    "queues",
    [
        "hooks",
        "https://",
        "https://sqs.eu-west-1.amazonaws.com",
        "https://sqs.eu-west-1.amazonaws.com/",
        "https://sqs.eu-west-1.amazonaws.com/123456789012",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/*",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/hooks-*",
        "https://*.amazonaws.com/123456789012/",
        "http://127.0.0.1:5000/*",
    ],
)
def test_a_setting_that_names_no_queue_is_an_error_at_the_start(
    queues: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOKSTREAM_SQS_QUEUES", queues)
    with pytest.raises(SettingsError, match="HOOKSTREAM_SQS_QUEUES"):
        load_settings()
