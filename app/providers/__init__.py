"""The providers, one file each: how it signs, names and repeats its webhooks, and what it answers.

To add one: a file here with ``PROVIDER``, its summary templates beside it (``NAME.toml``), its rows
in ``docs/providers.md``, an example payload. ``tests/unit/providers/test_every_provider.py`` takes
it up, and says what is missing.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.correlation import first_keys
from hookstream.app.providers.provider import Answer, Provider
from hookstream.codecs.envelope import Event

__all__ = [
    "ALIASES",
    "PROVIDERS",
    "Answer",
    "Provider",
    "check_secrets",
    "correlation_keys",
    "is_signed",
    "provider",
]


def _rows() -> Iterator[Provider]:
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        # the others are what rows are made of
        row: Provider | None = getattr(module, "PROVIDER", None)
        if row is not None:
            yield row


PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _rows()})

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


def correlation_keys(event: Event) -> tuple[str, ...]:
    """What an event is about, the most telling first; empty where nothing is known of its payload.

    At most eight keys of at most 200 printable characters. Raises CodecError: a payload that cannot
    be unpacked.
    """
    row = PROVIDERS.get(event.provider)
    if row is None or row.correlation is None:
        return ()
    payload = event.data()
    return first_keys(row.correlation(payload)) if isinstance(payload, (dict, list)) else ()


def check_secrets(kind: Provider, secrets: Sequence[str]) -> None:
    """Refuse secrets that cannot verify anything; the detail never repeats them.

    Raises:
        BadRequestError: none where the provider needs one, or one that is malformed.
    """
    if kind.needs_secret and not secrets:
        raise BadRequestError(f"secrets: {kind.title} needs at least one; {kind.credential}")
    for number, secret in enumerate(secrets, 1):
        try:
            kind.check_secret(secret)
        except BadRequestError as error:
            raise BadRequestError(
                f"secrets: number {number}: {error}; {kind.credential}"
            ) from error
