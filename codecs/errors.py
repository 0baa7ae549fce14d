"""Errors of the codecs."""

__all__ = [
    "CodecError",
    "ErasedError",
    "InvalidSchemaError",
    "MissingBlobError",
    "UnknownDictionaryError",
    "UnknownKeyError",
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


class UnknownKeyError(CodecError):
    """Bytes sealed by a data key that this process does not have: fetch it, try again."""

    def __init__(self, key_id: int) -> None:
        super().__init__(f"sealed by the data key {key_id}, which is not here")
        self.key_id = key_id

    def __reduce__(self) -> tuple[type["UnknownKeyError"], tuple[int]]:
        return UnknownKeyError, (self.key_id,)


class ErasedError(CodecError):
    """Bytes sealed by a data key that was destroyed: nobody can read them any more."""

    def __init__(self, key_id: int) -> None:
        super().__init__(f"erased: its data key {key_id} was destroyed")
        self.key_id = key_id

    def __reduce__(self) -> tuple[type["ErasedError"], tuple[int]]:
        return ErasedError, (self.key_id,)


class MissingBlobError(CodecError):
    """A payload that lies beside its stream, and is not there (or was not fetched)."""

    def __init__(self, blob: str) -> None:
        super().__init__(f"the payload is in the blob {blob}, which is not there")
        self.blob = blob


class InvalidSchemaError(CodecError):
    """A schema that is none, or names what is not there; the message is its author's to read."""
