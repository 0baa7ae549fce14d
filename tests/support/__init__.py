"""What tests share: servers, the whole system, faults, fixtures."""

from pathlib import Path

__all__ = ["ROOT", "TESTS"]

TESTS = Path(__file__).resolve().parents[1]
#: The checkout.
ROOT = TESTS.parent
