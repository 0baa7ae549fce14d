"""What is shown of a refused webhook, and what is masked."""

from dataclasses import replace

import pytest

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import Tool
from hookstream.app.web.refusals import SHOWN_HEADERS, refusal_out
from tests.support import refused
from tests.support.senders import BODY, NOW, OTHER, OTHER_SIGNING, SIGNING, URL

SENDGRID = {"sendgrid": SIGNING["sendgrid"]}

REFUSED = replace(
    refused.REFUSED,
    path="/hooks/a?key=shh&flag&=shh",
    headers={"x-request-id": ("shh",), "user-agent": ("curl/8", "\udcffnext\x1b")},
    body=b"",
    body_bytes=0,
)
TOOL = Tool("a", "t", "generic", (), SignatureOptions(), "payload", (), 0, "tool", "")


def test_what_no_signature_or_credential_is_in_is_shown() -> None:
    shown = refusal_out(REFUSED, TOOL)
    assert shown["headers"] == {"x-request-id": "shh", "user-agent": "curl/8, \ufffdnext\ufffd"}
    assert shown["path"] == "/hooks/a?key=…&flag=…&=…"


@pytest.mark.parametrize(
    ("method", "whole", "replayable"),
    [("POST", True, True), ("POST", False, False), ("SQS", True, False), ("KAFKA", True, False)],
)
def test_what_can_be_replayed_is_a_whole_webhook(
    method: str, whole: bool, replayable: bool
) -> None:
    refusal = replace(REFUSED, method=method, whole=whole)
    assert refusal_out(refusal, TOOL)["replayable"] is replayable


def test_the_header_in_which_a_tool_has_its_credential_is_masked_whatever_its_name() -> None:
    tool = replace(TOOL, options=SignatureOptions(header="X-Request-Id"))
    assert refusal_out(REFUSED, tool)["headers"]["x-request-id"] == "… (3 characters)"


def test_no_header_that_depends_on_a_provider_s_secret_is_shown() -> None:
    found = {"authorization", "cookie", "proxy-authorization", "x-api-key"}
    for name, provider in PROVIDERS.items():
        body = provider.stamp(b"{}", NOW) if provider.stamp else BODY
        # SendGrid's signature is another one each time by one key
        secrets = [
            SIGNING.get(name, "shh"),
            {**OTHER, **OTHER_SIGNING, **SENDGRID}.get(name, "another"),
        ]
        one, other = (
            provider.sign(
                body, secret, SignatureOptions(), now=NOW, event_type="e", delivery_id="d", url=URL
            )
            for secret in secrets
        )
        depends = {header.lower() for header in one if one[header] != other[header]}
        # some have their secret in the body, which is not shown
        elsewhere = provider.seal or provider.address or name in ("graph", "sharepoint")
        assert depends or elsewhere or not provider.needs_secret, name
        found |= depends
    assert not {header for header in found if header in SHOWN_HEADERS}
