"""The import name: links to the folders beside it, so that ``codecs`` is not Python's own."""

__version__ = "0.1.0"
