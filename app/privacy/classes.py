"""Classes of data, as rules about keeping name them: each is some of the kinds that are found."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hookstream.app.privacy.kinds import KINDS, NATIONAL_IDS, SECRETS
from hookstream.app.privacy.masking import Masker
from hookstream.app.privacy.rules import MASK
from hookstream.codecs.envelope import Event

__all__ = ["CLASSES", "ClassJudge"]

_PERSONAL: Final = ("email", "phone", "ip", "name", "address", "birth_date", *NATIONAL_IDS)
CLASSES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "personal": _PERSONAL,
        "contact": ("email", "phone", "address"),
        "identity": ("birth_date", *NATIONAL_IDS),
        "payment": ("card", "iban"),
        "secret": SECRETS,
        "any": KINDS,
    }
)


class ClassJudge:
    """Says whether an event has data of a class, by looking into its payload."""

    def __init__(self) -> None:
        self._maskers: dict[tuple[str, str], Masker] = {}

    def has(self, data_class: str, event: Event) -> bool:
        """Whether anything of the class is found in an event whose payload can be read.

        Some ten to some hundred microseconds, as masking it would cost.

        Raises:
            CodecError: its payload cannot be had.
        """
        name = (data_class, event.provider)
        masker = self._maskers.get(name)
        if masker is None:
            actions = dict.fromkeys(CLASSES[data_class], MASK)
            masker = self._maskers[name] = Masker(actions, provider=event.provider)
        return bool(masker.event(event).counts)
