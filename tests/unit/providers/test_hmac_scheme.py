"""Every form that an HMAC of a sender has: what it is over, where it stands, how it is written."""

import base64
import hmac
from typing import Any

import pytest

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers import PROVIDERS, check_options, check_secrets
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme, hmac_key
from hookstream.app.providers.signatures.option_checks import read_options
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.template import compile_template
from tests.support.senders import NOW, URL, request

BODY = b'{"id": 7, "type": "a.b"}'
SECRET = "a secret"
DECODED = "https://hooks.example.com/hooks/t?tenant=a b"


def digest(text: bytes, key: bytes = SECRET.encode(), algorithm: str = "sha256") -> bytes:
    return hmac.digest(key, text, algorithm)


def check(scheme: HmacScheme, hook: WebhookRequest, secret: str = SECRET, now: float = NOW) -> None:
    scheme.verify(hook, (secret,), now=now, tolerance_seconds=300)


TIMED = HmacScheme(
    header="X-Sig", signed="{timestamp}.{body}", signature_name="v1", timestamp_name="t"
)


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        (HmacScheme("X-Sig"), {"X-Sig": digest(BODY).hex()}),
        (
            # Zoom: developers.zoom.us/docs/api/webhooks
            HmacScheme("X-Sig", "v0:{timestamp}:{body}", prefix="v0=", timestamp_header="X-Time"),
            {"X-Sig": "v0=" + digest(b"v0:1700000000:" + BODY).hex(), "X-Time": "1700000000"},
        ),
        (
            # Square: the URL before the body
            HmacScheme("X-Sig", "{url}{body}", encoding="base64"),
            {"X-Sig": base64.b64encode(digest(URL.encode() + BODY)).decode()},
        ),
        (
            # HubSpot: the URL decoded, and milliseconds
            HmacScheme(
                "X-Sig",
                "{method}{decoded_url}{body}{timestamp}",
                encoding="base64",
                timestamp_header="X-Time",
                timestamp_unit="ms",
            ),
            {
                "X-Sig": base64.b64encode(
                    digest(
                        b"POSThttps://hooks.example.com/hooks/t?tenant=a b"
                        + BODY
                        + b"1700000000000"
                    )
                ).decode(),
                "X-Time": "1700000000000",
            },
        ),
        (
            # Paddle: a list with semicolons
            HmacScheme(
                "X-Sig",
                "{timestamp}:{body}",
                signature_name="h1",
                timestamp_name="ts",
                separator=";",
            ),
            {"X-Sig": "ts=1700000000;h1=" + digest(b"1700000000:" + BODY).hex()},
        ),
        (
            # several signatures while a secret is replaced
            TIMED,
            {"X-Sig": f"t=1700000000,v1={'0' * 64},v1=" + digest(b"1700000000." + BODY).hex()},
        ),
        (
            HmacScheme(
                "X-Sig",
                "{id}{timestamp}{body}",
                "sha512",
                "base64url",
                timestamp_header="X-Time",
                timestamp_unit="iso",
                id_header="X-Id",
            ),
            {
                "X-Sig": base64.urlsafe_b64encode(
                    digest(b"i12023-11-14T22:13:20Z" + BODY, algorithm="sha512")
                ).decode(),
                "X-Time": "2023-11-14T22:13:20Z",
                "X-Id": "i1",
            },
        ),
        (
            HmacScheme("X-Sig", "{field:type}/{field:id}/{query:tenant}/{header:X-A}{path}"),
            {
                "X-Sig": digest(b"a.b/7/a b/hey/hooks/t?tenant=a%20b").hex(),
                "X-A": "hey",
            },
        ),
    ],
)
def test_what_is_signed_verifies_and_nothing_else_does(
    scheme: HmacScheme, headers: dict[str, str]
) -> None:
    check(scheme, request(headers, BODY))
    with pytest.raises(SignatureError, match="does not match"):
        check(scheme, request(headers, BODY), "another secret")
    if "{body}" in scheme.signed:
        with pytest.raises(SignatureError):
            check(scheme, request(headers, BODY + b" "))
    if scheme.has_time:
        for later in (-301, 301):
            with pytest.raises(SignatureError, match="this server's clock"):
                check(scheme, request(headers, BODY), now=NOW + later)
    for name in headers:
        rest = {other: value for other, value in headers.items() if other != name}
        with pytest.raises(SignatureError, match="missing"):
            check(scheme, request(rest, BODY))
    ours = scheme.sign(request(headers, BODY), SECRET, now=NOW, delivery_id=headers.get("X-Id", ""))
    check(scheme, request(headers | ours, BODY))


@pytest.mark.parametrize(
    ("encoding", "secret"),
    [
        ("raw", "k\x01y"),
        ("base64", base64.b64encode(b"k\x01y").decode()),
        ("hex", b"k\x01y".hex()),
        ("whsec", "whsec_" + base64.b64encode(b"k\x01y").decode()),
        ("whsec", "v1,whsec_" + base64.b64encode(b"k\x01y").decode()),
    ],
)
def test_keys_are_written_in_several_ways(encoding: str, secret: str) -> None:
    scheme = HmacScheme("X-Sig", key_encoding=encoding)  # type: ignore[arg-type]
    check(scheme, request({"X-Sig": digest(BODY, b"k\x01y").hex()}, BODY), secret)


def test_a_secret_that_is_not_encoded_so_is_refused() -> None:
    for encoding, secret in (("hex", "xyz"), ("base64", "*"), ("base64", ""), ("whsec", "whsec_")):
        with pytest.raises(BadRequestError, match="the secret"):
            hmac_key(secret, encoding)  # type: ignore[arg-type]


def test_a_signature_may_stand_in_the_query_or_in_the_body() -> None:
    signature = digest(b"7").hex()
    body = b'{"id": 7, "sig": {"value": "%s"}}' % signature.encode()
    check(HmacScheme(signed="{field:id}", field="sig.value"), request({}, body))
    url = f"{URL}&sig={digest(BODY).hex()}"
    check(HmacScheme(query="sig"), request({}, BODY, url))
    for bad in (HmacScheme(signed="{field:no}", field="sig.value"), HmacScheme(field="no")):
        with pytest.raises(SignatureError, match="no"):
            check(bad, request({}, body))


def test_a_list_may_stand_on_several_lines() -> None:
    good = digest(b"1700000000." + BODY).hex()
    lines = {"x-sig": (f"t=1700000000,v1={'0' * 64}", f"v1={good}")}
    check(TIMED, WebhookRequest("POST", URL, lines, BODY, BODY))
    twice = {"x-sig": (f"t=1700000000,v1={good}", "t=1700000001")}
    with pytest.raises(SignatureError, match="one time"):
        check(TIMED, WebhookRequest("POST", URL, twice, BODY, BODY))


@pytest.mark.parametrize(
    "template", ["", "a" * 201, "{}", "{bdy}", "{body", "body}", "plain", "{field:}", "{body:x}"]
)
def test_a_template_that_cannot_be_filled_in_is_refused(template: str) -> None:
    with pytest.raises(BadRequestError):
        compile_template(template)
    with pytest.raises(BadRequestError, match=r"options\.signed"):
        SignatureOptions(signed=template)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heade": "X-Sig"}, r"options\.heade: there is no such option; did you mean header"),
        ({"signed": ["{body}"]}, r"options\.signed: a text"),
        ({"signature_query": "sig", "header": "X-Sig"}, r"options\.header: nothing reads it"),
        ({"signature_name": "v1", "prefix": "sha256="}, r"options\.prefix: nothing reads it"),
        ({"tolerance_seconds": 60}, r"options\.tolerance_seconds: no time is signed"),
        ({"timestamp_unit": "ms"}, r"options\.timestamp_unit: no time is signed"),
        (
            {"signed": "{timestamp}{body}", "header": "X-Sig", "timestamp_header": "x-sig"},
            r"options\.timestamp_header: the signature stands there",
        ),
        ({"signed": "{id}{body}", "id_header": "x-signature"}, r"options\.id_header"),
        ({"signed": "{header:a b}{body}"}, r"options\.signed: .* no name of a header"),
        # a signature that is in what it signs
        ({"signature_field": "sig"}, r"options\.signed: \{body\} has the signature in it"),
        ({"signature_field": "a", "signed": "{field:a}"}, r"options\.signed: \{field:a\}"),
        ({"signature_query": "sig", "signed": "{url}{body}"}, r"options\.signed: \{url\}"),
        ({"signature_query": "sig", "signed": "{query:sig}"}, r"options\.signed: \{query:sig\}"),
        ({"signed": "{header:x-SIGNATURE}{body}"}, r"options\.signed: \{header:x-SIGNATURE\}"),
        ({"answer_status": 204, "answer_body": "ok"}, r"options\.answer_body: .* has no body"),
    ],
)
def test_options_that_would_do_nothing_are_refused_with_what_to_do(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadRequestError, match=said):
        check_options(PROVIDERS["generic"], read_options(given))


@pytest.mark.parametrize(
    "given",
    [
        {"header": "X-LI-Signature", "signed": "hmacsha256={body}"},
        {"signature_field": "sig", "signed": "{field:time}{field:id}"},
        {"signature_query": "sig", "signed": "{query:id}{body}"},
        {"signed": "{timestamp}{body}", "timestamp_field": "t", "tolerance_seconds": "60"},
        {"signature_name": "v1", "timestamp_name": "t", "signed": "{timestamp}.{body}"},
        {"answer_status": 204},
    ],
)
def test_options_that_mean_something_together_are_taken(given: dict[str, Any]) -> None:
    check_options(PROVIDERS["generic"], read_options(given))


@pytest.mark.parametrize(
    ("name", "given", "secret", "said"),
    [
        ("generic", {"key_encoding": "hex"}, "not hex, this one", "the secret is not hex"),
        ("generic", {"key_encoding": "base64"}, "*** no base64 ***", "the secret is not base64"),
        ("generic", {"key_encoding": "whsec"}, "whsec_AAEC", "its key has 3 bytes"),
        ("generic", {"key_encoding": "hex"}, "00ff00ff0a", "its key has 5 bytes"),
        ("standard", {}, "whsec_AAEC", "its key has 3 bytes"),
        ("openai", {}, "whsec_AAEC", "its key has 3 bytes"),
        ("gitlab", {}, "whsec_AAEC", "its key has 3 bytes"),
        ("adyen", {}, "00ff00ff0a", "its key has 5 bytes"),
        ("airtable", {}, "AAECAwQ=", "its key has 5 bytes"),
    ],
)
def test_a_key_that_is_none_or_can_be_guessed_is_refused_when_it_is_set(
    name: str, given: dict[str, Any], secret: str, said: str
) -> None:
    row, options = PROVIDERS[name], read_options(given)
    with pytest.raises(BadRequestError, match=said):
        check_secrets(row, [secret], (), options)
    if "its key" in said:
        # one that the tool has already goes on
        check_secrets(row, [secret], [secret], options)


def test_options_and_scheme_say_the_same() -> None:
    options = SignatureOptions(
        header="X-Sig", signed="{timestamp}.{body}", signature_name="v1", timestamp_name="t"
    )
    assert options.scheme("X-Other") == TIMED
    assert SignatureOptions().scheme("X-Other") == HmacScheme("X-Other")
