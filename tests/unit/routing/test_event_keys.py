"""Dedup functions: receiver and worker agree, and a failure costs nothing but a later attempt."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.application import Hookstream
from hookstream.app.errors import SettingsError
from hookstream.app.failures.blocking import blocked_key
from hookstream.app.ids import partition_of_event
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import (
    DedupFunction,
    DedupFunctionError,
    ask_again,
    custom_message_id,
    ordering_key,
    with_digits,
)
from hookstream.app.settings import Settings
from hookstream.app.testing import find_duplicates, make_event
from hookstream.app.web.receive import make_event as receive
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.json_payload import parse_payload

TOOL = Tool(
    *("shop", "t", "none", (), SignatureOptions(), "custom", (), 60_000, "none", ""),
    function="order_id",
    history_ms=120_000,
)


BY_FIELDS = Tool(
    *("shop", "t", "none", (), SignatureOptions(), "fields", ("order.id",), 60_000, "field", "who"),
)


def order_id(event: Event) -> str | None:
    assert (event.event_id, event.message_id, event.dedup_function) == ("", "", "")
    data = event.data()
    return data.get("order") if isinstance(data, dict) else None


def broken(event: Event) -> str | None:
    raise RuntimeError("not today")


def received(
    payload: object,
    functions: Mapping[str, DedupFunction],
    *,
    bits: int = 7,
    tool: Tool = TOOL,
) -> tuple[Event, int]:
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    hook = WebhookRequest(
        method="POST", url="http://x/hooks/shop", headers={}, body=body, decoded=body
    )
    return receive(
        hook,
        PROVIDERS["none"],
        tool,
        partitions=32,
        registry_version=3,
        now_ms=1_800_000_000_000,
        random_bits=bits,
        functions=functions,
    )


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_function_that_would_end_the_receiver_is_asked_again(error: BaseException) -> None:
    def ends(event: Event) -> str | None:
        raise error

    event, _ = received({"order": "1"}, {"order_id": ends})
    assert (event.message_id, event.dedup_function) == ("", "order_id")


@given(st.one_of(st.text(min_size=1), st.just("\ud800")))
def test_the_worker_gives_the_message_id_that_the_receiver_would_have_given(order: str) -> None:
    payload = b'{"order": "\\ud800"}' if order == "\ud800" else {"order": order}
    named, _ = received(payload, {"order_id": lambda _: order})
    late, partition = received(payload, {"order_id": broken})
    assert (late.message_id, late.dedup_function) == ("", "order_id")
    assert partition_of_event(late.event_id) == partition
    again = ask_again({"order_id": lambda _: order}, decode_event(encode_event(late)))
    assert again.message_id == named.message_id
    assert again.dedup_function == ""
    assert (again.dedup_window_ms, again.dedup_history_ms) == (60_000, 120_000)


def test_the_function_sees_the_same_event_in_both_places() -> None:
    seen: list[Event] = []

    def look(event: Event) -> str:
        seen.append(event)
        if len(seen) == 1:
            raise RuntimeError("not today")
        return "x"

    event, _ = received({"order": "7"}, {"order_id": look})
    ask_again({"order_id": look}, decode_event(encode_event(event)))
    assert seen[0] == seen[1]


def test_copies_meet_in_one_partition_with_ordering_none() -> None:
    for order in ("1", "2", "3", "4"):
        found = {
            received({"order": order, "n": n}, {"order_id": order_id}, bits=n)[1] for n in range(9)
        }
        assert len(found) == 1


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_event_without_an_answer_is_never_a_duplicate(nothing: str | None) -> None:
    one, _ = received({"n": 1}, {"order_id": lambda _: nothing}, bits=1)
    two, _ = received({"n": 1}, {"order_id": lambda _: nothing}, bits=2)
    assert one.message_id != two.message_id
    assert (one.dedup_window_ms, one.dedup_history_ms) == (0, 0)
    late, _ = received({"n": 1}, {"order_id": broken})
    again = ask_again({"order_id": lambda _: nothing}, late)
    assert (again.message_id, again.dedup_window_ms) == (f"shop:unknown:{late.event_id}", 0)


NUMBERS = (
    *("18446744073709551617", "18446744073709551618", "18446744073709552000"),
    *("1.8446744073709552e+19", "0.1", "0.10000000000000000001", "0.1000000000000000055"),
    *("1.0000000000000000001", "1", "1.0", '"1"', "true", "1e-400", "0.0", "1e-401"),
    *("12345678901234567890123", "1e400", "1e401"),
)


def test_numbers_that_differ_in_any_digit_are_different_events() -> None:
    found = {
        text: received(b'{"order":{"id":%s}}' % text.encode(), {}, tool=BY_FIELDS)[0].message_id
        for text in NUMBERS
    }
    assert len(set(found.values())) == len(NUMBERS)
    within = {
        received(b'{"order":{"id":[{"n":%s}]}}' % text.encode(), {}, tool=BY_FIELDS)[0].message_id
        for text in NUMBERS
    }
    assert len(within) == len(NUMBERS)
    # other fields have no part in it
    again = received(
        b'{"order":{"id":18446744073709551617},"x":0.10000000000000000001}', {}, tool=BY_FIELDS
    )
    assert again[0].message_id == found["18446744073709551617"]


def test_ordering_keys_have_all_digits_and_are_the_same_in_receiver_and_worker() -> None:
    held = replace(BY_FIELDS, on_error="hold", tool_id="test", tenant="default")
    catalog = Catalog(tools={"test": held})
    keys, blocked = set(), set()
    for text in NUMBERS[:-2]:  # the last are not parsed
        body = b'{"who":%s}' % text.encode()
        data = with_digits(held, parse_payload(body), body)
        keys.add(ordering_key(held, "", data))
        blocked.add(blocked_key(make_event(body, tool_id="test"), catalog))
        assert ordering_key(held, "", data)[2] == text
    assert len(keys) == len(blocked) == len(NUMBERS) - 2


def test_a_dedup_function_sees_whole_numbers_whole() -> None:
    one, two = (make_event(b'{"order":1844674407370955161%d}' % last) for last in (7, 8))
    function: DedupFunction = lambda event: f"{event.data()['order']}"  # noqa: E731
    assert find_duplicates(function, [one, two, one]) == [None, None, one]


def test_two_functions_never_make_events_the_same() -> None:
    event = make_event({})
    functions: dict[str, DedupFunction] = {"a": lambda _: "x", "b": lambda _: "x"}
    assert custom_message_id(functions, "a", event) != custom_message_id(functions, "b", event)


def test_what_is_no_text_and_what_is_not_there_are_told() -> None:
    functions: dict[str, DedupFunction] = {"a": lambda _: 7}  # type: ignore[return-value,dict-item]
    with pytest.raises(DedupFunctionError, match="returned int"):
        custom_message_id(functions, "a", make_event({}))
    with pytest.raises(DedupFunctionError, match=r"no dedup function 'b' here \(there are: a\)"):
        custom_message_id(functions, "b", make_event({}))


def test_a_name_is_given_once() -> None:
    app = Hookstream(Settings())  # type: ignore[call-arg]
    assert app.dedup("order_id")(order_id) is order_id
    app.dedup("order_id")(order_id)
    with pytest.raises(SettingsError, match="two dedup functions are called 'order_id'"):
        app.dedup("order_id")(broken)
    assert app.dedup_functions == {"order_id": order_id}


def test_a_developer_sees_windows_end() -> None:
    first = make_event({"order": "7"})
    late = replace(make_event({"order": "7"}, number=1), received_at_ms=first.received_at_ms + 50)
    assert find_duplicates(order_id, [first, late], window_ms=51) == [None, first]
    assert find_duplicates(order_id, [first, late], window_ms=50) == [None, None]
