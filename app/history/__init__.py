"""Histories: events of before brought in, and events taken out again."""
