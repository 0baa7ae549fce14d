"""The delivery record: one row an event and number, whatever stands in one digest."""

from hookstream.app.stores.audit import _newest_deliveries
from hookstream.proto.pipeline_pb2 import AuditBatch, DeliveryAudit


def delivery(event_id: str, replay_id: str = "", seq: int = 1) -> DeliveryAudit:
    return DeliveryAudit(
        tenant="t", context_id="c", seq=seq, event_id=event_id, replay_id=replay_id, kind="digest"
    )


def test_event_and_its_replay_in_one_digest_are_the_events_own_delivery() -> None:
    for both in (("", "r"), ("r", "")):
        batch = AuditBatch(deliveries=[delivery("e", replay) for replay in both])
        [kept] = _newest_deliveries([batch])
        assert (kept.event_id, kept.replay_id) == ("e", "")


def test_later_batch_has_the_last_word_on_a_number() -> None:
    first = AuditBatch(deliveries=[delivery("a"), delivery("b"), delivery("c", seq=2)])
    second = AuditBatch(deliveries=[delivery("b", "r")])
    kept = _newest_deliveries([first, second])
    assert {(one.seq, one.event_id, one.replay_id) for one in kept} == {(1, "b", "r"), (2, "c", "")}
