"""The test of that dedup function: no server, no fixtures."""

from examples.order_id import order_id
from hookstream.testing import find_duplicates, make_event


def test_the_same_state_of_an_order_counts_once() -> None:
    paid = make_event({"order": {"id": 7, "status": "paid"}, "sent": 1})
    again = make_event({"order": {"id": 7, "status": "paid"}, "sent": 2}, number=1)
    shipped = make_event({"order": {"id": 7, "status": "shipped"}}, number=2)
    other = make_event({"hello": "world"}, number=3)
    assert find_duplicates(order_id, [paid, again, shipped, other, other]) == [
        None,
        paid,
        None,
        None,
        None,
    ]
