"""An event's summary, its facts and what they cost, for a token budget."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from xxhash import xxh3_128_digest

from hookstream.app import metrics
from hookstream.app.correlation import correlation_keys
from hookstream.app.summaries.facts import find_facts, summary_of
from hookstream.app.summaries.templates import Template, TemplateBook, builtin_templates
from hookstream.app.summaries.text import plain_text
from hookstream.app.summaries.tokens import count_tokens, cut_to_tokens
from hookstream.codecs.envelope import Event

__all__ = ["Summariser", "Summary", "fit"]

CACHE_ENTRIES = 4096
#: Facts in the order in which they are left out when they do not fit.
_SPARED = ("url", "action", "state", "count", "actor", "number", "place", "title")


@dataclass(frozen=True, slots=True)
class Summary:
    """One line for an agent, the facts it stands on, and the tokens of both together.

    ``template`` names what made it: ``provider/glob@version``, or ``extract`` without a template.
    ``author`` is who caused the event, as its payload says; "" where it does not. ``keys`` are its
    correlation keys.
    """

    text: str
    facts: Mapping[str, Any]
    tokens: int
    template: str
    author: str
    keys: tuple[str, ...]


class Summariser:
    """Summaries, remembered by payload and template: the same event for ten contexts costs one."""

    def __init__(self, book: TemplateBook | None = None) -> None:
        self._book = builtin_templates() if book is None else book
        self._known: OrderedDict[tuple[bytes, str, str], Summary] = OrderedDict()

    def summarise(
        self, event: Event, budget: int | None = None, own: TemplateBook | None = None
    ) -> Summary:
        """The summary of ``event`` in at most ``budget`` tokens, where one is given.

        A template of the tenant's ``own`` counts before those that come along. One that fails on
        this payload is passed over for the plain summary.
        """
        template = own.find(event.provider, event.type) if own else None
        template = template or self._book.find(event.provider, event.type)
        name = f"{event.provider}/{template.pattern}@{template.version}" if template else "extract"
        key = (xxh3_128_digest(event.payload), name, f"{event.provider}/{event.type}")
        summary = self._known.get(key)
        metrics.SUMMARIES.labels(cache="hit" if summary else "miss").inc()
        if summary is None:
            summary = self._known[key] = _make(event, template, name)
            if len(self._known) > CACHE_ENTRIES:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return fit(summary, budget)


def _make(event: Event, template: Template | None, name: str) -> Summary:
    payload = event.data()
    facts = find_facts(payload)
    text = ""
    if template is not None:
        about = {"type": event.type, "provider": event.provider, "tool_id": event.tool_id}
        try:
            text = template.render(about, payload, facts)
        except Exception:  # noqa: BLE001 a template is user code; what it cannot say is said plainly
            metrics.TEMPLATE_ERRORS.labels(provider=event.provider).inc()
    if not text:
        name, text = "extract", plain_text(summary_of(event, facts), 600)
    return Summary(
        text,
        facts,
        tokens=_cost(text, facts),
        template=name,
        author=str(facts.get("actor", "")),
        keys=correlation_keys(event),
    )


def fit(summary: Summary, budget: int | None) -> Summary:
    """The summary in at most ``budget`` tokens: first facts go, the least telling first."""
    if budget is None or summary.tokens <= budget:
        return summary
    facts = dict(summary.facts)
    for name in (*(name for name in facts if name not in _SPARED), *_SPARED):
        facts.pop(name, None)
        if (tokens := _cost(summary.text, facts)) <= budget:
            return replace(summary, facts=facts, tokens=tokens)
    text = cut_to_tokens(summary.text, budget)
    return replace(summary, text=text, facts={}, tokens=count_tokens(text))


def _cost(text: str, facts: Mapping[str, Any]) -> int:
    return count_tokens(text) + (count_tokens(orjson.dumps(facts).decode()) if facts else 0)
