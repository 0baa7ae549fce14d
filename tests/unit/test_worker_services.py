"""What a worker runs beside its stages, when it is told to stop before all of it is there."""

from typing import Any, cast

import pytest
from mode import Service

from hookstream.app import worker_services
from hookstream.app.worker_services import WorkerServices


class Counted(Service):
    """A service that knows whether it was started."""


@pytest.mark.parametrize("stopped_at", [None, 1])
async def test_a_worker_that_stops_while_it_starts_begins_nothing_more(
    stopped_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they use is closed by then, and each would say so."""
    services = [Counted(), Counted(), Counted()]
    told: list[bool] = []
    monkeypatch.setattr(worker_services, "WORKER_SERVICES", ("s0", "s1", "s2"))
    if stopped_at is not None:

        async def stops() -> None:
            told.append(True)

        monkeypatch.setattr(services[stopped_at], "on_start", stops)
    worker = WorkerServices(
        cast(Any, None),
        cast(Any, None),
        channels={},
        has_tables=lambda: False,
        lifespans=(),
        begin=lambda: None,
        stopping=lambda: bool(told),
    )
    for number, service in enumerate(services):
        monkeypatch.setattr(worker, f"s{number}", service, raising=False)
    async with worker:
        begun = [service.started for service in services]
    assert begun == [stopped_at is None or number <= stopped_at for number in range(3)]
