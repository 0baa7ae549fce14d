"""Benchmarks: each a module that is run with ``python -m bench.NAME``; results in ``results/``."""
