"""Benchmarks: what a step costs here, written down with what it was measured on.

Each is a module that is run with ``python -m bench.NAME``; results are in ``results/``.
"""
