"""Compatibility modes: who must be able to read whom before a version is taken."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookstream.codecs.schemas.schema import Parsed

__all__ = ["Mode", "incompatibilities"]


class Mode(StrEnum):
    """The names are those of Confluent's registry."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def backward(self) -> bool:
        """The new version has to read what older ones wrote."""
        return self.startswith(("BACKWARD", "FULL"))

    @property
    def forward(self) -> bool:
        """Older versions have to read what the new one writes."""
        return self.startswith(("FORWARD", "FULL"))

    @property
    def transitive(self) -> bool:
        """All earlier versions count, not the last one alone."""
        return self.endswith("_TRANSITIVE")


def incompatibilities(
    mode: Mode, new: "Parsed", earlier: Sequence[tuple[int, "Parsed"]]
) -> list[str]:
    """What speaks against a new version, a line each; empty when it may be registered.

    Arguments:
        earlier: (version, schema), the oldest first.
    """
    if mode is Mode.NONE:
        return []
    found: list[str] = []
    for number, old in earlier if mode.transitive else earlier[-1:]:
        if mode.backward:
            found += (
                f"{mode}: the new version cannot read what version {number} writes: {difference}"
                for difference in new.differences(old)
            )
        if mode.forward:
            found += (
                f"{mode}: version {number} cannot read what the new version writes: {difference}"
                for difference in old.differences(new)
            )
    return found
