"""The history of one event, from all that is recorded of it: pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["NOT_RECORDED", "history_of"]

#: What nobody can say of an event, so that what is not in its history is not taken for not done.
NOT_RECORDED: Final = (
    "which subscription, and which condition, matched: only which contexts it reached",
    "when stages between receiving and delivery were done, and what each of them has changed",
    "when it moved from tier to tier: only where it is now",
    "which later webhooks were its duplicates: each of those says so itself",
    "who has read its updates, in digests too, over WebSocket, HTTP or MCP: only acknowledgements",
)


def history_of(
    event: Mapping[str, Any],
    attempts: Sequence[Mapping[str, Any]],
    trail: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """What happened to an event, in the order of time.

    ``event``: as the API shows it, with deliveries. ``attempts``: of its dead letter, those that
    failed. ``trail``: records of the audit trail that name it. What has no time of its own (``at``
    is null) stands where it must have been.
    """
    steps = [
        *[_failed(attempt) for attempt in attempts],
        *[one for delivery in event["deliveries"] for one in _delivered(delivery)],
        *[_recorded(record) for record in trail],
    ]
    steps.sort(key=lambda step: step["at"])
    return [*_received(event), *steps, {"at": None, "step": "kept", "tier": event["tier"]}]


def _received(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    first = {
        "at": event["received_at"],
        "step": "received",
        "tool_id": event["tool_id"],
        "type": event["type"],
        "delivery_id": event["delivery_id"],
        "payload_bytes": event["payload_bytes"],
        "batch_id": event["batch_id"],
    }
    decided: dict[str, Any] = {"at": None, "step": "decided", "status": event["status"]}
    if event["duplicate_of"]:
        decided |= {"step": "deduplicated", "duplicate_of": event["duplicate_of"]}
        decided |= {"by": event["dedup"]}
    if event["stage"]:
        decided |= {"stage": event["stage"], "error": event["error"]}
    if event["schema_errors"]:
        decided |= {"schema_errors": event["schema_errors"]}
    if event["payload_changed"]:
        decided |= {"payload_changed": True}
    return [first, decided]


def _failed(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": _plain(attempt["at"]),
        "step": "failed",
        "attempt": attempt["attempt"],
        "stage": attempt["stage"],
        "error": attempt["error"],
    }


def _delivered(delivery: Mapping[str, Any]) -> list[dict[str, Any]]:
    where = {"context_id": delivery["context_id"], "seq": delivery["seq"]}
    found = [
        {
            "at": _plain(delivery["delivered_at"]),
            "step": "delivered",
            **where,
            "as": delivery["as"],
            "replay_id": delivery["replay_id"],
        }
    ]
    if delivery["acknowledged_at"]:
        found.append({"at": _plain(delivery["acknowledged_at"]), "step": "acknowledged", **where})
    return found


def _recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody did with it."""
    return {
        "at": _plain(record["at"]),
        "step": record["action"],
        "actor": record.get("actor", {}),
        "address": record.get("address", ""),
        "object": record.get("object", {}),
        "audit_seq": record["seq"],
    }


def _plain(at: str) -> str:
    """One spelling of times, so that their order is that of texts."""
    at = at.replace("+00:00", "Z").removesuffix("Z")
    whole, _, part = at.partition(".")
    return f"{whole}.{part[:6]:0<6}Z"
