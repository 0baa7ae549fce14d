"""What a detector is: it finds spans in a text, and says what a payload must have for any."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

__all__ = ["EVERYWHERE", "NOWHERE", "Detector", "Place", "Span"]


class Place(NamedTuple):
    """Where a text stands: the names of its field and of the object around, as ``snake_case``.

    ``number``: it was a number in JSON, and is a text for detectors only.
    """

    field: str = ""
    parent: str = ""
    number: bool = False


#: Of a text that has no field.
NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, and the kind of what it is."""

    start: int
    end: int
    kind: str


class Detector(Protocol):
    """Finds one family of kinds. A model for names in free text has this interface, too.

    ``texts`` is a pattern of RE2 over the UTF-8 bytes of a text: where it does not match,
    :meth:`find` finds nothing there, unless the detector :meth:`concerns` the place. ``names`` is
    one over the bytes of JSON with such places, "" for none. :data:`EVERYWHERE` for a detector that
    cannot say.
    """

    kinds: frozenset[str]
    #: Which one counts where two find something in one place: the lower one.
    rank: int
    texts: str
    names: str

    def concerns(self, place: Place) -> bool:
        """Whether the field itself says something of any text in it."""

    def find(self, text: str, place: Place) -> Iterable[Span]:
        """Parts of ``text``; time linear in its length. Of a number only what its field says."""


#: Of ``texts``: any text.
EVERYWHERE: Final = "(?s:.)"
