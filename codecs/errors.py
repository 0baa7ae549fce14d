"""Errors of the codecs."""

__all__ = ["CodecError", "UnknownVersionError"]


class CodecError(Exception):
    """Bytes that cannot be read, or a value that cannot be written."""


class UnknownVersionError(CodecError):
    """An envelope of a schema version that this build does not know: upgrade the worker."""
