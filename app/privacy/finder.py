"""Finding: a payload that has nothing costs one pass of RE2, linear in its size.

Where that pass finds a candidate, the values are walked and every text is looked at.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import re2

from hookstream.app.privacy.detector import Detector, Place, Span
from hookstream.app.privacy.detectors.cards import Cards
from hookstream.app.privacy.detectors.emails import Emails
from hookstream.app.privacy.detectors.ibans import Ibans
from hookstream.app.privacy.detectors.ips import Ips
from hookstream.app.privacy.detectors.national_ids import NationalIds
from hookstream.app.privacy.detectors.people import People
from hookstream.app.privacy.detectors.phones import Phones
from hookstream.app.privacy.detectors.secrets import Secrets

__all__ = ["DETECTORS", "Finder", "Lens"]

#: In the order in which they count where they overlap.
DETECTORS: Final[tuple[Detector, ...]] = (
    Secrets(),
    Ibans(),
    Cards(),
    NationalIds(),
    Emails(),
    Phones(),
    Ips(),
    People(),
)
#: An escaped character of ASCII, of Latin-1 or of Cyrillic: what is written so is looked at.
_ESCAPED: Final = r"\\u00[2-7]|\\u04[0-4]"
MAX_PLACES: Final = 4096
MAX_LENSES: Final = 1024
#: Of RE2's automaton; what would need more goes a slower way, still linear.
_AUTOMATON_BYTES: Final = 32 * 1024 * 1024
_NOTHING: Final = "[^\\x00-\\xff]"


class Lens:
    """Some detectors: those that a payload has candidates for."""

    def __init__(
        self, kinds: frozenset[str], texts: Sequence[Detector], names: Sequence[Detector]
    ) -> None:
        """``texts`` may find something in any text, ``names`` in fields that they concern."""
        self._kinds = kinds
        self._texts = texts
        self._all = [*texts, *(detector for detector in names if detector not in texts)]
        self._all.sort(key=lambda detector: detector.rank)
        self._gate = _searched([detector.texts for detector in texts]) if texts else None
        #: Whether a place says anything of what is in it; senders choose names, so there is an end.
        self._places: dict[Place, bool] = {}

    def concerns(self, place: Place) -> bool:
        """Whether a place says anything of what is in it, whatever that looks like."""
        known = self._places.get(place)
        if known is None:
            known = any(detector.concerns(place) for detector in self._all)
            if len(self._places) < MAX_PLACES:
                self._places[place] = known
        return known

    def candidates(self, text: str, place: Place) -> Sequence[Detector]:
        """Who may find something in a text; nobody at all for most."""
        if self.concerns(place):
            return self._all
        if place.number or self._gate is None or not self._gate(text.encode(errors="replace")):
            return ()
        return self._texts

    def spans(
        self, text: str, place: Place, detectors: Sequence[Detector] | None = None
    ) -> Sequence[Span]:
        """Parts of a text, in their order; none overlaps another.

        ``detectors``: those of :meth:`candidates`, where they were asked for.
        """
        if detectors is None:
            detectors = self.candidates(text, place)
        found = [
            (span.start, order, span)
            for order, detector in enumerate(detectors)
            for span in detector.find(text, place)
            if span.kind in self._kinds and span.start < span.end
        ]
        if len(found) < 2:
            return [span for _, _, span in found]
        whole = [each for each in found if not each[0] and each[2].end == len(text)]
        if whole:
            # what is said of the whole of it hides also what is between the parts
            return [whole[0][2]]
        found.sort(key=lambda each: each[:2])
        kept = [found[0]]
        for each in found[1:]:
            last = kept[-1]
            if each[0] >= last[2].end:
                kept.append(each)
            elif each[1] < last[1]:
                kept[-1] = each
        return [span for _, _, span in kept]


class Finder:
    """Finds what is of some kinds, with the detectors that know them."""

    def __init__(self, kinds: Iterable[str], detectors: Sequence[Detector] = DETECTORS) -> None:
        self.kinds = frozenset(kinds)
        self._detectors = [d for d in detectors if not self.kinds.isdisjoint(d.kinds)]
        #: Everything that there is: for what a payload's bytes do not show.
        self.whole = Lens(self.kinds, self._detectors, self._detectors)
        patterns = [_ESCAPED]
        for detector in self._detectors:
            patterns += detector.texts, detector.names or _NOTHING
        self._candidates = _searched(patterns)
        self._lenses: dict[tuple[int, ...], Lens] = {}

    def lens(self, payload: bytes) -> Lens | None:
        """What may find anything in JSON of these bytes; None where nothing does.

        About 6 µs for 1.5 KB.
        """
        if not self._detectors or not (seen := self._candidates(payload)):
            return None
        if 0 in seen:
            return self.whole
        key = tuple(sorted(seen))
        lens = self._lenses.get(key)
        if lens is None:
            texts = [d for at, d in enumerate(self._detectors) if 2 * at + 1 in seen]
            names = [d for at, d in enumerate(self._detectors) if 2 * at + 2 in seen]
            lens = Lens(self.kinds, texts, names)
            if len(self._lenses) < MAX_LENSES:
                self._lenses[key] = lens
        return lens


def _searched(patterns: Sequence[str]) -> Callable[[bytes], list[int]]:
    """Which of some patterns of RE2 are in bytes."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.max_mem = _AUTOMATON_BYTES
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern.encode("ascii"))
    found.Compile()
    match: Callable[[bytes], list[int]] = found.Match
    return match
