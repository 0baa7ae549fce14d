"""What tests share: servers, the whole system, faults, fixtures."""

from pathlib import Path

__all__ = ["CLUSTER", "ROOT", "TESTS"]

TESTS = Path(__file__).resolve().parents[1]
#: The checkout.
ROOT = TESTS.parent
#: Names the folder of the PostgreSQL that all processes of a run of tests copy.
CLUSTER = "CLUSTER_OF_TESTS"
