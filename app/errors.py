"""Errors of the app: each carries what a person needs to act."""

__all__ = [
    "AuthError",
    "BadRequestError",
    "ConflictError",
    "ContentEncodingError",
    "EmbeddedServerError",
    "FencedError",
    "HookstreamError",
    "MovedError",
    "NotFoundError",
    "PayloadTooLargeError",
    "SettingsError",
    "SignatureError",
    "SlowBodyError",
    "UnavailableError",
]


class HookstreamError(Exception):
    """Base of every error that Hookstream raises itself.

    ``status`` is the HTTP status it becomes, ``slug`` the stable last part of its problem type
    (RFC 9457), ``str(error)`` the detail a person reads. Details never carry secrets.
    """

    status = 500
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


class UnavailableError(HookstreamError):
    """A part that is needed cannot be reached now; trying again later may work."""

    status = 503
    slug = "unavailable"
    title = "Temporarily unavailable"


class SettingsError(HookstreamError):
    """A setting that is unknown, out of range or contradicts another."""

    slug = "settings"
    title = "Settings are wrong"


class EmbeddedServerError(HookstreamError):
    """An embedded server could not be started or died; the detail ends with its log."""

    slug = "embedded-server"
    title = "Embedded server failed"


class FencedError(HookstreamError):
    """A commit by an owner whose lease has gone to another: it was refused whole."""

    slug = "fenced"
    title = "Partition is owned by another worker"


class MovedError(HookstreamError):
    """A commit computed from an outdated picture of a feed: read it again and recompute."""

    slug = "moved"
    title = "Feed has moved"
