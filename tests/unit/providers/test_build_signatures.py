"""Signatures of tools that build, watch and run: other people's libraries, published vectors."""

import hashlib
import time

import jwt
import pytest
import standardwebhooks

from hookstream.app.errors import SignatureError
from hookstream.app.providers import PROVIDERS, provider
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from tests.support.senders import BODY, WHSEC, request, signed, verify

SECRET = "a-secret-of-at-least-32-characters"


@pytest.mark.parametrize(
    ("body", "secret", "digest"),
    [
        (
            b"hello world",
            "secret",
            "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a",
        ),
        (
            b"lalala",
            "another-secret",
            "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00",
        ),
        (
            b"an-important-request-payload",
            "hunter123",
            "9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa",
        ),
    ],
)
def test_circleci_signature_is_the_published_one(body: bytes, secret: str, digest: str) -> None:
    """https://circleci.com/docs/guides/integration/outbound-webhooks/#validate-webhooks"""
    header = {"circleci-signature": f"v1={digest},v2=1234"}
    verify("circleci", header, body, (secret,))
    assert signed("circleci", body, secret=secret)["circleci-signature"] == f"v1={digest}"


def test_netlify_signature_is_a_jws_that_other_libraries_make_and_read() -> None:
    claims = {"iss": "netlify", "sha256": hashlib.sha256(BODY).hexdigest()}
    made = jwt.encode(claims, SECRET, "HS256")
    verify("netlify", {"X-Webhook-Signature": made}, BODY, (SECRET,))
    ours = signed("netlify", BODY, secret=SECRET)["X-Webhook-Signature"]
    assert jwt.decode(ours, SECRET, ["HS256"]) == claims


@pytest.mark.parametrize(
    ("claims", "algorithm"),
    [
        ({"iss": "netlify", "sha256": hashlib.sha256(b"another").hexdigest()}, "HS256"),
        ({"iss": "netlify"}, "HS256"),
        ({"iss": "somebody", "sha256": hashlib.sha256(BODY).hexdigest()}, "HS256"),
        ({"iss": "netlify", "sha256": hashlib.sha256(BODY).hexdigest()}, "none"),
        ({"iss": "netlify", "sha256": hashlib.sha256(BODY).hexdigest()}, "HS384"),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_netlify_jws_of_another_body_sender_or_algorithm_is_refused(
    claims: dict[str, str], algorithm: str
) -> None:
    made = jwt.encode(claims, None if algorithm == "none" else SECRET, algorithm)
    with pytest.raises(SignatureError):
        verify("netlify", {"X-Webhook-Signature": made}, BODY, (SECRET,))


@pytest.mark.parametrize("name", ["openai", "claude"])
def test_standard_library_accepts_what_is_signed(name: str) -> None:

    headers = signed(name, BODY, now=time.time(), secret=WHSEC)
    standardwebhooks.Webhook(WHSEC).verify(BODY, headers)


def test_buildkite_takes_its_token_or_its_signature_as_it_is_set() -> None:
    verify("buildkite", {"X-Buildkite-Token": SECRET}, BODY, (SECRET,))
    headers = signed("buildkite", BODY, secret=SECRET)
    verify("buildkite", headers, BODY, (SECRET,))
    # a signature that fails is not made good by a token beside it
    with pytest.raises(SignatureError, match="does not match"):
        verify("buildkite", {**headers, "X-Buildkite-Token": SECRET}, b"{}", (SECRET,))


def test_grafana_signs_with_or_without_a_time_or_sends_what_is_set() -> None:
    timed = SignatureOptions(timestamp_header="X-Time", signed="{timestamp}:{body}")
    headers = signed("grafana", BODY, secret=SECRET, options=timed)
    verify("grafana", headers, BODY, (SECRET,), options=timed)
    with pytest.raises(SignatureError):
        verify("grafana", headers, BODY, (SECRET,))
    verify("grafana", {"Authorization": f"Bearer {SECRET}"}, BODY, (SECRET,))
    other = {**signed("grafana", b"{}", secret=SECRET), "Authorization": f"Bearer {SECRET}"}
    with pytest.raises(SignatureError, match="does not match"):
        verify("grafana", other, BODY, (SECRET,))


@pytest.mark.parametrize(
    "name",
    ["alertmanager", "argocd", "azuredevops", "eventgrid", "jenkins", "newrelic", "opsgenie"],
)
def test_what_is_set_is_taken_as_basic_as_bearer_and_in_a_header_of_its_own(name: str) -> None:
    verify(name, signed(name, BODY, secret="ada:P4ss"), BODY, ("ada:P4ss",))
    verify(name, signed(name, BODY, secret=SECRET), BODY, (SECRET,))
    options = SignatureOptions(header="X-Token")
    headers = signed(name, BODY, secret=SECRET, options=options)
    assert headers["X-Token"] == SECRET
    verify(name, headers, BODY, (SECRET,), options=options)
    with pytest.raises(SignatureError):
        verify(name, {"Authorization": f"Bearer {SECRET}"}, BODY, (SECRET,), options=options)
    with pytest.raises(SignatureError):
        verify(name, {"Authorization": f"Digest {SECRET}"}, BODY, (SECRET,))


def test_figma_is_known_by_the_passcode_in_its_body() -> None:
    verify("figma", {}, b'{"passcode": "P4sscode"}', ("P4sscode",))
    for body in (b'{"passcode": "another"}', b'{"passcode": ["P4sscode"]}', b"{}", b"P4sscode"):
        with pytest.raises(SignatureError):
            verify("figma", {}, body, ("P4sscode",))


def test_cloudevents_token_may_be_in_the_address_where_no_header_has_it() -> None:
    url = "https://hooks.example.com/hooks/t?access_token=mF_9.B5f-4.1JqM"
    verify("cloudevents", {}, BODY, ("mF_9.B5f-4.1JqM",), url=url)
    with pytest.raises(SignatureError, match="does not match"):
        verify("cloudevents", {}, BODY, ("another",), url=url)
    # one of the two, and a header that is wrong is not made good by the address
    with pytest.raises(SignatureError, match="does not match"):
        verify("cloudevents", {"Authorization": "Bearer a"}, BODY, ("mF_9.B5f-4.1JqM",), url=url)


def test_what_only_tries_out_the_address_is_answered_and_becomes_no_event() -> None:
    tried = {
        "buildkite": ({}, b'{"event": "ping"}'),
        "circleci": ({}, b'{"type": "ping", "id": "1"}'),
        "terraform": ({}, b'{"notifications": [{"trigger": "verification"}]}'),
        "snyk": ({}, b'{"webhookId": "d3cf26b3-2d77-497b-bce2-23b33cc15362"}'),
        "figma": ({}, b'{"event_type": "PING", "passcode": "P4sscode"}'),
        "googlechannel": ({"X-Goog-Resource-State": "sync"}, b""),
    }
    for name, (headers, body) in tried.items():
        handshake = PROVIDERS[name].handshake
        assert handshake
        answer = handshake(request(headers, body), (SECRET,), SignatureOptions())
        assert answer
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("name", ["cloudevents", "eventgrid"])
def test_leave_to_send_is_given(name: str) -> None:
    challenge = PROVIDERS[name].challenge
    assert challenge
    asked = {"webhook-request-origin": ("eventemitter.example.com",)}
    hook = WebhookRequest("OPTIONS", "https://hooks.example.com/hooks/t", asked, b"", b"")
    answer = challenge(hook, (SECRET,), SignatureOptions())
    assert answer
    assert answer.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
    body = b'[{"data": {"validationCode": "512d38b6"}}]'
    hook = request({"aeg-event-type": "SubscriptionValidation"}, body)
    answer = challenge(hook, (SECRET,), SignatureOptions())
    assert answer
    assert answer.body == b'{"validationResponse":"512d38b6"}'
    # nobody has signed it: what is long is not looked into
    long = request({"aeg-event-type": "SubscriptionValidation"}, body + b" " * 5000)
    assert challenge(long, (SECRET,), SignatureOptions()) is None


def test_forgejo_is_gitea_by_another_name() -> None:
    assert provider("forgejo") is PROVIDERS["gitea"]
