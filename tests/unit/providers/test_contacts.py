"""How senders of money, mail and identities try out an address, and what they are told."""

from collections.abc import Mapping

import pytest

from hookstream.app.errors import SignatureError
from hookstream.app.providers import PROVIDERS, Answer
from hookstream.app.providers.provider import JSON
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from tests.support.senders import FORM, NOW, URL

OPTIONS = SignatureOptions()
EMPTY = Answer(200, b"", "text/plain")
ACCEPTED = Answer(202, b'{"event_id":"e","status":"accepted"}', JSON)
NOTHING: Mapping[str, str] = {}


def hook(
    body: bytes = b"", headers: Mapping[str, str] = NOTHING, method: str = "POST", url: str = URL
) -> WebhookRequest:
    sent = {name.lower(): (value,) for name, value in headers.items()}
    return WebhookRequest(method, url, sent, body, body)


def challenged(name: str, request: WebhookRequest) -> Answer | None:
    challenge = PROVIDERS[name].challenge
    assert challenge
    return challenge(request, ("s",), OPTIONS)


def test_woocommerce_pings_with_a_form_that_nobody_signs() -> None:
    assert challenged("woocommerce", hook(b"webhook_id=12", FORM)) == EMPTY
    for body in (b"webhook_id=12&a=b", b"webhook_id=", b"webhook_id=x", b"{}", b"webhook_id=1\n"):
        assert challenged("woocommerce", hook(body, FORM)) is None


def test_okta_verifies_an_address_once() -> None:
    header = {"X-Okta-Verification-Challenge": "qwe-123_x"}
    found = challenged("okta", hook(headers=header, method="GET"))
    assert found == Answer(200, b'{"verification":"qwe-123_x"}', JSON)
    assert challenged("okta", hook(headers=header)) is None
    assert challenged("okta", hook(method="GET")) is None
    long = {"X-Okta-Verification-Challenge": "a" * 2000}
    assert challenged("okta", hook(headers=long, method="GET")) is None


def test_mandrill_tries_out_an_address_before_it_shows_its_key() -> None:
    assert challenged("mandrill", hook(b"mandrill_events=%5B%5D", FORM)) == EMPTY
    assert challenged("mandrill", hook(b"mandrill_events=[]", FORM)) == EMPTY
    assert challenged("mandrill", hook(b"mandrill_events=%5B1%5D", FORM)) is None


def test_mailchimp_looks_whether_the_address_is_there() -> None:
    assert challenged("mailchimp", hook(method="GET")) == EMPTY
    assert challenged("mailchimp", hook(b"type=subscribe", FORM)) is None


def test_xero_asks_for_an_intent_to_receive() -> None:
    row = PROVIDERS["xero"]
    assert row.handshake
    for events in (b"[]", b"null"):
        body = (
            b'{"events":%b,"firstEventSequence":0,"lastEventSequence":0,"entropy":"FML"}' % events
        )
        assert row.handshake(hook(body), ("s",), OPTIONS) == EMPTY
    for body in (b'{"events":[{}],"entropy":"FML"}', b"{}", b"[]", b"1"):
        assert row.handshake(hook(body), ("s",), OPTIONS) is None


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("adyen", 200, b"[accepted]"),
        ("xero", 200, b""),
        ("airtable", 200, b""),
        ("mailgun", 200, ACCEPTED.body),
        ("paddle", 200, ACCEPTED.body),
        ("postmark", 200, ACCEPTED.body),
    ],
)
def test_senders_get_what_they_wait_for(name: str, status: int, body: bytes) -> None:
    answer = PROVIDERS[name].answer
    assert answer
    found = answer(hook(), OPTIONS, ACCEPTED)
    assert (found.status, found.body) == (status, body)


def test_a_secret_in_the_url_is_read_as_it_was_written() -> None:
    row = PROVIDERS["mailchimp"]
    assert row.address
    secret = "a b&c=d/ü?"
    for url in ("https://h.example/hooks/t", URL):
        request = hook(b"type=subscribe", FORM, url=row.address(url, secret))
        row.verify(request, ("x", secret), OPTIONS, NOW)
        for secrets in (("a b",), (secret + "x",)):
            with pytest.raises(SignatureError, match="does not match") as caught:
                row.verify(request, secrets, OPTIONS, NOW)
            assert secret not in str(caught.value)
    with pytest.raises(SignatureError, match="missing"):
        row.verify(hook(b"secret=a", FORM), ("a",), OPTIONS, NOW)


def test_docusign_signs_with_every_key_of_the_account() -> None:
    row = PROVIDERS["docusign"]

    def signature(secret: str) -> str:
        sent = row.sign(b"{}", secret, OPTIONS, now=NOW, event_type="", delivery_id="", url=URL)
        return sent["X-DocuSign-Signature-1"]

    keys = ("old", "new")
    headers = {f"X-DocuSign-Signature-{n}": signature(key) for n, key in enumerate(keys, 1)}
    for key in keys:
        row.verify(hook(b"{}", headers), (key,), OPTIONS, NOW)
    with pytest.raises(SignatureError, match="does not match"):
        row.verify(hook(b"{}", headers), ("other",), OPTIONS, NOW)
    with pytest.raises(SignatureError, match="missing"):
        row.verify(hook(b"{}"), keys, OPTIONS, NOW)


def test_okta_may_have_its_secret_in_another_header() -> None:
    row, options = PROVIDERS["okta"], SignatureOptions(header="X-Okta-Secret")
    row.verify(hook(b"{}", {"X-Okta-Secret": "s"}), ("s",), options, NOW)
    with pytest.raises(SignatureError):
        row.verify(hook(b"{}", {"Authorization": "s"}), ("s",), options, NOW)
