"""The providers, one file each: how it signs, names and repeats its webhooks, and what it answers.

To add one: a file here with ``PROVIDER``, its summary templates beside it (``NAME.toml``), an
example payload; ``make docs`` writes its rows in ``docs/providers.md``.
``tests/unit/providers/test_every_provider.py`` takes it up, and says what is missing.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.correlation import first_keys
from hookstream.app.providers.first_contact import signs_challenges
from hookstream.app.providers.provider import Answer, Provider
from hookstream.app.providers.signatures.digests import GuessableKeyError
from hookstream.app.providers.signatures.option_checks import check_answer_options
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.secret_strength import MIN_CHARACTERS, is_guessable, is_weak
from hookstream.codecs.envelope import Event

__all__ = [
    "ALIASES",
    "PROVIDERS",
    "Answer",
    "Provider",
    "check_options",
    "check_secrets",
    "correlation_keys",
    "is_pending",
    "is_signed",
    "provider",
    "weak_secrets",
]


def _rows() -> Iterator[Provider]:
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        # the others are what rows are made of
        row: Provider | None = getattr(module, "PROVIDER", None)
        if row is not None:
            yield row


PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _rows()})

#: Nothing is set.
DEFAULTS = SignatureOptions()

#: Other names that people look for.
ALIASES: Mapping[str, str] = MappingProxyType(
    {"svix": "standard", "standard-webhooks": "standard", "forgejo": "gitea"}
)


def provider(name: str) -> Provider:
    """The provider of this name. Raises BadRequestError with names that are nearly the same."""
    row = PROVIDERS.get(ALIASES.get(name, name))
    if row is None:
        near = difflib.get_close_matches(name[:64].lower(), (*PROVIDERS, *ALIASES), 3)
        hint = f": did you mean {' or '.join(near)}?" if near else ";"
        raise BadRequestError(
            f"there is no provider {name[:64]!r}{hint} docs/providers.md names all "
            f"{len(PROVIDERS)}; generic takes any HMAC over the body"
        )
    return row


def is_signed(name: str) -> bool:
    """Whether an event of this provider was verified: without a secret it would not be here."""
    row = PROVIDERS.get(name)
    return row is not None and row.needs_secret


def is_pending(name: str, secrets: Sequence[str], options: Mapping[str, object]) -> bool:
    """Whether a tool takes nothing yet: it waits for the secret that its sender hands over."""
    row = PROVIDERS.get(name)
    if row is None or not row.needs_secret or secrets:
        return False
    return not row.named_by or not all(options.get(option) for option in row.named_by)


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


def check_options(kind: Provider, options: SignatureOptions) -> None:
    """Refuse options that mean nothing to a provider, or together.

    Raises:
        BadRequestError: naming the first.
    """
    for field in fields(options):
        if field.name not in kind.options and getattr(options, field.name) != field.default:
            known = ", ".join(sorted(kind.options)) or "none"
            readers = sorted(row.name for row in PROVIDERS.values() if field.name in row.options)
            who = "generic" if "generic" in readers else " or ".join(readers)
            raise BadRequestError(
                f"options.{field.name}: {kind.title} reads no such option, so it would change "
                f"nothing (it reads: {known}); provider {who} reads it"
            )
    check_answer_options(options)
    if kind.check_options:
        kind.check_options(options)
    if signs_challenges(options) and "signed" not in kind.options:
        raise BadRequestError(
            f"options.challenge_answer: {kind.title} signs nothing, so there is no {{hmac}}"
        )


def check_secrets(
    kind: Provider,
    secrets: Sequence[str],
    known: Sequence[str] = (),
    options: SignatureOptions = DEFAULTS,
) -> None:
    """Refuse secrets that verify nothing, or whatever a stranger tries; none is repeated.

    One that the tool has already (``known``) may be as weak as it was: what it verifies goes on.

    Raises:
        BadRequestError: none where the provider needs one, or one that is malformed or guessable.
    """
    if kind.needs_secret and not (secrets or kind.learns(options) or kind.is_named(options)):
        raise BadRequestError(f"secrets: {kind.title} needs at least one; {kind.credential}")
    for number, secret in enumerate(secrets, 1):
        try:
            kind.check_secret(secret, options)
        except GuessableKeyError as error:
            if secret not in known:
                raise BadRequestError(f"secrets: number {number} {error}") from error
        except BadRequestError as error:
            raise BadRequestError(
                f"secrets: number {number}: {error}; {kind.credential}"
            ) from error
        if kind.needs_secret and secret not in known and is_guessable(kind.guessed_part(secret)):
            raise BadRequestError(
                f"secrets: number {number} can be guessed: set a random one there and here, such "
                f"as `openssl rand -hex 24` prints ({MIN_CHARACTERS} characters at the very least)"
            )


def weak_secrets(name: str, secrets: Sequence[str]) -> int:
    """How many of a tool's secrets are too short or too simple to be safe."""
    row = PROVIDERS.get(name)
    if row is None or not row.needs_secret:
        return 0
    return sum(is_weak(row.guessed_part(secret)) for secret in secrets)
