"""A tenant's metrics as text."""

from prometheus_client.parser import text_string_to_metric_families

from hookstream.app.web.tenants import prometheus_text


def test_metrics_are_what_prometheus_reads() -> None:
    found = {
        "today": {"events": 3, "bytes": 90, "refused": {"tools": 2}},
        "quotas": [
            {"name": "tools", "used": 1, "most": 20},
            {"name": "events_per_second", "used": None, "most": 1.5},
            {"name": "keys", "used": 4, "most": None},
        ],
        "contexts": [
            {"context_id": "c", "last_seq": 7, "acknowledged_seq": 5, "throttled": 0},
        ],
    }
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(prometheus_text(found))
        for sample in family.samples
    }
    assert samples == {
        ("hookstream_tenant_events_today",): 3,
        ("hookstream_tenant_bytes_today",): 90,
        ("hookstream_tenant_refused_today", "tools"): 2,
        ("hookstream_tenant_quota_used", "tools"): 1,
        ("hookstream_tenant_quota_used", "keys"): 4,
        ("hookstream_tenant_quota_most", "tools"): 20,
        ("hookstream_tenant_quota_most", "events_per_second"): 1.5,
        ("hookstream_tenant_context_last_seq", "c"): 7,
        ("hookstream_tenant_context_acknowledged_seq", "c"): 5,
        ("hookstream_tenant_context_throttled", "c"): 0,
    }
