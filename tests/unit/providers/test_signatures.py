"""Signatures as the providers' own libraries make them, and everything else a header can hold."""

import base64
import hashlib
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.ingest.events import incoming
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.digests import MAX_CANDIDATES
from hookstream.app.providers.signatures.ed25519 import sign_ed25519
from hookstream.app.providers.signatures.jws import sign_jws
from hookstream.app.providers.signatures.jwt_hs256 import verify_jwt
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.senders import (
    BODY,
    FORM,
    NOW,
    PRIVATE,
    URL,
    WHSEC,
    ed25519_public_text,
    public_text,
    request,
    signed,
    verify,
)

# The providers' own libraries: Python. Imported where they are asked: together they take half a
# second, of each process that collects tests


def test_stripe_library_signs_what_is_accepted_and_accepts_what_is_signed() -> None:
    import stripe

    now = int(time.time())
    text = BODY.decode()
    made = stripe.WebhookSignature.generate_signature_header(text, "whsec_abc", now)
    verify("stripe", {"Stripe-Signature": made}, BODY, ("whsec_abc",), now=now)
    ours = signed("stripe", BODY, now=now, secret="whsec_abc")["Stripe-Signature"]
    assert stripe.WebhookSignature.verify_header(text, ours, "whsec_abc", 300)
    assert ours == made


def test_slack_library_signs_what_is_accepted_and_accepts_what_is_signed() -> None:
    from slack_sdk.signature import SignatureVerifier

    now = int(time.time())
    library = SignatureVerifier("shh")
    made = library.generate_signature(timestamp=str(now), body=BODY)
    assert made
    headers = {"X-Slack-Request-Timestamp": str(now), "X-Slack-Signature": made}
    verify("slack", headers, BODY, ("shh",), now=now)
    assert library.is_valid_request(BODY, signed("slack", BODY, now=now, secret="shh"))


def test_slack_documented_example_is_accepted() -> None:
    # https://docs.slack.dev/authentication/verifying-requests-from-slack/
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": (
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        ),
    }
    verify("slack", headers, body, ("8f742231b10e8888abcd99yyyzzz85a5",), now=1531420618)


@pytest.mark.parametrize("family", ["webhook", "svix"])
def test_standard_webhooks_libraries_agree(family: str) -> None:
    import standardwebhooks
    import svix.webhooks

    now = int(time.time())
    ours = signed("standard", now=now)
    standardwebhooks.Webhook(WHSEC).verify(BODY, ours)
    svix.webhooks.Webhook(WHSEC).verify(BODY, ours)
    made = svix.webhooks.Webhook(WHSEC).sign(
        "msg_9", datetime.fromtimestamp(now, UTC), BODY.decode()
    )
    headers = {f"{family}-id": "msg_9", f"{family}-timestamp": str(now)}
    verify("standard", headers | {f"{family}-signature": f"v1a,AAAA v1,AAAA {made}"}, now=now)


def test_standard_webhooks_documented_example_is_accepted() -> None:
    # https://docs.svix.com/receiving/verifying-payloads/how-manual
    headers = {
        "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "svix-timestamp": "1614265330",
        "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    verify("standard", headers, b'{"test": 2432232314}', (secret,), now=1614265330)


@pytest.mark.parametrize("url", [URL, "https://h.example.com:8443/x", "http://h.example.com/x"])
def test_twilio_library_signs_what_is_accepted_and_accepts_what_is_signed(url: str) -> None:
    from twilio.request_validator import RequestValidator

    body = b"To=%2B49&From=%2B1&Body=gr%C3%B6%C3%9Fer+%26&Empty="
    fields = {"To": "+49", "From": "+1", "Body": "größer &", "Empty": ""}
    library = RequestValidator("token")
    made = library.compute_signature(url, fields)
    verify("twilio", FORM | {"X-Twilio-Signature": made}, body, ("token",), url=url)
    ours = signed("twilio", body, secret="token", url=url)
    assert ours["X-Twilio-Signature"] == made
    assert library.validate(url, fields, ours["X-Twilio-Signature"])


def test_twilio_json_is_covered_by_the_hash_in_its_url() -> None:
    from twilio.request_validator import RequestValidator

    url = f"https://h.example.com/x?bodySHA256={hashlib.sha256(BODY).hexdigest()}"
    ours = signed("twilio", BODY, secret="token", url=url)
    assert RequestValidator("token").validate(url, BODY.decode(), ours["X-Twilio-Signature"])
    verify("twilio", ours, BODY, ("token",), url=url)
    with pytest.raises(SignatureError, match="bodySHA256"):
        verify("twilio", ours, BODY + b" ", ("token",), url=url)
    bare = signed("twilio", BODY, secret="token", url=URL)
    with pytest.raises(SignatureError, match="does not cover this body"):
        verify("twilio", bare, BODY, ("token",))


def test_twilio_shared_keys_sign_with_sha256() -> None:
    from twilio.request_validator import RequestValidator

    made = RequestValidator("key").compute_signature(URL, {"CallStatus": "busy"}, "HMAC_SHA256")
    headers = FORM | {
        "X-Twilio-Signature": made,
        "X-Twilio-Webhooks-Signature-Settings": "key=k1,algorithm=HMAC_SHA256",
    }
    verify("twilio", headers, b"CallStatus=busy", ("key",))
    headers["X-Twilio-Webhooks-Signature-Settings"] = "algorithm=NONE"
    with pytest.raises(SignatureError, match="algorithm"):
        verify("twilio", headers, b"CallStatus=busy", ("key",))


def test_twilio_url_is_matched_with_and_without_its_port() -> None:
    made = signed("twilio", url="https://h.example.com:443/x")
    verify("twilio", made, url="https://h.example.com/x")
    made = signed("twilio", url="https://h.example.com/x")
    verify("twilio", made, url="https://h.example.com:8443/x")


def test_sendgrid_library_accepts_what_is_accepted() -> None:
    from sendgrid.helpers.eventwebhook import EventWebhook

    ours = signed("sendgrid")
    signature = ours["X-Twilio-Email-Event-Webhook-Signature"]
    stamp = ours["X-Twilio-Email-Event-Webhook-Timestamp"]
    assert EventWebhook(public_text()).verify_signature(BODY.decode(), signature, stamp)
    verify("sendgrid", ours)
    der = PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    verify("sendgrid", signed("sendgrid", secret=base64.b64encode(der).decode()))


def test_sendgrid_example_of_its_library_is_accepted() -> None:
    # https://github.com/sendgrid/sendgrid-python, test/unit/test_eventwebhook.py
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw"
        "+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
    )
    event = {
        "email": "hello@world.com",
        "event": "dropped",
        "reason": "Bounced Address",
        "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
        "sg_message_id": (
            "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0"
        ),
        "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
        "timestamp": 1600112492,
    }
    body = (json.dumps([event], separators=(",", ":")) + "\r\n").encode()
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": (
            "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15"
            "TluLtEZtM="
        ),
        "X-Twilio-Email-Event-Webhook-Timestamp": "1600112502",
    }
    verify("sendgrid", headers, body, (key,), now=1600112502)
    row = PROVIDERS["sendgrid"]
    [one] = incoming(request({}, body), row, 10).requests
    assert row.event_type(one, SignatureOptions()) == "dropped"


# Published examples of those without a library


def test_github_documented_example_is_accepted() -> None:
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": f"sha256={digest}"}
    verify("github", headers, b"Hello, World!", ("It's a Secret to Everybody",))


@pytest.mark.parametrize("name", ["bitbucket", "jira"])
def test_atlassian_documented_example_is_accepted(name: str) -> None:
    # https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/
    # https://developer.atlassian.com/cloud/jira/platform/webhooks/
    digest = "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
    headers = {"X-Hub-Signature": f"sha256={digest}"}
    verify(name, headers, b"Hello World!", ("It's a Secret to Everybody",))


def test_pagerduty_header_of_its_documentation_is_read_whole() -> None:
    # https://developer.pagerduty.com/docs/verifying-webhook-signatures
    documented = (
        "v1=f03de6f61df6e454f3620c4d6aca17ad072d3f8bbb2760eac3b2ad391b5e8073,"
        "v1=130dcacb53a94d983a37cf2acba98e805a1c37185309ba56fdcccbcf00d6dd8b"
    )
    own = signed("pagerduty")["X-PagerDuty-Signature"]
    verify("pagerduty", {"X-PagerDuty-Signature": f"{documented},{own}"})
    verify("pagerduty", {"X-PagerDuty-Signature": f"v2=new, {own}"})
    with pytest.raises(SignatureError, match="does not match"):
        verify("pagerduty", {"X-PagerDuty-Signature": documented})


def test_gitlab_takes_its_secret_token() -> None:
    # https://docs.gitlab.com/user/project/integrations/webhooks/
    verify("gitlab", {"X-Gitlab-Token": "tökén"}, BODY, ("tökén",))
    with pytest.raises(SignatureError, match="does not match"):
        verify("gitlab", {"X-Gitlab-Token": "token"}, BODY, ("tökén",))


def test_gitlab_takes_its_signing_token() -> None:
    # https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944: Standard Webhooks' headers
    import standardwebhooks

    now = int(time.time())
    ours = signed("gitlab", secret=WHSEC, now=now)
    standardwebhooks.Webhook(WHSEC).verify(BODY, ours)
    verify("gitlab", ours, BODY, (WHSEC,), now=now)
    verify("gitlab", ours, BODY, ("a token", WHSEC), now=now)
    assert "X-Gitlab-Token" not in ours


def test_gitlab_token_does_not_stand_in_for_a_signature_that_fails() -> None:
    headers = signed("gitlab", secret=WHSEC) | {"X-Gitlab-Token": "a token"}
    with pytest.raises(SignatureError, match="webhook-signature"):
        verify("gitlab", headers, BODY + b" ", (WHSEC, "a token"))


def test_gitlab_signing_token_is_no_secret_token() -> None:
    with pytest.raises(SignatureError):
        verify("gitlab", {"X-Gitlab-Token": WHSEC}, BODY, (WHSEC,))


def test_sentry_signature_is_the_bare_hex_of_the_body() -> None:
    # https://docs.sentry.io/integrations/integration-platform/webhooks/
    assert len(signed("sentry")["Sentry-Hook-Signature"]) == 64
    verify("sentry", signed("sentry"))


def test_ed25519_is_that_of_its_rfc() -> None:
    # RFC 8032, 7.1, test 3
    private = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
    public = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    made = sign_ed25519(bytes.fromhex("af82"), private)
    assert made == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert ed25519_public_text(private) == public


@pytest.mark.parametrize("text", ["", "ab", "g" * 128, "0" * 126, "0" * 128, "ff" * 64])
def test_what_is_no_ed25519_signature_is_refused(text: str) -> None:
    headers = {**signed("discord"), "X-Signature-Ed25519": text}
    with pytest.raises(SignatureError):
        verify("discord", headers)


def test_json_web_token_of_its_rfc_is_accepted_as_far_as_it_says_when() -> None:
    # RFC 7515, A.1; its key is given in base64url
    key = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    head = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    claims = (
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
        "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    digest = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    # key_bytes takes bytes, too; a tool's secrets are text
    secrets: Any = (key,)
    for other in (claims + "a", "e30", ""):
        with pytest.raises(SignatureError, match="does not match"):
            jwt_of(f"{head}.{other}.{digest}", secrets)
    with pytest.raises(SignatureError, match="when it was issued"):
        jwt_of(f"{head}.{claims}.{digest}", secrets)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS256", "hs256", None])
def test_json_web_token_of_another_algorithm_is_refused(algorithm: str | None) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
    _, claims, digest = sign_jws({"iat": NOW}, "a secret").split(".")
    for last in (digest, ""):
        with pytest.raises(SignatureError, match="HS256"):
            jwt_of(f"{head}.{claims}.{last}", ("a secret",))


def jwt_of(token: str, secrets: tuple[str, ...]) -> None:
    hook = request({"Authorization": token})
    verify_jwt(hook, secrets, "Authorization", now=NOW, tolerance_seconds=300)


# What a header can hold


@pytest.mark.parametrize(
    "text",
    ["١٢٣", "1e9", "+1700000000", " 1700000000", "1700000000 ", "-1", "0x1", "1.0", "9" * 16],
)
@pytest.mark.parametrize("name", ["stripe", "slack", "standard", "sendgrid"])
def test_times_that_are_not_plain_digits_are_refused(name: str, text: str) -> None:
    headers = {header: value.replace(str(int(NOW)), text) for header, value in signed(name).items()}
    with pytest.raises(SignatureError, match="whole Unix seconds"):
        verify(name, headers)


def test_linear_body_without_a_time_is_refused() -> None:
    for body in (b"{}", b'{"webhookTimestamp": "1700000000000"}', b"[]"):
        with pytest.raises(SignatureError, match="webhookTimestamp"):
            verify("linear", signed("linear", body), body)


def test_stripe_signature_of_another_scheme_or_with_two_times_is_refused() -> None:
    header = signed("stripe")["Stripe-Signature"]
    for text in (header.replace("v1=", "v0="), header + ",t=1", header.partition(",")[2], "t=,v1="):
        with pytest.raises(SignatureError):
            verify("stripe", {"Stripe-Signature": text})
    verify("stripe", {"Stripe-Signature": f"{header},v1={'0' * 64},v0=x"})


def test_too_many_signatures_are_refused_before_any_is_compared() -> None:
    one = signed("pagerduty")["X-PagerDuty-Signature"]
    verify("pagerduty", {"X-PagerDuty-Signature": ",".join([one] * MAX_CANDIDATES)})
    with pytest.raises(SignatureError, match="more than 32"):
        verify("pagerduty", {"X-PagerDuty-Signature": ",".join([one] * (MAX_CANDIDATES + 1))})


@pytest.mark.parametrize(
    "text",
    [
        "sha256=",
        "sha256",
        "sha1=" + "0" * 40,
        "0" * 64,
        "sha256=" + "0" * 63,
        "sha256=" + "0" * 65,
        "sha256=" + "g" * 64,
        "sha256=" + "0" * 62 + " 0",
        "sha256=" + "٠" * 64,
        "sha256=\udcff" + "0" * 63,
        "SHA256=" + "0" * 64,
        " sha256=" + "0" * 64,
    ],
)
def test_malformed_hex_signature_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        verify("github", {"X-Hub-Signature-256": text})


@pytest.mark.parametrize("text", ["=", "AAAA", "A" * 43, "é" * 44, "A" * 42 + "\n=", "-_" * 22])
def test_malformed_base64_signature_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        verify("shopify", {"X-Shopify-Hmac-Sha256": text})


def test_upper_case_hex_is_accepted() -> None:
    text = signed("sentry")["Sentry-Hook-Signature"].upper()
    verify("sentry", {"Sentry-Hook-Signature": text})


# The schemes that are set up by hand


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_generic_hmac_as_set_up(algorithm: Any, encoding: Any) -> None:
    options = SignatureOptions(
        header="X-Sig", algorithm=algorithm, encoding=encoding, prefix=f"{algorithm}="
    )
    headers = signed("generic", options=options)
    verify("generic", headers, options=options)
    assert headers["X-Sig"].startswith(f"{algorithm}=")
    with pytest.raises(SignatureError, match="does not begin with"):
        verify("generic", {"X-Sig": headers["X-Sig"][3:]}, options=options)
    with pytest.raises(SignatureError, match="X-Signature is missing"):
        verify("generic", headers)


def test_bearer_token_and_a_header_of_ones_own() -> None:
    verify("bearer", {"Authorization": "bearer  a secret"})
    for text in ("a secret", "Basic a secret", "Bearer", "Bearer a secret "):
        with pytest.raises(SignatureError):
            verify("bearer", {"Authorization": text})
    options = SignatureOptions(header="X-Api-Key")
    assert signed("bearer", options=options)["X-Api-Key"] == "a secret"
    verify("bearer", {"X-Api-Key": "a secret"}, options=options)
    with pytest.raises(SignatureError):
        verify("bearer", {"X-Api-Key": "Bearer a secret"}, options=options)


def test_basic_credentials() -> None:
    assert signed("basic")["Authorization"] == "Basic YWRhOmE6UDRzcy1i"
    for text in ("Basic", "Basic !", "Basic YWRh", "Bearer YWRhOmE6UDRzcy1i", "YWRhOmE6UDRzcy1i"):
        with pytest.raises(SignatureError):
            verify("basic", {"Authorization": text})


@pytest.mark.parametrize(
    "given",
    [
        {"header": "X Sig"},
        {"header": 5},
        {"header": "X\r\nY"},
        {"algorithm": "md5"},
        {"algorithm": []},
        {"encoding": "base32"},
        {"prefix": "a" * 65},
        {"prefix": "\n"},
        {"type_field": None},
        {"type_header": "Authorization"},
        {"type_header": 7},
        {"delivery_header": "X-Hub-Signature"},
        {"delivery_header": "X-Sig", "header": "x-sig"},
        {"tolerance_seconds": 0},
        {"tolerance_seconds": -1},
        {"tolerance_seconds": True},
        {"tolerance_seconds": 1.5},
        {"tolerance_seconds": 10**9},
        {"tolerance_seconds": "soon"},
    ],
)
def test_option_that_cannot_be_used_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match="options\\."):
        SignatureOptions(**given)


def test_tolerance_may_come_as_text_from_a_command_line() -> None:
    assert SignatureOptions(tolerance_seconds="60").tolerance() == 60  # type: ignore[arg-type]
