"""The maskers of tools: what their rules make of events, made once for each state of a tool."""

from collections.abc import Callable
from typing import Final

from hookstream.app import metrics
from hookstream.app.errors import BlockedByRuleError
from hookstream.app.privacy.finder import Finder
from hookstream.app.privacy.masking import Masker
from hookstream.app.privacy.pseudonyms import Pseudonyms
from hookstream.app.privacy.rules import AGENTS, MODELS, Rules
from hookstream.app.routing.catalog import Catalog
from hookstream.codecs.envelope import Event

__all__ = ["ASIDE_BYTES", "Maskers"]

#: Larger payloads are masked in a thread: with a hundred thousand candidates one takes 0.4 s.
ASIDE_BYTES: Final = 128 * 1024
#: Of a process. A finder has automata of a few megabytes.
MAX_FINDERS: Final = 32
MAX_MASKERS: Final = 4096
_ALONG: Final = Rules()


class Maskers:
    """Finds the masker for an event. Tools that have the same kinds share what finds them."""

    def __init__(self, catalog: Callable[[], Catalog], key: str = "") -> None:
        """``key``: ``HOOKSTREAM_PSEUDONYM_KEY``; without it pseudonyms cannot be made."""
        self._catalog = catalog
        self._key = key.encode()
        self._finders: dict[frozenset[str], Finder] = {}
        self._maskers: dict[tuple[str, str, str, str], tuple[Rules, Masker]] = {}

    def of(self, event: Event, reader: str = AGENTS) -> Masker:
        """What ``reader`` of an event is given: by its tool's rules, else those that come along.

        Raises ValueError: pseudonyms are wanted, and there is no key for them.
        """
        tool = self._catalog().tools.get(event.tool_id)
        rules = tool.masking if tool and tool.tenant == event.tenant else _ALONG
        name = (event.tenant, event.tool_id, event.provider, reader)
        known = self._maskers.get(name)
        if known is not None and known[0] is rules:
            return known[1]
        masker = self._made(rules, reader, event)
        if len(self._maskers) >= MAX_MASKERS:
            self._maskers.clear()
        self._maskers[name] = rules, masker
        return masker

    def for_agents(self, event: Event) -> Event | None:
        """An event as agents see it; None where a rule keeps it from everybody.

        Raises:
            CodecError: its payload cannot be had.
            ValueError: pseudonyms are wanted, and there is no key for them.
        """
        try:
            return self.of(event).event(event).event
        except BlockedByRuleError:
            return None

    def for_models(self, event: Event) -> Event:
        """An event that agents may see, as a model is told of it. Raises as :meth:`for_agents`."""
        masked = self.of(event, MODELS).event(event)
        for (kind, action), count in masked.counts.items():
            metrics.MASKED.labels(kind=kind, action=action).inc(count)
        return masked.event

    def _made(self, rules: Rules, reader: str, event: Event) -> Masker:
        actions = rules.actions(reader)
        kinds = frozenset(actions)
        finder = self._finders.get(kinds)
        if finder is None:
            finder = Finder(kinds)
            if len(self._finders) >= MAX_FINDERS:
                self._finders.clear()
            self._finders[kinds] = finder
        return Masker(
            actions,
            provider=event.provider,
            fields=rules.fields if reader == AGENTS else None,
            pseudonyms=Pseudonyms(self._key, event.tenant) if self._key else None,
            finder=finder,
        )
