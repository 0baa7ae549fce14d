"""Whether what a row gave is what the program can work with, whoever wrote it there."""

from collections.abc import Iterable

from hookstream.app.priority import rank
from hookstream.app.providers import PROVIDERS
from hookstream.app.routing.catalog import DEAD_LETTER, MARK, REJECT, Context, Subscription, Tool

__all__ = ["check_context", "check_subscription", "check_tool"]


def check_tool(tool: Tool) -> Tool:
    """The same tool. Raises ValueError, naming the column, where it cannot be worked with."""
    rule = tool.payload_rule
    _expect("provider", tool.provider in PROVIDERS)
    _expect("secrets", _texts(tool.secrets))
    _expect(
        "dedup",
        tool.strategy in ("payload", "delivery", "fields", "none", "custom")
        and _texts((*tool.fields, tool.function))
        and all(_whole(value) and value >= 0 for value in (tool.window_ms, tool.history_ms)),
    )
    _expect(
        "ordering",
        tool.order_by in ("tool", "field", "none")
        and tool.on_error in ("skip", "hold")
        and _texts((tool.order_field,)),
    )
    own = tool.webhooks_per_second
    _expect("webhooks_per_second", own is None or (_number(own) and own >= 0))
    _expect("public_url", _texts((tool.public_url,)))
    _expect("alert", all(_number(value) for value in tool.alert.values()))
    _expect(
        "payload_schema",
        rule is None
        or (_texts((rule.subject,)) and rule.on_violation in (REJECT, DEAD_LETTER, MARK)),
    )
    return tool


def check_context(context: Context) -> Context:
    """The same context. Raises ValueError, naming the column, where it cannot be worked with."""
    rank(context.priority)
    rate, daily, keeping = context.rate, context.daily, context.keeping
    _expect(
        "rate",
        rate is None
        or (
            _number(rate.updates_per_second)
            and rate.updates_per_second > 0
            and _whole(rate.burst)
            and rate.burst >= 1
        ),
    )
    _expect(
        "daily",
        daily is None
        or (
            daily.since.tzinfo is not None
            and (daily.token_budget is None or _whole(daily.token_budget))
        ),
    )
    _expect(
        "retention",
        all(
            value is None or (_whole(value) and value >= 0)
            for value in (keeping.age_ms, keeping.updates, keeping.acknowledged_ms)
        ),
    )
    return context


def check_subscription(subscription: Subscription, types: Iterable[object]) -> None:
    """Raises ValueError, naming the column, where it cannot be worked with."""
    rank(subscription.priority)
    _expect("types", _texts(types))


def _expect(column: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"what stands in {column} is nothing that this release knows")


def _texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _number(value: object) -> bool:
    return isinstance(value, float) or _whole(value)
