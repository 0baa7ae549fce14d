"""Kinds of what is found. A family is named by what stands before the dot."""

from typing import Final

__all__ = ["KINDS", "NATIONAL_IDS", "SECRETS", "family", "is_kind"]

SECRETS: Final = tuple(
    f"secret.{name}"
    for name in (
        "aws", "github", "gitlab", "slack", "stripe", "google", "ai", "jwt", "private_key", "url",
        "field",
    )
)  # fmt: skip
NATIONAL_IDS: Final = tuple(
    f"national_id.{country}"
    for country in (
        "us", "gb", "fr", "de", "es", "it", "nl", "be", "pl", "se", "fi", "br", "cl", "mx", "in",
        "tr", "cn", "za", "ca",
    )
)  # fmt: skip
KINDS: Final = (
    "email",
    "phone",
    "card",
    "iban",
    "ip",
    "name",
    "address",
    "birth_date",
    *NATIONAL_IDS,
    *SECRETS,
)
_FAMILIES: Final = frozenset(kind.partition(".")[0] for kind in KINDS)


def family(kind: str) -> str:
    """The family of a kind; of one without a dot it is the kind itself."""
    return kind.partition(".")[0]


def is_kind(name: str) -> bool:
    """Whether a rule may name it: a kind, or a family."""
    return name in KINDS or name in _FAMILIES
