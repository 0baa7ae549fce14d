"""A project that keeps its stages in a package of its own."""
