"""Errors of the app: each carries what a person needs to act."""

__all__ = [
    "ArchiveDamagedError",
    "AuthError",
    "BadRequestError",
    "BlockedByRuleError",
    "ConflictError",
    "ContentEncodingError",
    "EmbeddedServerError",
    "FencedError",
    "ForbiddenError",
    "HookstreamError",
    "LimitError",
    "MisdirectedError",
    "NerError",
    "NotFoundError",
    "OutdatedError",
    "OverBudgetError",
    "PayloadTooLargeError",
    "QuotaError",
    "SchemaRegistryError",
    "SchemaViolationError",
    "SealingKeyError",
    "SettingsError",
    "SignatureError",
    "SlowBodyError",
    "StageResultError",
    "SuspendedError",
    "TableUseError",
    "UnavailableError",
    "UnavailableKeyError",
    "UnconfirmedError",
    "UnsupportedError",
]


class HookstreamError(Exception):
    """Base of every error that Hookstream raises itself.

    ``status`` is the HTTP status it becomes, ``slug`` the stable last part of its problem type
    (RFC 9457), ``str(error)`` the detail a person reads. Details never carry secrets.
    ``exit_status`` is that of a command which it ends.
    """

    status = 500
    exit_status = 2
    slug = "internal"
    title = "Internal error"


class BadRequestError(HookstreamError):
    """The request cannot be understood; the detail says what was wrong and what to send."""

    status = 400
    slug = "bad-request"
    title = "Bad request"


class SignatureError(HookstreamError):
    """A webhook whose signature, credential or timestamp does not verify."""

    status = 401
    slug = "bad-signature"
    title = "Signature does not verify"


class AuthError(HookstreamError):
    """A missing or wrong API key."""

    status = 401
    slug = "unauthorized"
    title = "API key missing or wrong"


class ForbiddenError(HookstreamError):
    """A key that is known and may not do this."""

    status = 403
    slug = "forbidden"
    title = "Not for this key"


class SuspendedError(HookstreamError):
    """A tenant that is suspended, or being deleted; the detail says which, and whom to ask."""

    status = 403
    slug = "suspended"
    title = "The tenant is suspended"


class NotFoundError(HookstreamError):
    """What the URL names is not there."""

    status = 404
    slug = "not-found"
    title = "Not found"


class SlowBodyError(HookstreamError):
    """The body did not arrive within its time limit."""

    status = 408
    slug = "slow-body"
    title = "Body arrived too slowly"


class ConflictError(HookstreamError):
    """The request contradicts what is there."""

    status = 409
    slug = "conflict"
    title = "Conflict"


class QuotaError(HookstreamError):
    """There are as many of something as there may be; the detail names the setting."""

    status = 409
    slug = "quota"
    title = "As many as there may be"


class PayloadTooLargeError(HookstreamError):
    """The body is over the limit, as sent or once decompressed."""

    status = 413
    slug = "too-large"
    title = "Body too large"


class ContentEncodingError(HookstreamError):
    """A content encoding that is not handled."""

    status = 415
    slug = "content-encoding"
    title = "Content encoding not handled"


class MisdirectedError(HookstreamError):
    """What is asked for is served by another process; the detail says which."""

    status = 421
    slug = "misdirected"
    title = "Another process serves this"


class SchemaViolationError(HookstreamError):
    """A payload that breaks its tool's schema; the detail says where, not what stands there."""

    status = 422
    slug = "schema-violation"
    title = "Payload breaks its schema"


class BlockedByRuleError(HookstreamError):
    """A payload with what a rule for personal data lets go nowhere: which kind, not what."""

    status = 422
    slug = "blocked-by-rule"
    title = "Blocked by a rule for personal data"

    def __init__(self, kind: str) -> None:
        super().__init__(f"a rule of its tool blocks events with {kind}")
        self.kind = kind


class LimitError(HookstreamError):
    """One client takes as much as it may; the detail says which limit, its setting, what to do.

    ``retry_after_seconds``: when it may again, where that is known; else None.
    """

    status = 429
    slug = "too-many"
    title = "Limit reached"

    def __init__(self, detail: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class StageResultError(HookstreamError):
    """A stage that returned neither an event nor None."""


class TableUseError(HookstreamError):
    """A stage's table that is not used as it can be; the detail says what to do instead."""


class SchemaRegistryError(HookstreamError):
    """What the schema registry refuses; ``code`` is Confluent's error code for it."""

    slug = "schema-registry"
    title = "Refused by the schema registry"

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnavailableError(HookstreamError):
    """A part that is needed cannot be reached now; trying again later may work."""

    status = 503
    slug = "unavailable"
    title = "Temporarily unavailable"


class ArchiveDamagedError(HookstreamError):
    """An object of the archive is missing, or is not what was written; the detail says which.

    ``object_name``: its name below ``HOOKSTREAM_ARCHIVE_URL``.
    """

    slug = "archive-damaged"
    title = "An object of the archive is damaged"

    def __init__(self, object_name: str, what: str) -> None:
        super().__init__(
            f"the archive's object {object_name} {what}: bring it back from a copy of the archive"
        )
        self.object_name = object_name


class UnavailableKeyError(UnavailableError):
    """A key that a webhook has to be verified by and that cannot be fetched now.

    Whoever has named it may be anybody: it is counted as a refusal, not told in the log each time.
    """

    slug = "key-unavailable"


class SealingKeyError(UnavailableError):
    """What is sealed cannot be opened, or nothing sealed, now; the detail says what to do."""

    slug = "sealing-key"
    title = "A key is not there"


class NerError(UnavailableError):
    """The model of ``HOOKSTREAM_NER`` does not say what is to be hidden: nothing passes without.

    The detail has nothing of what the model was asked.
    """

    slug = "not-masked"
    title = "It cannot be masked now"


class UnconfirmedError(UnavailableError):
    """A write that was made and that no replica, or the disk, has confirmed in time.

    ``reply`` is what the server answered to the write itself.
    """

    slug = "unconfirmed"

    def __init__(self, detail: str, reply: object) -> None:
        super().__init__(detail)
        self.reply = reply


class SettingsError(HookstreamError):
    """A setting that is unknown, out of range or contradicts another."""

    #: EX_CONFIG of sysexits.h: trying again does not help.
    exit_status = 78
    slug = "settings"
    title = "Settings are wrong"


class UnsupportedError(SettingsError):
    """Something of Faust's that is not here; the detail says what to use instead."""


class EmbeddedServerError(HookstreamError):
    """An embedded server could not be started or died; the detail ends with its log."""

    slug = "embedded-server"
    title = "Embedded server failed"


class FencedError(HookstreamError):
    """A commit by an owner whose lease has gone to another: it was refused whole."""

    slug = "fenced"
    title = "Partition is owned by another worker"


class OutdatedError(HookstreamError):
    """A commit computed from a snapshot that Redis does not have (any more): read it again.

    A reply was lost, or Redis lost its newest writes in a failover.
    """

    slug = "outdated"
    title = "The partition has moved"


class OverBudgetError(HookstreamError):
    """Work was given up: it took longer, or more memory, than work of its kind may.

    ``reason`` is ``time``, ``memory``, ``crash`` (it ended its process) or ``busy`` (not begun).
    """

    status = 422
    slug = "over-budget"
    title = "Too expensive"

    def __init__(self, detail: str, reason: str = "time") -> None:
        super().__init__(detail)
        self.reason = reason
