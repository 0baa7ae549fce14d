"""Test a stage, or a dedup function, without a server."""

from hookstream.app.testing import (
    find_duplicates,
    make_event,
    run_batch,
    run_stage,
    stage_results,
    tables,
)

__all__ = ["find_duplicates", "make_event", "run_batch", "run_stage", "stage_results", "tables"]
