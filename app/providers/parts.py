"""What most rows are made of: an HMAC scheme, a type and an id from a header or a field."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.provider import (
    Answer,
    Challenge,
    Delivery,
    Sign,
    body_type,
    event_name,
    id_at,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.digests import check_key
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme, hmac_key
from hookstream.app.providers.signatures.options import (
    DEFAULT_TOLERANCE_SECONDS,
    SignatureOptions,
)
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = [
    "answered_200",
    "answered_empty",
    "delivery_at",
    "delivery_header",
    "hmac_secret",
    "keys_at",
    "kind_at",
    "no_delivery",
    "ping_at",
    "signed_by",
    "token_in",
    "type_at",
    "type_header",
    "verified_by",
]

Verify = Callable[[WebhookRequest, Sequence[str], SignatureOptions, float], None]
Named = Callable[[WebhookRequest, SignatureOptions], str]
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def answered_200(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    """The same JSON with status 200, for senders to whom 202 is a failure."""
    return replace(accepted, status=200)


def answered_empty(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    """An empty 200, for senders that show an answer's body, or take it for an instruction."""
    return Answer(200, b"", "text/plain")


def verified_by(scheme: HmacScheme, tolerance_seconds: int = DEFAULT_TOLERANCE_SECONDS) -> Verify:
    """The ``verify`` of a provider with this scheme."""

    def verify(
        request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
    ) -> None:
        scheme.verify(
            request, secrets, now=now, tolerance_seconds=options.tolerance(tolerance_seconds)
        )

    return verify


def token_in(header: str) -> Verify:
    """The ``verify`` of a provider that sends the secret itself in a header."""

    def verify(
        request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
    ) -> None:
        verify_token(request, secrets, header)

    return verify


def signed_by(
    scheme: HmacScheme,
    headers: Mapping[str, str] = NO_HEADERS,
    *,
    type_header: str = "",
    delivery_header: str = "",
) -> Sign:
    """The ``sign`` of a provider with this scheme; ``headers`` are those that never differ."""

    def sign(hook: Delivery) -> dict[str, str]:
        sent = {"Content-Type": body_type(hook.body), **headers}
        if type_header and hook.event_type:
            sent[type_header] = hook.event_type
        if delivery_header:
            sent[delivery_header] = hook.delivery_id
        return sent | scheme.sign(
            hook.request(sent), hook.secret, now=hook.now, delivery_id=hook.delivery_id
        )

    return signed(sign)


def hmac_secret(scheme: HmacScheme) -> Callable[[str, SignatureOptions], None]:
    """The ``check_secret`` of a scheme whose key is encoded."""

    def check(secret: str, options: SignatureOptions) -> None:
        check_key(hmac_key(secret, scheme.key_encoding))

    return check


def kind_at(path: str, action: str = "") -> Callable[[Any], str]:
    """What an event is called: the text at a dotted path, and its action at another."""

    def kind(payload: Any) -> str:
        return event_name(text_at(payload, path), text_at(payload, action) if action else "")

    return kind


def type_at(path: str, action: str = "") -> Named:
    """The event's type: the text at a dotted path of the body, and its action at another."""
    kind = kind_at(path, action)
    return lambda request, options: kind(request.json())


def type_header(name: str) -> Named:
    """The event's type: a header."""

    def named(request: WebhookRequest, options: SignatureOptions) -> str:
        return event_name(request.header(name))

    return named


def delivery_at(path: str) -> Named:
    """The delivery id: a text or whole number at a dotted path of the body."""
    return lambda request, options: id_at(request.json(), path)


def delivery_header(name: str) -> Named:
    """The delivery id: a header."""
    return lambda request, options: short_id(request.header(name))


def no_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    """None is sent."""
    return ""


def keys_at(name: str, *paths: str, naming: Sequence[str] = ()) -> Callable[[Any], Iterator[str]]:
    """The ``correlation`` of a provider: what stands at dotted paths, the most telling first.

    ``naming`` are paths of titles and branches, which may name tickets.
    """

    def keys(payload: Any) -> Iterator[str]:
        for path in paths:
            if found := word_at(payload, path):
                yield f"{name}:{found}"
        if naming:
            yield from tickets(*(word_at(payload, path) for path in naming))

    return keys


def ping_at(path: str, *values: str) -> Challenge:
    """The ``handshake`` of a sender that tries out the URL by a webhook of no event: 200."""

    def handshake(
        request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
    ) -> Answer | None:
        found = text_at(request.json(), path)
        return Answer(200, b"", "text/plain") if found and found in values else None

    return handshake
