"""Deduplication beyond the window of a table."""
