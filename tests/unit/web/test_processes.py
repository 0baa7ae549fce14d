"""What several processes say becomes one answer."""

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from hookstream.app.siblings import Siblings, named, siblings_here
from hookstream.app.web.processes import merged_health, merged_metrics

TEXT = """\
# HELP hookstream_requests_total Webhooks.
# TYPE hookstream_requests_total counter
hookstream_requests_total{{provider="a {{b}} \\"c\\"",status="202"}} {count}
# HELP hookstream_stage_seconds_total Time.
# TYPE hookstream_stage_seconds_total counter
# HELP hookstream_websockets Open.
# TYPE hookstream_websockets gauge
hookstream_websockets {count}
# HELP hookstream_dead_letters Letters.
# TYPE hookstream_dead_letters gauge
hookstream_dead_letters 7.0
"""


def test_a_process_knows_the_others_by_what_it_was_told(tmp_path: Path) -> None:
    assert siblings_here({}) is None
    told = Siblings("worker-2", ("receiver", "worker-1", "worker-2"), tmp_path)
    assert siblings_here(told.environment()) == told
    assert told.several
    assert told.shares_ports
    assert told.others == ("receiver", "worker-1")
    assert told.socket("worker-1") == tmp_path / "worker-1"
    alone = Siblings("receiver", ("receiver", "worker"), tmp_path)
    assert not alone.several
    assert not alone.shares_ports
    mixed = Siblings("receiver", ("receiver", "worker-1", "worker-2"), tmp_path)
    assert mixed.several
    assert not mixed.shares_ports
    assert named("worker", 1) == ["worker"]
    assert named("worker", 2) == ["worker-1", "worker-2"]


def test_samples_have_their_process_and_what_all_measure_is_told_once() -> None:
    text = merged_metrics(
        {"receiver-1": TEXT.format(count=1.0), "receiver-2": TEXT.format(count=2.0), "worker": ""}
    )
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            process = sample.labels.pop("process", "")
            found.setdefault(sample.name, {})[process] = sample.value
            if sample.name == "hookstream_requests_total":
                assert sample.labels == {"provider": 'a {b} "c"', "status": "202"}
    assert found["hookstream_requests_total"] == {"receiver-1": 1.0, "receiver-2": 2.0}
    assert found["hookstream_websockets"] == {"receiver-1": 1.0, "receiver-2": 2.0}
    assert found["hookstream_dead_letters"] == {"": 7.0}
    assert found["hookstream_process_up"] == {"receiver-1": 1, "receiver-2": 1, "worker": 0}
    assert text.count("# TYPE hookstream_requests_total") == 1


def health(status: str, **parts: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "version": "1", "parts": parts}


def test_health_is_that_of_the_worst_part_and_counts_are_added() -> None:
    merged = merged_health(
        {
            "receiver-1": health(
                "ok", spool={"status": "ok", "entries": 2}, streams={"status": "ok"}
            ),
            "receiver-2": health(
                "degraded",
                spool={"status": "draining", "entries": 3, "detail": "why"},
                streams={"status": "ok"},
            ),
            "worker": health("ok", partitions={"status": "ok", "owned": 4}),
        }
    )
    assert merged["status"] == "degraded"
    spool = merged["parts"]["spool"]
    assert (spool["status"], spool["detail"], spool["process"]) == ("draining", "why", "receiver-2")
    assert spool["entries"] == 5
    assert merged["parts"]["partitions"] == {"status": "ok", "owned": 4}
    assert merged["parts"]["streams"] == {"status": "ok"}
    assert "streams" not in merged["processes"]["receiver-1"]["parts"]
    assert merged["processes"]["receiver-1"]["parts"]["spool"]["entries"] == 2


def test_all_together_are_down_only_when_each_is() -> None:
    def status(**said: str | None) -> str:
        found = merged_health({name: text and health(text) for name, text in said.items()})
        return str(found["status"])

    assert status(a="ok", b="ok") == "ok"
    assert status(a="ok", b=None) == "degraded"
    assert status(a="degraded", b="down") == "degraded"
    assert status(a="down", b=None) == "down"
