"""Benchmarks: what a step costs here, written down with what it was measured on."""
