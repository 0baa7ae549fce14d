"""What of Faust is not here: refused where it is declared or called, with what to use instead.

Without this much of it would be taken, and do nothing, or talk to a Kafka that is not there.
``docs/stages.md`` has the same list (``tests/unit/test_refusals.py`` compares).
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import faust

from hookstream.app.errors import UnsupportedError

__all__ = [
    "OF_AGENTS",
    "OF_STREAMS",
    "OF_THE_APP",
    "SIGNALS",
    "RefusedSignal",
    "StagesAgent",
    "StagesStream",
    "Unsupported",
    "refuse",
    "refuses",
]

_CHANNEL: Final = "use app.stream_channel(name, codec=...) and its send(key=..., value=...)"
_ORDER: Final = "set the tool's ordering: it says which events meet in one partition"
_STORE: Final = "use app.Table(name, default=...), and put a list or a dictionary into it"
_ONE: Final = "read partition by partition: a page sees those of its worker (docs/stages.md)"
_CLAIMS: Final = "partitions are claimed one by one: use @app.lifespan for what a worker opens"

#: Attributes of ``app``, and what there is instead.
OF_THE_APP: Final = {
    "SetTable": _STORE,
    "SetGlobalTable": _STORE,
    "GlobalTable": f"use app.Table, and {_ONE}",
    "LiveCheck": "use hookstream.testing, and hookstream send",
    "topic": f"{_CHANNEL}; topics are there with HOOKSTREAM_KAFKA_URL (docs/kafka.md)",
    "table_route": _ONE,
    "topic_route": _ONE,
}
#: Methods of agents. An agent is what its channel brings, in the worker that has the partition.
OF_AGENTS: Final = dict.fromkeys(
    ("ask", "ask_nowait", "cast", "send", "map", "kvmap", "join", "kvjoin"),
    f"agents answer nobody, and get what their channel brings: {_CHANNEL}",
) | {"test_context": "use run_stage or run_batch of hookstream.testing"}
#: Methods of streams.
OF_STREAMS: Final = {
    "group_by": _ORDER,
    "through": _CHANNEL,
    "derive_topic": _CHANNEL,
    **dict.fromkeys(
        ("join", "left_join", "inner_join", "outer_join"),
        "keep what comes first in an app.Table, and look it up when the other comes",
    ),
}
#: Signals of ``app`` that nobody would ever send.
SIGNALS: Final = ("on_partitions_assigned", "on_partitions_revoked", "on_rebalance_complete")


def refuse(what: str, instead: str, *, depth: int = 2) -> NoReturn:
    """Raise UnsupportedError that names ``what`` and the place of the call ``depth`` frames up."""
    frame = sys._getframe(depth)
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    raise UnsupportedError(f"{what} is not supported here ({place}): {instead}")


def refuses(what: str, instead: str) -> Callable[..., NoReturn]:
    """A method that is there to say what to use in its place."""

    def refused(*_: Any, **__: Any) -> NoReturn:
        refuse(what, instead)

    refused.__doc__ = f"Raises UnsupportedError: {instead}."
    return refused


class RefusedSignal:
    """A signal that nobody would ever send."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connect(self, *_: Any, **__: Any) -> NoReturn:
        """Raises UnsupportedError."""
        refuse(f"app.{self._name}", _CLAIMS)


def _methods(of: str, instead: Mapping[str, str]) -> dict[str, Any]:
    return {name: refuses(of.format(name), why) for name, why in instead.items()}


#: Faust's agent without replies, and its stream without topics behind it.
StagesAgent: Any = type("StagesAgent", (faust.Agent,), _methods("{}() of an agent", OF_AGENTS))
StagesStream: Any = type("StagesStream", (faust.Stream,), _methods("{}() of a stream", OF_STREAMS))
#: What an application comes from before ``faust.App``.
Unsupported: Any = type("Unsupported", (), _methods("app.{}", OF_THE_APP))
