"""Metrics that were renamed are shown under their old names for a release."""

from prometheus_client import generate_latest

from hookstream.app import metrics


def test_renamed_metrics_keep_their_old_names() -> None:
    before = metrics.UPDATES_THROTTLED._value.get()
    metrics.UPDATES_THROTTLED.inc(3)
    metrics.REDELIVERY_CHECKS.labels(result="fresh").inc()
    text = generate_latest().decode()
    for name in ("hookstream_updates_throttled_total", "hookstream_updates_withheld_total"):
        assert f"\n{name} {before + 3}" in text
    for name in ("redelivery", "copy"):
        assert f'hookstream_dedup_{name}_checks_total{{result="fresh"}} ' in text
    assert (
        "# HELP hookstream_updates_withheld_total Deprecated, use hookstream_updates_throttled: "
        in text
    )
    for new, old in metrics.RENAMED.items():
        assert f"# TYPE {new}" in text, new
        assert f"# TYPE {old}" in text, old
