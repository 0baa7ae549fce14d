"""What is asked of somebody else's table, and what its rows become."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from hookstream.app.errors import BadRequestError
from hookstream.app.history.table import _written, parse_columns, query_of, source_name


def test_columns_are_named_over_those_that_are_inferred() -> None:
    assert parse_columns("")["received_at"] == "created_at"
    found = parse_columns("received_at = at, headers=h, delivery_id=")
    assert (found["received_at"], found["headers"], "delivery_id" in found) == ("at", "h", False)
    assert "payload" not in parse_columns("payload_base64=body")
    for wrong in ("x=y", "payload", "payload=a,payload_text=b"):
        with pytest.raises(BadRequestError, match="--columns"):
            parse_columns(wrong)


def test_names_are_names_whatever_is_in_them() -> None:
    query = query_of('a.b"; DROP', {"payload": 'x" FROM y --'})
    assert query == 'SELECT "x"" FROM y --" AS "payload" FROM "a"."b""; DROP"'


def test_an_import_s_name_has_no_password() -> None:
    name = source_name("postgresql://me:secret@db:5433/old?sslmode=require", "events")
    assert name == "postgresql://db:5433/old#events"
    # several hosts, an address, none
    assert source_name("postgresql://me@a:1,b:2/x", "t") == "postgresql://a:1,b:2/x#t"
    assert source_name("postgresql://[::1]:5433/x", "t") == "postgresql://[::1]:5433/x#t"
    assert source_name("postgresql:///x", "t") == "postgresql:///x#t"
    socket = "postgresql://me@/x?user=me&host=/run/a&password=secret"
    assert source_name(socket, "t") == "postgresql:///x?host=/run/a#t"
    for wrong in ("postgresql://me:sec/ret@db/old", "postgresql://me:sec#ret@db", "postgresql://["):
        with pytest.raises(BadRequestError, match="no address of a database"):
            source_name(wrong, "events")


@pytest.mark.parametrize(
    ("name", "value", "member", "text"),
    [
        ("payload", '{"n": 1.10}', "payload", '{"n": 1.10}'),
        ("payload", "a=1", "payload_text", '"a=1"'),
        ("payload", '{"n":\n1}', "payload_text", json.dumps('{"n":\n1}')),
        ("payload", b"\xff", "payload_base64", '"/w=="'),
        ("headers", '{"a": "b"}', "headers", '{"a": "b"}'),
        # which is refused, not passed over
        ("headers", "x", "headers", '"x"'),
        # which is taken as UTC, and counted, where lines are
        ("received_at", datetime(2026, 1, 31), "received_at", '"2026-01-31T00:00:00"'),
        ("received_at", datetime(2026, 1, 31, tzinfo=UTC), "received_at",
         '"2026-01-31T00:00:00+00:00"'),
        ("id", UUID(int=7), "id", '"00000000-0000-0000-0000-000000000007"'),
        ("id", 7, "id", "7"),
        ("event_type", "push", "event_type", '"push"'),
    ],
)  # fmt: skip
def test_values_as_members_of_a_line(name: str, value: object, member: str, text: str) -> None:
    assert _written(name, value) == (member, text)
