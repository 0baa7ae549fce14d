"""What fields of a body make two webhooks the same, however the body is written."""

import pytest

from hookstream.app.ingest.events import incoming, make_events
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Tool

JSON, FORM, XML = "application/json", "application/x-www-form-urlencoded", "text/xml"


def message_id(body: bytes, kind: str, field: str = "id") -> str:
    tool = Tool(
        *("t", "default", "generic", (), SignatureOptions(), "fields", (field,)),
        *(60_000, "field", field),
    )
    hook = WebhookRequest("POST", "http://x/hooks/t", {"content-type": (kind,)}, body, body)
    [(event, _)] = make_events(
        incoming(hook, PROVIDERS["generic"], 100),
        tool,
        partitions=4,
        registry_version=1,
        now_ms=1_700_000_000_000,
        random_bits=7,
        functions={},
    )
    return event.message_id


@pytest.mark.parametrize(
    ("kind", "template", "field"),
    [
        (JSON, '{"id": "ID", "n": #}', "id"),
        (JSON, '\ufeff{"id": "ID", "n": #}', "id"),
        (JSON, '{"id": "ID", "n": #, "m": NaN}', "id"),
        (JSON, '{"id": "ID", "n": #, "m": "\\ud800"}', "id"),
        (JSON, '{"id": "ID", "n": "#\n\t"}', "id"),
        (FORM, "id=ID&n=#", "id"),
        (XML, "<a><id>ID</id><n>#</n></a>", "a.id"),
        ("application/x-ndjson", '{"id": "ID"}\n{"n": #}', "0.id"),
        (
            "multipart/form-data; boundary=b",
            '--b\r\nContent-Disposition: form-data; name="id"\r\n\r\nID\r\n'
            '--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n#\r\n--b--\r\n',
            "id",
        ),
    ],
)
def test_fields_are_found_in_whatever_can_be_read(kind: str, template: str, field: str) -> None:
    one, again, other = (
        message_id(template.replace("ID", value).replace("#", number).encode(), kind, field)
        for value, number in (("a", "1"), ("a", "2"), ("b", "1"))
    )
    assert one == again != other


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b'{"id": "a", "m": NaN}'),
        (JSON, b'\xef\xbb\xbf{"id": "a"}'),
        (FORM, b"id=a&n=1"),
    ],
)
def test_a_copy_under_another_content_type_has_the_same_fields(kind: str, body: bytes) -> None:
    said = (
        JSON,
        FORM,
        XML,
        "text/plain",
        "application/x-ndjson",
        "multipart/form-data; boundary=b",
    )
    # nobody signs what a body is said to be
    assert {message_id(body, other) for other in said} == {message_id(body, kind)}
