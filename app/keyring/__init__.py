"""Keys that wrap data keys, and what is sealed by those."""
