"""What a provider is: how it signs, what it calls its events, when two webhooks are one event."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.shapes import UNVERIFIED, Shapes, is_unverified
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.form import FORM

__all__ = [
    "HOUR",
    "JSON",
    "UNKNOWN",
    "Answer",
    "Challenge",
    "Delivery",
    "Notes",
    "Provider",
    "Sign",
    "any_secret",
    "body_type",
    "event_name",
    "id_at",
    "nothing_guessed",
    "short_id",
    "signed",
    "unsigned",
]

HOUR = 3600
JSON = "application/json"
UNKNOWN = "unknown"
MAX_NAME_CHARS = 200
MAX_ID_CHARS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender gets back: to a trial of the URL, or to a webhook that was accepted."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Sign(Protocol):
    """The headers that a real delivery of ``body`` would carry, its signature among them.

    ``now`` is in Unix seconds; ``event_type``, ``delivery_id`` and ``url`` are used where the
    provider has them in a header or signs them. Raises BadRequestError on an unusable secret.
    """

    def __call__(
        self,
        body: bytes,
        secret: str,
        options: SignatureOptions,
        *,
        now: float,
        event_type: str,
        delivery_id: str,
        url: str,
    ) -> dict[str, str]: ...


#: Of a request, with the tool's secrets and options: the answer, or None.
Challenge = Callable[[WebhookRequest, Sequence[str], SignatureOptions], Answer | None]


@dataclass(frozen=True, slots=True)
class Notes:
    """What ``docs/providers.md`` says of a provider, in Markdown, a phrase each.

    ``answers``: of each kind of webhook that is not answered by 202 what it is, its answer, why.
    ``retries``: when the sender sends again what failed. ``source``: its own page on all of it.
    """

    setup: str
    verified_by: str
    type_from: str
    delivery_from: str
    why: str = ""
    #: Of a list that is not split, why.
    batch: str = ""
    retries: str = ""
    source: str = ""
    answers: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the table.

    ``verify(request, secrets, options, now)`` raises SignatureError; ``now`` is in Unix seconds and
    each of the secrets may be the right one. ``event_type`` and ``delivery_id`` raise
    BadRequestError where a body has to be understood and cannot be; the type is never empty, the
    delivery id is where none was sent. ``check_secret`` raises BadRequestError. ``correlation``
    yields what a payload as JSON, an object or a list, is about, the most telling first.

    ``keys(request, secrets, options, now)`` says where the key is by which ``verify`` shall verify:
    the receiver fetches it, and ``request.keys`` are what was found at the first of these places
    that has it. Empty where nothing has to be fetched. It raises SignatureError where the webhook
    can be none of the provider's, as where it names a key that is elsewhere: all that can be
    checked without the key is checked by then.
    ``confirm(request)`` is the address that the receiver has to call, after a webhook was verified,
    for others to be sent; None where that is none. Such a webhook becomes no event.

    ``challenge(request, secrets, options)`` answers a request of any method by which the provider
    tries out the URL before it signs anything; None where it is none. It raises nothing.
    ``handshake(request, secrets, options)`` does so for a request that has been verified; it may
    raise BadRequestError. ``learn(request, options)`` is the secret that an unverified request
    hands over, and its answer: kept for a tool that has none yet.
    ``answer(request, options, accepted)`` is what the provider gets for a webhook that was
    accepted, where it takes ``accepted``, a 202 with the event's id as JSON, amiss; the event is
    durable by then, so it raises nothing.

    ``signed_type(options)``: whether the signature covers what the type is taken from, or there is
    no signature but a token, with which anything can be sent. What is not covered has no part in
    what makes two webhooks the same. ``content(request)`` is what is the same of a webhook that is
    sent again, and signed; the body where it is None.
    """

    name: str
    title: str
    verify: Callable[[WebhookRequest, Sequence[str], SignatureOptions, float], None]
    event_type: Callable[[WebhookRequest, SignatureOptions], str]
    delivery_id: Callable[[WebhookRequest, SignatureOptions], str]
    sign: Sign
    dedup_strategy: str
    dedup_window_seconds: int
    #: What the tool's secret is at the provider, in words for people.
    credential: str
    check_secret: Callable[[str, SignatureOptions], None]
    notes: Notes
    #: Of a secret, what a stranger has to guess.
    guessed_part: Callable[[str], str] = str
    dedup_fields: tuple[str, ...] = ()
    keep_headers: tuple[str, ...] = ()
    needs_secret: bool = True
    #: Whether a page in a browser, of whatever site, could send what verifies: nothing is needed
    #: for it, or what a browser adds by itself.
    browsers_can_send: bool = False
    #: How far a signed time may be off unless a tool says otherwise; None: no time is signed.
    tolerance_seconds: int | None = None
    keys: (
        Callable[[WebhookRequest, Sequence[str], SignatureOptions, float], Sequence[KeySource]]
        | None
    ) = None
    confirm: Callable[[WebhookRequest], str | None] | None = None
    challenge: Challenge | None = None
    handshake: Challenge | None = None
    learn: Callable[[WebhookRequest, SignatureOptions], tuple[str, Answer] | None] | None = None
    #: The options that say who sends, in place of a secret, where all of them are set.
    named_by: tuple[str, ...] = ()
    #: The option without which it learns nothing.
    learns_by: str = ""
    answer: Callable[[WebhookRequest, SignatureOptions, Answer], Answer] | None = None
    correlation: Callable[[Any], Iterator[str]] | None = None
    #: The options that mean something to it; others are refused by name when they are set.
    options: frozenset[str] = frozenset()
    #: Refuses, when they are set, those that mean nothing together. Raises BadRequestError.
    check_options: Callable[[SignatureOptions], None] | None = None
    #: For senders that put the time of sending into the body: the body as sent at ``now``.
    stamp: Callable[[bytes, float], bytes] | None = None
    #: Where its own pages are: addresses that lead there stay addresses in text of strangers.
    hosts: tuple[str, ...] = ()
    signed_type: Callable[[SignatureOptions], bool] = lambda options: True
    #: Where the type is not signed: the shapes of its types' bodies.
    shapes: Shapes | None = None
    #: Whether one body can be that of several events, which differ in their type alone.
    same_bodies: bool = False
    content: Callable[[WebhookRequest], bytes] | None = None
    #: For senders that put several events into one body: each is looked at, and kept, by itself.
    batch: Batch | None = None
    #: The same where the tool's options say where they stand.
    batch_by: Callable[[SignatureOptions], Batch | None] | None = None
    #: The largest body that it sends, where that is more than other senders' is.
    max_body_bytes: int = 0
    #: For senders whose signature stands in the body: the body as signed with a secret. Raises
    #: BadRequestError on a body that can carry none.
    seal: Callable[[bytes, str], bytes] | None = None
    #: For senders that have the secret in the URL: the tool's URL, with a secret in it.
    address: Callable[[str, str], str] | None = None

    def learns(self, options: SignatureOptions) -> bool:
        """Whether a tool may be made without a secret: the first request hands it over."""
        return self.learn is not None and (
            not self.learns_by or getattr(options, self.learns_by) != ""
        )

    def is_named(self, options: SignatureOptions) -> bool:
        """Whether the options say who sends, so that no secret is needed."""
        return bool(self.named_by) and all(getattr(options, name) for name in self.named_by)

    def type_of_copies(self, event_type: str, options: SignatureOptions) -> str:
        """What of an event's type all copies of its signed content have; "" for nothing."""
        if self.signed_type(options):
            return event_type
        if self.shapes is None:
            return ""
        if is_unverified(event_type) or event_type == UNKNOWN:
            # not that of the genuine one, which may come later
            return UNVERIFIED
        return event_type if self.same_bodies and event_type in self.shapes else ""

    def type_beside_keys(self, event_type: str) -> str:
        """The same where not all of the content counts, but fields of it."""
        return UNVERIFIED if self.shapes is not None and is_unverified(event_type) else event_type


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sender puts into one delivery; ``now`` is in Unix seconds."""

    body: bytes
    secret: str
    options: SignatureOptions
    now: float
    event_type: str
    delivery_id: str
    url: str

    def request(self, headers: Mapping[str, str]) -> WebhookRequest:
        """As it arrives, before it is signed."""
        lower = {name.lower(): (value,) for name, value in headers.items()}
        return WebhookRequest("POST", self.url, lower, self.body, self.body)


def signed(headers: Callable[[Delivery], dict[str, str]]) -> Sign:
    """The ``sign`` of a provider whose ``headers`` of a delivery are these."""

    def sign(
        body: bytes,
        secret: str,
        options: SignatureOptions,
        *,
        now: float,
        event_type: str,
        delivery_id: str,
        url: str,
    ) -> dict[str, str]:
        hook = Delivery(body, secret, options, now, event_type, delivery_id, url)
        # what a sender has no value for it does not send
        return {name: value for name, value in headers(hook).items() if value}

    return sign


def nothing_guessed(secret: str) -> str:
    """The ``guessed_part`` of a secret that only says who sends: what signs is the provider's."""
    return "who sends is no secret, and there is nothing to guess"


def unsigned(options: SignatureOptions) -> bool:
    """The ``signed_type`` of a provider that names its events in a header beside its signature."""
    return False


def any_secret(secret: str, options: SignatureOptions) -> None:
    """Refuse a secret that no sender can have. Raises BadRequestError."""
    if not secret.strip():
        raise BadRequestError("a secret is empty")
    try:
        secret.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError("a secret has characters that are not Unicode text") from error


def event_name(event: str, action: str = "") -> str:
    """``event``, or ``event.action``; ``unknown`` where that is no short printable name."""
    if not _is_name(event):
        return UNKNOWN
    name = f"{event}.{action}" if _is_name(action) else event
    return name if len(name) <= MAX_NAME_CHARS else UNKNOWN


def short_id(text: str) -> str:
    """A delivery id, or "" where it is none that can be kept whole."""
    return text if len(text) <= MAX_ID_CHARS and text.isprintable() else ""


def id_at(data: Any, path: str) -> str:
    """The id at a dotted path, text or whole number; "" where there is none."""
    return short_id(word_at(data, path))


def body_type(body: bytes) -> str:
    """The content type that a sender would give this body: JSON, or else a form."""
    return JSON if body.lstrip()[:1] in (b"{", b"[", b"") else FORM


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable() and text == text.strip()
