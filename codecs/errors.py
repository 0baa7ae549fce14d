"""Errors of the codecs."""

__all__ = [
    "CodecError",
    "InvalidSchemaError",
    "MissingBlobError",
    "UnknownDictionaryError",
    "UnknownVersionError",
]


class CodecError(Exception):
    """Bytes that cannot be read, or a value that cannot be written."""


class UnknownVersionError(CodecError):
    """An envelope of a schema version that this build does not know: upgrade the worker."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class UnknownDictionaryError(CodecError):
    """Bytes compressed with a dictionary that this process does not have: fetch it, try again."""

    def __init__(self, dictionary_id: int) -> None:
        super().__init__(
            f"compressed with dictionary {dictionary_id}, which is not here: it is looked for in "
            "Redis, then in PostgreSQL's table dictionaries"
        )
        self.dictionary_id = dictionary_id


class MissingBlobError(CodecError):
    """A payload that lies beside its stream, and is not there (or was not fetched)."""

    def __init__(self, blob: str) -> None:
        super().__init__(f"the payload is in the blob {blob}, which is not there")
        self.blob = blob


class InvalidSchemaError(CodecError):
    """A schema that is none, or names what is not there; the message is its author's to read."""
