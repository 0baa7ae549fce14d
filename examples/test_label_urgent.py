"""The test of that stage: no server, no fixtures."""

from examples.label_urgent import label_urgent
from hookstream.testing import make_event, run_stage


def test_an_outage_is_labelled() -> None:
    calm, urgent = run_stage(
        label_urgent, [make_event({"text": "hi"}), make_event({"text": "Outage!"}, number=1)]
    )
    assert "x-urgent" not in calm.headers
    assert urgent.headers["x-urgent"] == "yes"
