"""Feeds: what each context gets, in which order, and how clients follow it."""
