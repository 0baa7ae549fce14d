"""Rules: what becomes of each kind, for who reads; of a tool, its tenant, or what comes along."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from hookstream.app.privacy.kinds import KINDS, family, is_kind

__all__ = [
    "ACTIONS",
    "AGENTS",
    "ALONG",
    "BLOCK",
    "DEFAULTS",
    "DROP",
    "HIDDEN_FROM_ALL",
    "MASK",
    "MASKED",
    "MODELS",
    "ORIGINAL",
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
#: What is kept of an event: what was sent, or only what agents may see.
ORIGINAL, MASKED = "original", "masked"
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
    """For each reader what becomes of kinds, and for both of fields; and what is kept.

    ``models`` holds besides ``agents``: a model is told at most what agents are. ``fields``: paths
    in a payload, with ``*`` for any name or item. ``behind``: rules that count where these say
    nothing of a kind.
    """

    agents: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    keep: str = ORIGINAL
    behind: "Rules | None" = None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Rules":
        """Rules as they are kept.

        Raises:
            ValueError: they name something that there is not, and what there is.
        """
        if unknown := set(given) - {*READERS, "fields", "keep"}:
            raise ValueError(f"{min(unknown)}: no such reader; there are agents and models")
        keep = given.get("keep", ORIGINAL)
        if keep not in (ORIGINAL, MASKED):
            raise ValueError(f'keep: "{ORIGINAL}" or "{MASKED}"')
        readers = {reader: _actions(reader, given.get(reader) or {}) for reader in READERS}
        for kind, action in readers[MODELS].items():
            if action == BLOCK:
                raise ValueError(
                    f'models.{kind}: "block" is for agents: it keeps an event from everybody'
                )
        fields = _fields(given.get("fields") or {})
        return cls(readers[AGENTS], readers[MODELS], fields, keep)

    def before(self, tenant: "Rules") -> "Rules":
        """These rules of a tool, and where they say nothing those of its ``tenant``.

        A kind is a tool's as soon as any name in its rules fits it, a path where it names the same.
        What is kept is the stricter of both: no tool takes back that its tenant keeps nothing.
        """
        return replace(
            self,
            fields={**tenant.fields, **self.fields},
            keep=MASKED if MASKED in (self.keep, tenant.keep) else ORIGINAL,
            behind=tenant,
        )

    def check(self) -> None:
        """Whether all of the rules that hold for a tool, or a tenant, make sense together.

        Raises:
            ValueError: what is kept is to be masked, and nothing is hidden.
        """
        hides = self.actions(AGENTS) or set(self.fields.values()) - {PASS}
        if self.keep == MASKED and not hides:
            raise ValueError(
                'keep: "masked" keeps what agents may see, and these rules hide nothing from them: '
                'name what is to be hidden, as in {"agents": {"email": "mask"}}, or keep the '
                '"original"'
            )

    def uses_pseudonyms(self) -> bool:
        """Whether any rule wants the installation's key."""
        own = any(PSEUDONYM in getattr(self, name).values() for name in (*READERS, "fields"))
        return own or (self.behind is not None and self.behind.uses_pseudonyms())

    def actions(self, reader: str) -> dict[str, str]:
        """What becomes of each kind that does not pass, for a reader.

        The most exact name counts: the kind, its family, ``*``; then those of the rules behind
        these, for agents then what comes along.
        """
        layers: list[Mapping[str, str]] = []
        rules: Rules | None = self
        while rules is not None:
            layers.append(getattr(rules, reader))
            rules = rules.behind
        if reader == AGENTS:
            layers.append(DEFAULTS)
        found = {}
        for kind in KINDS:
            action = next((said for layer in layers if (said := _first(layer, kind))), PASS)
            if action != PASS:
                found[kind] = action
        return found


#: Of a tool that says nothing.
ALONG: Final = Rules()
#: Of a tenant whose own cannot be read here.
HIDDEN_FROM_ALL: Final = Rules(agents={EVERY: MASK})


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
