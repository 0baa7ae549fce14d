"""The maskers of tools: what their rules make of events, made once for each state of a tool."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from hookstream.app import metrics
from hookstream.app.errors import BlockedByRuleError
from hookstream.app.privacy.finder import DETECTORS, Finder
from hookstream.app.privacy.masking import Masked, Masker
from hookstream.app.privacy.pseudonyms import Pseudonyms
from hookstream.app.privacy.rules import AGENTS, BLOCK, MASK, MODELS, Rules
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.ner import Ner
from hookstream.codecs.envelope import Event

__all__ = ["ASIDE_BYTES", "Maskers", "count_masked"]

T = TypeVar("T")

#: Larger payloads are masked in a thread: with a hundred thousand candidates one takes 0.4 s.
ASIDE_BYTES: Final = 128 * 1024
#: Of a process. A finder has automata of a few megabytes.
MAX_FINDERS: Final = 32
MAX_MASKERS: Final = 4096
#: Who reads what is kept: as agents, also of what they are kept from altogether.
KEEPER: Final = "keeper"


class Maskers:
    """Finds the masker for an event. Tools that have the same kinds share what finds them."""

    def __init__(
        self, catalog: Callable[[], Catalog], key: str = "", ner: Ner | None = None
    ) -> None:
        """``key``: ``HOOKSTREAM_PSEUDONYM_KEY``; without it pseudonyms cannot be made.

        ``ner``: the model of ``HOOKSTREAM_NER``, where there is one.
        """
        self._catalog = catalog
        self._key = key.encode()
        self._ner = ner
        self._finders: dict[frozenset[str], Finder] = {}
        self._maskers: dict[
            tuple[str, str, str, str], tuple[Rules | None, Rules | None, Masker]
        ] = {}

    def of(self, event: Event, reader: str = AGENTS) -> Masker:
        """What ``reader`` of an event is given: by its tool's rules, its tenant's, the defaults.

        Raises ValueError: pseudonyms are wanted, and there is no key for them.
        """
        catalog = self._catalog()
        tool = catalog.tools.get(event.tool_id)
        own = tool.masking if tool and tool.tenant == event.tenant else None
        tenants = catalog.masking.get(event.tenant)
        name = (event.tenant, event.tool_id, event.provider, reader)
        known = self._maskers.get(name)
        if known is not None and known[0] is own and known[1] is tenants:
            return known[2]
        rules = catalog.rules_of(event.tenant, event.tool_id)
        masker = self._made(rules, reader, event)
        if len(self._maskers) >= MAX_MASKERS:
            self._maskers.clear()
        self._maskers[name] = own, tenants, masker
        return masker

    @property
    def has_model(self) -> bool:
        """Whether there is one, whatever it is asked of."""
        return self._ner is not None

    def asks(self, event: Event, reader: str = AGENTS) -> bool:
        """Whether the model is to be asked before ``reader`` is given anything of an event.

        Raises as :meth:`of`.
        """
        return self._ner is not None and not self._ner.kinds.isdisjoint(
            self.of(event, reader).actions
        )

    async def settled(self, event: Event, work: Callable[[], T], reader: str = AGENTS) -> T:
        """What ``work`` gives, which masks an event, or what is said of it, for ``reader``.

        It is done twice where the model is asked in between, and in a thread where it may be long.

        Raises:
            NerError: the model does not say what is to be hidden.
            Exception: what ``work`` raises.
        """
        aside = event.payload_bytes > ASIDE_BYTES
        if self._ner is not None and self.asks(event, reader):
            return await self._ner.settled(work, aside=aside)
        return await asyncio.to_thread(work) if aside else work()

    async def for_agents(self, event: Event) -> Event | None:
        """An event as agents see it; None where a rule keeps it from everybody.

        Raises:
            CodecError: its payload cannot be had.
            NerError: the model does not say what is to be hidden.
            ValueError: pseudonyms are wanted, and there is no key for them.
        """
        try:
            masked = await self.settled(event, lambda: self.of(event).event(event))
        except BlockedByRuleError:
            return None
        return masked.event

    async def for_models(self, event: Event) -> Event:
        """An event that agents may see, as a model is told of it. Raises as :meth:`for_agents`."""
        masked = await self.settled(event, lambda: self.of(event, MODELS).event(event), MODELS)
        count_masked(masked.counts)
        return masked.event

    async def for_keeping(self, event: Event) -> Event:
        """An event of which nothing is kept but what agents may see: ``keep: "masked"``.

        What a rule blocks is masked, and named by its kind in ``blocked_by``. Raises as
        :meth:`for_agents`.
        """
        masked = await self.settled(event, lambda: self._kept(event))
        count_masked(masked.counts)
        return masked.event

    def _kept(self, event: Event) -> Masked:
        blocked = ""
        try:
            masked = self.of(event).event(event)
        except BlockedByRuleError as error:
            blocked = error.kind
            masked = self.of(event, KEEPER).event(event)
        kept = replace(masked.event, kept_masked=True, blocked_by=blocked)
        return Masked(kept, masked.counts)

    def _made(self, rules: Rules, reader: str, event: Event) -> Masker:
        actions = rules.actions(AGENTS if reader == KEEPER else reader)
        fields = dict(rules.fields) if reader != MODELS else None
        kinds = frozenset(actions)
        if reader == KEEPER:
            for said in (actions, fields or {}):
                said |= {name: MASK for name, action in said.items() if action == BLOCK}
        finder = self._finders.get(kinds)
        if finder is None:
            asked = () if self._ner is None else (self._ner.detector,)
            finder = Finder(kinds, (*DETECTORS, *asked))
            if len(self._finders) >= MAX_FINDERS:
                self._finders.clear()
            self._finders[kinds] = finder
        return Masker(
            actions,
            provider=event.provider,
            fields=fields,
            pseudonyms=Pseudonyms(self._key, event.tenant) if self._key else None,
            finder=finder,
        )


def count_masked(counts: Counter[tuple[str, str]]) -> None:
    """Count in metrics what was hidden: by kind and action, how often."""
    for (kind, action), count in counts.items():
        metrics.MASKED.labels(kind=kind, action=action).inc(count)
