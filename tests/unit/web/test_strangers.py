"""Health and metrics name nothing of a tenant's to strangers."""

from typing import Any
from unittest import mock

import orjson
from aiohttp.test_utils import make_mocked_request

from hookstream.app.routing.catalog import ApiKey, Catalog
from hookstream.app.web.access import Access
from hookstream.app.web.strangers import KnowsNames, nameless_health, nameless_metrics

ONE = Catalog(1, keys={b"k": ApiKey("default", None)})
TWO = Catalog(2, keys={b"k": ApiKey("default", None), b"l": ApiKey("other", None)})


def knows(catalog: Catalog, admin_port: int = 0, **request: Any) -> bool:
    access = Access(mock.Mock(), lambda: "the-key", mock.Mock(), mock.Mock(), mock.Mock())
    transport = mock.Mock()
    transport.get_extra_info = lambda name, default=None: {
        "sockname": ("127.0.0.1", request.get("port", 6066))
    }.get(name, default)
    headers = request.get("headers", {})
    asked = make_mocked_request("GET", "/metrics", headers=headers, transport=transport)
    return KnowsNames(access, lambda: catalog, admin_port)(asked)


def test_names_are_for_the_installation_where_there_are_several_tenants() -> None:
    assert knows(ONE)
    assert not knows(TWO)
    assert not knows(TWO, headers={"Authorization": "Bearer another"})
    assert knows(TWO, headers={"Authorization": "Bearer the-key"})
    assert knows(TWO, admin_port=7000, port=7000)
    assert not knows(TWO, admin_port=7000)


def test_series_that_name_somebody_are_left_out_and_no_others() -> None:
    body = b"""# TYPE hookstream_context_last_seq gauge
hookstream_context_last_seq{context="c",tenant="t"} 1.0
hookstream_tool_failures_total{stage="check",tool="x"} 1.0
hookstream_limited_total{limit="max_tools"} 1.0
hookstream_events_total 3.0
"""
    assert (
        nameless_metrics(body)
        == b"""# TYPE hookstream_context_last_seq gauge
hookstream_limited_total{limit="max_tools"} 1.0
hookstream_events_total 3.0
"""
    )


def test_health_tells_states_and_counts_alone() -> None:
    said = {
        "status": "degraded",
        "parts": {
            "breakers": {"status": "degraded", "tools": {"x": "open"}},
            "spool": {"status": "ok", "entries": 3, "detail": "tool x waits", "fits": True},
        },
    }
    assert orjson.loads(nameless_health(orjson.dumps(said))) == {
        "status": "degraded",
        "parts": {
            "breakers": {"status": "degraded"},
            "spool": {"status": "ok", "entries": 3, "fits": True},
        },
    }
