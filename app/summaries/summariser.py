"""An event's summary, its facts and what they cost, for a token budget."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from xxhash import xxh3_128_digest

from hookstream.app import metrics
from hookstream.app.ids import own_tool_id
from hookstream.app.providers import correlation_keys
from hookstream.app.summaries.facts import find_facts
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.summaries.plain import summary_of
from hookstream.app.summaries.templates import Template, TemplateBook, builtin_templates
from hookstream.app.summaries.text import plain_text
from hookstream.app.summaries.tokens import count_tokens, cut_to_tokens
from hookstream.codecs.envelope import Event

__all__ = ["Summariser", "Summary", "fit"]

CACHE_ENTRIES = 4096
_HIT = metrics.SUMMARIES.labels(cache="hit")
_MISS = metrics.SUMMARIES.labels(cache="miss")
#: Payload, with the headers and the enrichment where those are seen; what made the summary; of
#: which tool, provider and type the event is. What a model is told is the same for the life of a
#: process, and so no part.
_Key = tuple[bytes, str, str]
#: Facts in the order in which they are left out when they do not fit.
_SPARED = ("url", "action", "state", "count", "actor", "number", "place", "title")


@dataclass(frozen=True, slots=True)
class Summary:
    """One line for an agent, the facts it stands on, and the tokens of both together.

    ``template`` names what made it: ``provider/glob@version``, ``extract`` without a template, or
    ``model/NAME``. ``author`` is who caused the event, as its payload says; "" where it does not.
    ``keys`` are its correlation keys.
    """

    text: str
    facts: Mapping[str, Any]
    tokens: int
    template: str
    author: str
    keys: tuple[str, ...]


class Summariser:
    """Summaries, remembered by payload and maker: the same event for ten contexts costs one.

    With a ``model``, :meth:`prepare` asks it, and :meth:`summarise` finds what it said.
    """

    def __init__(
        self,
        book: TemplateBook | None = None,
        model: ModelSummariser | None = None,
        for_model: Callable[[Event], Awaitable[Event]] | None = None,
    ) -> None:
        """``for_model``: an event as the model may be told of it; without it as it is."""
        self._for_model = for_model
        self._book = builtin_templates() if book is None else book
        self._model = model
        self._known: OrderedDict[_Key, Summary] = OrderedDict()

    async def prepare(self, events: Iterable[Event], books: Mapping[str, TemplateBook]) -> None:
        """Ask the model, where there is one, for what it has not said yet of a batch's events.

        Returns within the model's time limit; what it does not say in it, a template will. Events
        that a template of their tenant's own fits (``books``, by tenant) are that template's.
        """
        if self._model is None:
            return
        said: dict[_Key, Summary] = {}
        requests: dict[_Key, bytes] = {}
        for event in events:
            own = books.get(event.tenant)
            if own and own.find(event.provider, event.type):
                continue
            key = _key(event, self._model.name)
            if key in requests:
                continue
            if key in self._known:
                self._known.move_to_end(key)
                continue
            try:
                # without the tenant's own templates: the model's words are remembered for all
                told = await self._for_model(event) if self._for_model else event
                said[key] = self._said(told, self._book.find(told.provider, told.type))
                requests[key] = self._model.request(told, said[key])
            except Exception:  # noqa: BLE001, S112 it fails again, and alone, when it is described
                continue
        for key, text in (await self._model.ask(requests)).items():
            facts = said[key].facts
            self._remember(
                key,
                replace(said[key], text=text, tokens=_cost(text, facts), template=self._model.name),
            )

    def summarise(
        self, event: Event, budget: int | None = None, own: TemplateBook | None = None
    ) -> Summary:
        """The summary of ``event`` in at most ``budget`` tokens, where one is given.

        A template of the tenant's ``own`` counts before what the model said, and that before the
        templates that come along. One that fails on this payload is passed over for the plain
        summary.
        """
        template = own.find(event.provider, event.type) if own else None
        if template is None and self._model is not None:
            key = _key(event, self._model.name)
            said = self._known.get(key)
            if said is not None:
                self._known.move_to_end(key)
                _HIT.inc()
                return fit(said, budget)
        template = template or self._book.find(event.provider, event.type)
        return fit(self._said(event, template), budget)

    def _said(self, event: Event, template: Template | None) -> Summary:
        """What a template says, or the plain summary without one."""
        name = f"{event.provider}/{template.pattern}@{template.version}" if template else "extract"
        key = _key(event, name, _seen_beside(event, template) if template else b"")
        summary = self._known.get(key)
        (_HIT if summary else _MISS).inc()
        if summary is None:
            summary = _make(event, template, name)
            self._remember(key, summary)
        else:
            self._known.move_to_end(key)
        return summary

    def _remember(self, key: _Key, summary: Summary) -> None:
        self._known[key] = summary
        if len(self._known) > CACHE_ENTRIES:
            self._known.popitem(last=False)


def _seen_beside(event: Event, template: Template) -> bytes:
    """What a template sees of an event beside its payload."""
    enriched = event.enriched if template.sees_enrichment else b""
    if not template.sees_headers or not event.headers:
        return enriched
    # apart, so that no two pairs of headers and enrichment look the same
    headers = orjson.dumps(dict(event.headers), option=orjson.OPT_SORT_KEYS)
    return xxh3_128_digest(headers) + enriched


def _key(event: Event, name: str, beside: bytes = b"") -> _Key:
    payload = xxh3_128_digest(event.payload)
    # apart, so that no two pairs of payload and what is beside it look the same
    seen = payload + xxh3_128_digest(beside) if beside else payload
    return seen, name, f"{event.tool_id}/{event.provider}/{event.type}"


def _make(event: Event, template: Template | None, name: str) -> Summary:
    payload = event.data()
    facts = find_facts(payload)
    text = ""
    if template is not None:
        about = {
            "type": event.type,
            "provider": event.provider,
            "tool_id": own_tool_id(event.tool_id),
            "headers": dict(event.headers),
        }
        try:
            text = template.render(about, payload, facts, event.enrichment)
        except Exception:  # noqa: BLE001 a template is user code; what it cannot say is said plainly
            metrics.TEMPLATE_ERRORS.labels(provider=event.provider).inc()
    if not text:
        name, text = "extract", plain_text(summary_of(event, payload, facts), 600)
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
