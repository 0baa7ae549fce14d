"""A difference that keeps a reader from reading what a writer wrote."""

from dataclasses import dataclass

__all__ = ["Difference"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The rule that is broken, where in the schema, and in words what came between."""

    rule: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.path or '#'}: {self.text}"
