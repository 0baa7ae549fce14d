"""The providers, one row each, and how each signs, names and repeats its webhooks.

To add one: a row in the module of its kind, a line in ``docs/providers.md``, and a test with
signatures that its own library made.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.code import BITBUCKET, GITHUB, GITLAB
from hookstream.app.providers.commerce import SHOPIFY, STRIPE
from hookstream.app.providers.messaging import SENDGRID, SLACK, TWILIO
from hookstream.app.providers.operations import DATADOG, PAGERDUTY, SENTRY
from hookstream.app.providers.plain import BASIC, BEARER, GENERIC, NONE, STANDARD
from hookstream.app.providers.provider import Challenge, Provider
from hookstream.app.providers.trackers import JIRA, LINEAR

__all__ = [
    "ALIASES",
    "PROVIDERS",
    "Challenge",
    "Provider",
    "check_secrets",
    "is_signed",
    "provider",
]

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        row.name: row
        for row in (
            GITHUB,
            GITLAB,
            BITBUCKET,
            STRIPE,
            SLACK,
            SHOPIFY,
            JIRA,
            PAGERDUTY,
            SENTRY,
            LINEAR,
            DATADOG,
            TWILIO,
            SENDGRID,
            STANDARD,
            GENERIC,
            BEARER,
            BASIC,
            NONE,
        )
    }
)

#: Other names that people look for.
ALIASES: Mapping[str, str] = MappingProxyType({"svix": "standard", "standard-webhooks": "standard"})


def provider(name: str) -> Provider:
    """The provider of this name. Raises BadRequestError with the known names."""
    row = PROVIDERS.get(ALIASES.get(name, name))
    if row is None:
        raise BadRequestError(
            f"there is no provider {name[:64]!r}: one of {', '.join(PROVIDERS)}; "
            "generic takes any HMAC over the body"
        )
    return row


def is_signed(name: str) -> bool:
    """Whether an event of this provider was verified: without a secret it would not be here."""
    row = PROVIDERS.get(name)
    return row is not None and row.needs_secret


def check_secrets(kind: Provider, secrets: Sequence[str]) -> None:
    """Refuse secrets that cannot verify anything; the detail never repeats them.

    Raises:
        BadRequestError: none where the provider needs one, or one that is malformed.
    """
    if kind.needs_secret and not secrets:
        raise BadRequestError(f"secrets: {kind.title} needs at least one; {kind.secret_format}")
    for number, secret in enumerate(secrets, 1):
        try:
            kind.check_secret(secret)
        except BadRequestError as error:
            raise BadRequestError(
                f"secrets: number {number}: {error}; {kind.secret_format}"
            ) from error
