"""Webhook signatures: pure functions that verify and make them, over the bytes as sent.

``verify_*`` return nothing or raise SignatureError, whatever a sender puts into its headers;
``sign_*`` make what they accept. Comparisons take the same time wherever the difference is, and
each secret of a tool is tried, so that one can be replaced by another without a gap.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, urlsplit, urlunsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import look_into
from hookstream.codecs.envelope import FORM

__all__ = [
    "DEFAULT_TOLERANCE_SECONDS",
    "FORM",
    "SignatureOptions",
    "WebhookRequest",
    "check_timestamp",
    "ecdsa_public_key",
    "sign_basic",
    "sign_ecdsa",
    "sign_hmac",
    "sign_slack",
    "sign_standard",
    "sign_stripe",
    "sign_twilio",
    "standard_key",
    "verify_basic",
    "verify_ecdsa",
    "verify_hmac",
    "verify_hmac_list",
    "verify_slack",
    "verify_standard",
    "verify_stripe",
    "verify_token",
    "verify_twilio",
]

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64"]

#: How far a signed time may be from this server's clock, either way, unless a provider differs.
DEFAULT_TOLERANCE_SECONDS = 300
MAX_TOLERANCE_SECONDS = 7 * 24 * 3600
#: Longest header that takes part in a verification; the longest real ones have some hundreds.
MAX_HEADER_CHARS = 8192
#: Most signatures in one header: senders put one a secret there while they rotate.
MAX_CANDIDATES = 32
MAX_FORM_FIELDS = 1000

_DIGEST_BYTES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_DIGITS = re.compile(r"[0-9]{1,15}")
_HEX = re.compile(r"[0-9a-fA-F]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: Headers that carry credentials: an event's type or id is never taken from one of them.
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-gitlab-token", "x-hookstream-token"}
)
_WHSEC = "whsec_"
_UNSET = (
    "the tool has no secret of the kind that this webhook needs, so nothing can be verified: "
    "set it with PUT /api/v1/tools/{tool_id}"
)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One HTTP request as a provider sent it.

    ``headers`` maps lower-case names to every value sent, in order. ``body`` is what came over the
    wire, which is what signatures cover; ``decoded`` is it without its content encoding.
    """

    method: str
    url: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    decoded: bytes
    _parsed: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def header(self, name: str) -> str:
        """The first value of a header, or "" where it is absent."""
        values = self.headers.get(name.lower())
        return values[0] if values else ""

    def single(self, name: str) -> str:
        """The one value of a header that a verification rests on.

        Raises:
            SignatureError: it is missing, empty, repeated or longer than 8 KiB.
        """
        values = self.headers.get(name.lower(), ())
        if len(values) > 1:
            # two readers could each take another one
            raise SignatureError(f"{name} was sent {len(values)} times: send it once")
        if not values or not values[0]:
            raise SignatureError(f"{name} is missing or empty: the webhook has to carry it")
        if len(values[0]) > MAX_HEADER_CHARS:
            raise SignatureError(f"{name} is longer than {MAX_HEADER_CHARS} characters")
        return values[0]

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The decoded body as JSON to look into, parsed once (``json_body.look_into``).

        Raises:
            BadRequestError: it is not JSON.
        """
        if not self._parsed:
            self._parsed.append(look_into(self.decoded))
        return self._parsed[0]

    def form(self) -> dict[str, str]:
        """The first value of each field of a form. Raises BadRequestError where it is no form."""
        try:
            pairs = _form_pairs(self.decoded)
        except ValueError as error:
            raise BadRequestError(
                f"the body is not a form in UTF-8 of at most {MAX_FORM_FIELDS} fields"
            ) from error
        return dict(reversed(pairs))


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """What can be set of a tool's scheme; an empty ``header`` is the provider's own.

    ``header``, ``algorithm``, ``encoding`` and ``prefix`` say where and how a generic sender signs;
    ``type_*`` and ``delivery_*`` where it names the event and the delivery: a header, or a dotted
    path into a JSON body (``event.id``). ``tolerance_seconds`` bounds the age of signed times.

    Raises:
        BadRequestError: a value that cannot be used; the detail names the option.
    """

    header: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""
    type_header: str = ""
    type_field: str = ""
    delivery_header: str = ""
    delivery_field: str = ""
    tolerance_seconds: int | None = None

    def __post_init__(self) -> None:
        for name in ("header", "type_header", "delivery_header"):
            value = getattr(self, name)
            if value != "" and not (isinstance(value, str) and _HEADER_NAME.fullmatch(value)):
                raise BadRequestError(f"options.{name}: not the name of an HTTP header")
        for name in ("type_header", "delivery_header"):
            value = getattr(self, name).lower()
            if value and (
                value in _SECRET_HEADERS or "signature" in value or value == self.header.lower()
            ):
                raise BadRequestError(
                    f"options.{name}: this header carries a credential, which must not become "
                    "part of an event"
                )
        if self.algorithm not in tuple(_DIGEST_BYTES):
            raise BadRequestError(f"options.algorithm: one of {', '.join(_DIGEST_BYTES)}")
        if self.encoding not in ("hex", "base64"):
            raise BadRequestError("options.encoding: hex or base64")
        for name, longest in (("prefix", 64), ("type_field", 200), ("delivery_field", 200)):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > longest or not value.isprintable():
                raise BadRequestError(f"options.{name}: at most {longest} printable characters")
        tolerance: Any = self.tolerance_seconds
        if isinstance(tolerance, str) and _DIGITS.fullmatch(tolerance):
            # a command line has nothing but text
            tolerance = int(tolerance)
            object.__setattr__(self, "tolerance_seconds", tolerance)
        if tolerance is not None and (
            type(tolerance) is not int or not 1 <= tolerance <= MAX_TOLERANCE_SECONDS
        ):
            raise BadRequestError(
                f"options.tolerance_seconds: a whole number from 1 to {MAX_TOLERANCE_SECONDS}"
            )

    def tolerance(self, default: int = DEFAULT_TOLERANCE_SECONDS) -> int:
        """Seconds that a signed time may be off."""
        return default if self.tolerance_seconds is None else self.tolerance_seconds


# HMAC over the body


def sign_hmac(
    content: bytes, key: bytes | str, algorithm: str = "sha256", encoding: str = "hex"
) -> str:
    """HMAC of ``content`` as text."""
    digest = hmac.digest(_key(key), content, algorithm)
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


def verify_hmac(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    *,
    prefix: str = "",
    algorithm: Algorithm = "sha256",
    encoding: Encoding = "hex",
) -> None:
    """``header`` is ``prefix`` and the HMAC of the raw body. Raises SignatureError."""
    keys = _keys(secrets)
    text = request.single(header)
    if not text.startswith(prefix):
        raise SignatureError(f"{header} does not begin with {prefix}")
    size = _DIGEST_BYTES[algorithm]
    candidate = _digest(text[len(prefix) :], size, encoding)
    if candidate is None:
        raise SignatureError(f"{header} is not the {encoding} of {size} bytes")
    _match(header, (hmac.digest(key, request.body, algorithm) for key in keys), [candidate])


def verify_hmac_list(
    request: WebhookRequest, secrets: Sequence[str], header: str, *, prefix: str
) -> None:
    """``header`` is a comma-separated list, one of it ``prefix`` and the hex HMAC-SHA256.

    Entries with another prefix are of versions to come, and skipped. Raises SignatureError.
    """
    keys = _keys(secrets)
    entries = [entry.strip() for entry in _entries(request.single(header), ",", header)]
    candidates = _digests(
        header, (entry[len(prefix) :] for entry in entries if entry.startswith(prefix)), "hex"
    )
    _match(header, (hmac.digest(key, request.body, "sha256") for key in keys), candidates)


# HMAC over a time and the body


def check_timestamp(text: str, now: float, tolerance_seconds: float, name: str) -> None:
    """The time ``text`` (whole Unix seconds, ASCII digits) is near ``now``, before or after.

    Raises:
        SignatureError: it is not such a number, or further away.
    """
    if not _DIGITS.fullmatch(text):
        raise SignatureError(f"{name} is not a time in whole Unix seconds")
    check_age(now - int(text), tolerance_seconds, name)


def check_age(age_seconds: float, tolerance_seconds: float, name: str) -> None:
    """Refuse what is too old or too far ahead. Raises SignatureError."""
    if not abs(age_seconds) <= tolerance_seconds:
        side = "behind" if age_seconds > 0 else "ahead of"
        raise SignatureError(
            f"{name} is {min(abs(age_seconds), 1e9):.0f} s {side} this server's clock, where "
            f"{tolerance_seconds:.0f} s are allowed: check the clocks, or send it anew"
        )


def sign_stripe(body: bytes, secret: str, now: float) -> str:
    """A Stripe-Signature."""
    return f"t={int(now)},v1={sign_hmac(b'%d.%s' % (int(now), body), secret)}"


def verify_stripe(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    *,
    now: float,
    tolerance_seconds: float,
) -> None:
    """``t=TIME,v1=HEX[,v1=HEX…]`` over ``TIME.body``. Raises SignatureError."""
    keys = _keys(secrets)
    pairs = [entry.partition("=") for entry in _entries(request.single(header), ",", header)]
    times = [value for name, _, value in pairs if name == "t"]
    if len(times) != 1:
        raise SignatureError(f"{header} does not carry one time, t=…")
    check_timestamp(times[0], now, tolerance_seconds, f"the time in {header}")
    candidates = _digests(header, (value for name, _, value in pairs if name == "v1"), "hex")
    signed = times[0].encode() + b"." + request.body
    _match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)


def sign_slack(body: bytes, secret: str, now: float) -> str:
    """An X-Slack-Signature for an X-Slack-Request-Timestamp of ``now``."""
    return "v0=" + sign_hmac(b"v0:%d:%s" % (int(now), body), secret)


def verify_slack(
    request: WebhookRequest, secrets: Sequence[str], *, now: float, tolerance_seconds: float
) -> None:
    """``v0=HEX`` over ``v0:TIME:body``, the time in a header of its own. Raises SignatureError."""
    keys = _keys(secrets)
    header, time_header = "X-Slack-Signature", "X-Slack-Request-Timestamp"
    text = request.single(header)
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    candidates = _digests(header, [text[3:]] if text.startswith("v0=") else [], "hex")
    signed = b"v0:" + time.encode() + b":" + request.body
    _match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)


def standard_key(secret: str) -> bytes | None:
    """The key in a Standard Webhooks secret, ``whsec_`` and base64; None where it has none."""
    text = secret.removeprefix(_WHSEC)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) or None
    except ValueError:
        return None


def sign_standard(body: bytes, secret: str, message: str, now: float) -> str:
    """A webhook-signature for a webhook-id and a webhook-timestamp of ``now``."""
    key = standard_key(secret)
    if key is None:
        raise BadRequestError("the secret is not whsec_ followed by base64")
    signed = f"{message}.{int(now)}.".encode("utf-8", "surrogatepass") + body
    return "v1," + sign_hmac(signed, key, encoding="base64")


def verify_standard(
    request: WebhookRequest,
    secrets: Sequence[str],
    *,
    now: float,
    tolerance_seconds: float,
    family: str = "webhook",
) -> None:
    """Standard Webhooks 1.0: ``v1,BASE64`` entries over ``id.TIME.body``.

    ``family`` is what the three headers begin with: ``webhook`` or ``svix``. Entries of other
    versions are skipped. Raises SignatureError.
    """
    keys = [key for key in map(standard_key, secrets) if key]
    if not keys:
        raise SignatureError(_UNSET)
    header, time_header = f"{family}-signature", f"{family}-timestamp"
    message = request.single(f"{family}-id")
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    entries = (
        entry.partition(",") for entry in _entries(request.single(header), " ", header) if entry
    )
    candidates = _digests(
        header, (value for version, _, value in entries if version == "v1"), "base64"
    )
    signed = f"{message}.{time}.".encode("utf-8", "surrogatepass") + request.body
    _match(header, (hmac.digest(key, signed, "sha256") for key in keys), candidates)


# HMAC over the URL and the fields: Twilio


def sign_twilio(url: str, body: bytes, content_type: str, secret: str) -> str:
    """An X-Twilio-Signature; a body that is no form needs ``bodySHA256`` in the URL."""
    fields = _twilio_fields(body) if content_type == FORM else ""
    return sign_hmac((url + fields).encode(), secret, "sha1", "base64")


def verify_twilio(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """HMAC of the URL and the sorted fields, or the URL with the body's hash in its query.

    Source: https://www.twilio.com/docs/usage/security#validating-requests. As in Twilio's own
    libraries the URL may have its port or not. Raises SignatureError.
    """
    keys = _keys(secrets)
    header = "X-Twilio-Signature"
    text = request.single(header)
    algorithm = _twilio_algorithm(request)
    candidates = _digests(header, [text], "base64", _DIGEST_BYTES[algorithm])
    if request.content_type == FORM:
        try:
            fields = _twilio_fields(request.body)
        except ValueError as error:
            raise SignatureError("the body is not a form in UTF-8, as Twilio signs it") from error
    else:
        fields = ""
        _check_body_hash(request)
    expected = (
        hmac.digest(key, (url + fields).encode("utf-8", "surrogatepass"), algorithm)
        for key in keys
        for url in _with_and_without_port(request.url)
    )
    _match(
        header, expected, candidates, "also check that HOOKSTREAM_PUBLIC_URL is as Twilio has it"
    )


def _twilio_algorithm(request: WebhookRequest) -> Algorithm:
    settings_header = "X-Twilio-Webhooks-Signature-Settings"
    if not request.header(settings_header):
        return "sha1"
    for entry in _entries(request.single(settings_header), ",", settings_header):
        name, _, value = entry.strip().partition("=")
        if name == "algorithm" and value in ("HMAC_SHA1", "HMAC_SHA256"):
            return "sha1" if value == "HMAC_SHA1" else "sha256"
    raise SignatureError(f"{settings_header} names no algorithm that is known here")


def _twilio_fields(body: bytes) -> str:
    # a name sent twice with the same value counts once, as in Twilio's libraries
    return "".join(name + value for name, value in sorted(set(_form_pairs(body))))


def _check_body_hash(request: WebhookRequest) -> None:
    try:
        hashes = parse_qs(urlsplit(request.url).query, max_num_fields=MAX_FORM_FIELDS)["bodySHA256"]
    except (ValueError, KeyError) as error:
        raise SignatureError(
            "the signature does not cover this body: a form is expected, or bodySHA256 in the URL"
        ) from error
    digest = _digest(hashes[0], 32, "hex") if len(hashes) == 1 else None
    if digest is None or not hmac.compare_digest(digest, hashlib.sha256(request.body).digest()):
        raise SignatureError("bodySHA256 in the URL is not the SHA-256 of the body")


def _with_and_without_port(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return [url]
    if port is None:
        netloc = f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    else:
        netloc = parts.netloc.rpartition(":")[0]
    return [url, urlunsplit(parts._replace(netloc=netloc))]


# Public keys: SendGrid


def sign_ecdsa(content: bytes, private_key: str) -> str:
    """ECDSA P-256 over SHA-256, base64 of DER; the key as PEM or base64 of DER (PKCS #8).

    Raises:
        BadRequestError: not such a key.
    """
    try:
        if private_key.lstrip().startswith("-----BEGIN"):
            key = load_pem_private_key(private_key.encode(), None)
        else:
            key = load_der_private_key(base64.b64decode(private_key, validate=True), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequestError("the secret is no private key, PEM or base64 of DER") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadRequestError("the secret is not a private key of the curve P-256")
    return base64.b64encode(key.sign(content, ec.ECDSA(SHA256()))).decode()


@lru_cache(maxsize=256)
def ecdsa_public_key(text: str) -> ec.EllipticCurvePublicKey | None:
    """The P-256 public key in base64 of DER, or in PEM; None where there is none."""
    try:
        if text.lstrip().startswith("-----BEGIN"):
            key = load_pem_public_key(text.encode())
        else:
            key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None


def verify_ecdsa(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    time_header: str,
    *,
    now: float,
    tolerance_seconds: float,
) -> None:
    """ECDSA P-256 over the time's digits and the body; secrets are public keys.

    Raises SignatureError.
    """
    keys = [key for key in map(ecdsa_public_key, secrets) if key]
    if not keys:
        raise SignatureError(_UNSET)
    text = request.single(header)
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    try:
        signature = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError(f"{header} is not base64") from error
    for key in keys:
        try:
            key.verify(signature, time.encode() + request.body, ec.ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return
    raise SignatureError(_mismatch(header))


# Credentials sent as they are


def verify_token(
    request: WebhookRequest, secrets: Sequence[str], header: str, *, scheme: str = ""
) -> None:
    """``header`` is the secret itself, after ``scheme`` (as ``Bearer``) and spaces if given.

    Raises SignatureError.
    """
    keys = _keys(secrets)
    text = request.single(header)
    if scheme:
        text = _after_scheme(text, scheme, header)
    _match(header, keys, [_key(text)])


def sign_basic(secret: str) -> str:
    """An Authorization header of ``username:password``."""
    return "Basic " + base64.b64encode(_key(secret)).decode()


def verify_basic(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """HTTP Basic (RFC 7617); secrets are ``username:password``. Raises SignatureError."""
    keys = _keys(secrets)
    header = "Authorization"
    text = _after_scheme(request.single(header), "Basic", header)
    try:
        credentials = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError("Authorization: what follows Basic is not base64") from error
    _match(header, keys, [credentials])


# What all of them rest on


def _key(secret: bytes | str) -> bytes:
    return secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogatepass")


def _keys(secrets: Sequence[str]) -> list[bytes]:
    # an empty secret would be one that everybody knows
    keys = [_key(secret) for secret in secrets if secret]
    if not keys:
        raise SignatureError(_UNSET)
    return keys


def _after_scheme(text: str, scheme: str, header: str) -> str:
    name, _, rest = text.partition(" ")
    if name.lower() != scheme.lower():
        raise SignatureError(f"{header} does not begin with {scheme}")
    return rest.lstrip(" ")


def _entries(text: str, separator: str, header: str) -> list[str]:
    entries = text.split(separator, MAX_CANDIDATES)
    if len(entries) > MAX_CANDIDATES:
        raise SignatureError(f"{header} has more than {MAX_CANDIDATES} parts")
    return entries


def _digest(text: str, size: int, encoding: str) -> bytes | None:
    if encoding == "hex":
        # bytes.fromhex would pass over white space
        return bytes.fromhex(text) if len(text) == 2 * size and _HEX.fullmatch(text) else None
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return digest if len(digest) == size else None


def _digests(header: str, texts: Iterable[str], encoding: str, size: int = 32) -> list[bytes]:
    """The well-formed signatures among ``texts``. Raises SignatureError where there is none."""
    found = [digest for text in texts if (digest := _digest(text, size, encoding))]
    if not found:
        raise SignatureError(f"{header} has no signature of the form expected ({encoding})")
    return found


def _match(
    header: str, expected: Iterable[bytes], candidates: Sequence[bytes], hint: str = ""
) -> None:
    matched = False
    for digest in expected:
        for candidate in candidates:
            # no early exit: which of several secrets matched is not to be timed
            matched |= hmac.compare_digest(digest, candidate)
    if not matched:
        raise SignatureError(_mismatch(header) + (f"; {hint}" if hint else ""))


def _mismatch(header: str) -> str:
    return (
        f"{header} does not match: the body was changed on its way, or the tool's secret is not "
        "the one that the sender has"
    )


def _form_pairs(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form. Raises ValueError: not UTF-8, or too many."""
    parse: Callable[..., list[tuple[str, str]]] = parse_qsl
    return parse(
        body.decode(),
        keep_blank_values=True,
        errors="strict",
        max_num_fields=MAX_FORM_FIELDS,
    )
