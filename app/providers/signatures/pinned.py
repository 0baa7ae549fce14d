"""Secrets that say whose webhooks a tool takes, and may say by which key.

Who verifies by keys of the provider's own has no secret in common with it: what is set names the
sender (a topic, a webhook, an account), and each webhook's key is fetched. ``NAME KEY`` takes this
public key instead, and nothing is fetched: for emulators, for trials with ``hookstream send``,
which is given ``NAME PRIVATE-KEY``, and where nothing may be called.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.digests import UNSET
from hookstream.app.providers.signatures.public_keys import (
    NO_KEYS,
    Keys,
    PrivateKey,
    SigningKey,
    private_key,
    public_key,
)

__all__ = ["Sender", "check_sender", "keys_for", "senders", "signer"]


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose webhooks a secret lets in; ``key`` is None where the provider's own key counts."""

    name: str
    key: SigningKey | None


def senders(secrets: Sequence[str]) -> list[Sender]:
    """Those of a tool's secrets. Raises SignatureError where there is none."""
    found = [sender for secret in secrets if (sender := _sender(secret))]
    if not found:
        raise SignatureError(UNSET)
    return found


def _sender(secret: str) -> Sender | None:
    name, _, text = secret.strip().partition(" ")
    if not text:
        return Sender(name, None) if name else None
    # what is there and is no key is not passed over: any of the provider's would count then
    key = public_key(text.strip())
    return Sender(name, SigningKey(key)) if key else None


def keys_for(taken: Sequence[Sender], fetched: Keys = NO_KEYS) -> list[tuple[Sender, Keys]]:
    """By which keys each of these is verified."""
    return [(one, {"": one.key} if one.key else fetched) for one in taken]


def check_sender(secret: str, what: str) -> str:
    """The name in a secret.

    Raises:
        BadRequestError: it has none, or what follows is no key; ``what`` says what the name is.
    """
    name, _, text = secret.strip().partition(" ")
    if not name or not name.isascii() or not name.isprintable():
        raise BadRequestError(f"it does not begin with {what}")
    if text and public_key(text.strip()) is None:
        raise BadRequestError(
            f"after {what} comes what is no public key of RSA (2,048 bits at least) or P-256, in "
            "PEM or base64 of DER"
        )
    return name


def signer(secret: str) -> tuple[str, PrivateKey]:
    """What signs as such a sender: the name, and the private key behind it.

    Raises:
        BadRequestError: there is no such key.
    """
    name, _, text = secret.strip().partition(" ")
    if not text:
        raise BadRequestError(
            "only the provider has the key of its webhooks: for a trial the secret here is the "
            "name, a space and a private key, PEM or base64 of DER, and the tool's secret the "
            "same name and its public key"
        )
    return name, private_key(text.strip())
