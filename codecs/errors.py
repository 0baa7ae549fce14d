"""Errors of the codecs."""

__all__ = ["CodecError", "InvalidSchemaError", "UnknownVersionError"]


class CodecError(Exception):
    """Bytes that cannot be read, or a value that cannot be written."""


class UnknownVersionError(CodecError):
    """An envelope of a schema version that this build does not know: upgrade the worker."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class InvalidSchemaError(CodecError):
    """A schema that is none, or names what is not there; the message is its author's to read."""
