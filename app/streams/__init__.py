"""Streams in partitions: reading them, owning them, committing to them."""
