"""Rules: what becomes of each kind, for who reads; of a tool, or those that come along."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from hookstream.app.privacy.kinds import KINDS, family, is_kind

__all__ = [
    "ACTIONS",
    "AGENTS",
    "BLOCK",
    "DEFAULTS",
    "DROP",
    "MASK",
    "MODELS",
    "PASS",
    "PSEUDONYM",
    "READERS",
    "Rules",
]

PASS, MASK, PSEUDONYM, DROP, BLOCK = "pass", "mask", "pseudonym", "drop", "block"
ACTIONS: Final = (PASS, MASK, PSEUDONYM, DROP, BLOCK)
#: Who reads: agents in their feeds and over MCP; a model that writes summaries for them.
AGENTS, MODELS = "agents", "models"
READERS: Final = (AGENTS, MODELS)
#: Every kind that no other name in a rule fits.
EVERY: Final = "*"
MAX_FIELDS: Final = 64
_PATH: Final = re.compile(r"[^.\s][^.]{0,99}(?:\.[^.]{1,100}){0,15}")

#: What nobody needs to understand an event, and what does harm where it leaks.
DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {"secret": MASK, "card": MASK, "iban": MASK, "national_id": MASK}
)


@dataclass(frozen=True, slots=True)
class Rules:
    """A tool's rules: for each reader what becomes of kinds, and for both of fields.

    ``models`` holds besides ``agents``: a model is told at most what agents are. ``fields``: paths
    in a payload, with ``*`` for any name or item.
    """

    agents: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Rules":
        """Rules as they are kept.

        Raises:
            ValueError: they name something that there is not, and what there is.
        """
        if unknown := set(given) - {*READERS, "fields", "keep"}:
            raise ValueError(f"{min(unknown)}: no such reader; there are agents and models")
        if given.get("keep", "original") != "original":
            raise ValueError(
                'keep: only "original" can be had: what is stored, archived and shown to who has '
                "the admin key is what the sender sent"
            )
        readers = {reader: _actions(reader, given.get(reader) or {}) for reader in READERS}
        for kind, action in readers[MODELS].items():
            if action == BLOCK:
                raise ValueError(
                    f'models.{kind}: "block" is for agents: it keeps an event from everybody'
                )
        return cls(**readers, fields=_fields(given.get("fields") or {}))

    def uses_pseudonyms(self) -> bool:
        """Whether any rule wants the installation's key."""
        return any(PSEUDONYM in getattr(self, name).values() for name in (*READERS, "fields"))

    def actions(self, reader: str) -> dict[str, str]:
        """What becomes of each kind that does not pass, for a reader.

        The most exact name counts: the kind, its family, ``*``; for agents then what comes along.
        """
        given: Mapping[str, str] = getattr(self, reader)
        found = {}
        for kind in KINDS:
            action = _first(given, kind) or (_first(DEFAULTS, kind) if reader == AGENTS else PASS)
            action = action or PASS
            if action != PASS:
                found[kind] = action
        return found


def _first(given: Mapping[str, str], kind: str) -> str | None:
    return given.get(kind) or given.get(family(kind)) or given.get(EVERY)


def _actions(reader: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ValueError(f'{reader}: an object such as {{"email": "mask"}}')
    for kind, action in given.items():
        if kind != EVERY and not is_kind(kind):
            raise ValueError(f"{reader}: there is no kind {kind!r}; there are {', '.join(KINDS)}")
        if action not in ACTIONS:
            raise ValueError(f"{reader}.{kind}: one of {', '.join(ACTIONS)}")
    return dict(given)


def _fields(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping) or len(given) > MAX_FIELDS:
        raise ValueError(f"fields: an object of at most {MAX_FIELDS} paths")
    for path, action in given.items():
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            raise ValueError(
                f"fields: {str(path)[:100]!r} is no path such as customer.ssn or items.*.note"
            )
        if action not in ACTIONS:
            raise ValueError(f"fields.{path}: one of {', '.join(ACTIONS)}")
    return dict(given)
