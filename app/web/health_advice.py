"""What an operator is told to do about a part of ``/health`` that is not well."""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ADVICE", "advise"]

_REFUSED: Final = (
    "`detail` names it. OOM: raise maxmemory (HOOKSTREAM_EMBEDDED_REDIS_MAX_BYTES of the embedded "
    "one); MISCONF: see to its disk; NOPERM: to its user's rights; READONLY: a replica is asked. "
    "Receivers spool and workers wait meanwhile; it goes on by itself"
)
_AWAY: Final = (
    "start it, or see to the network and to the login in HOOKSTREAM_REDIS_URL. Receivers spool and "
    "workers wait meanwhile; it goes on by itself"
)

#: By part, and by its status: "" is for every other one. Parts that know more say it themselves.
ADVICE: Final[Mapping[str, Mapping[str, str]]] = {
    "redis": {
        "degraded": "set what `settings` names; see to what `refused` names: keys, rights",
        "refusing": _REFUSED,
        "slow": "see its load (SLOWLOG GET), and the network",
        "": _AWAY,
    },
    "postgres": {
        "": "start it, or see to what `detail` names: login, rights, connections, disk. Receiving "
        "and delivery go on meanwhile, and the event log catches up"
    },
    "archive": {
        "": "see to what `detail` names: bucket, credentials, region, rights, disk "
        "(docs/retention.md). Events stay in Redis meanwhile, and all goes on by itself"
    },
    "catalog": {
        "": "see part `postgres`: until it answers, tools and subscriptions are as last read"
    },
    "sealing": {
        "": "see to the key that `detail` names; webhooks of `locked_tools` are answered 503 "
        "meanwhile, batches and reads that need one of `missing_keys` wait, and it goes on by "
        "itself (docs/sealing.md)"
    },
    "schema": {"": "`hookstream schema status` says what an upgrade has to do yet, or cannot"},
    "tasks": {"": "see the log for the traceback; report what fails for a minute and more"},
    "event_loop": {"": "see the log for the stack"},
    "conditions": {"": "set the `where` of what is named anew"},
    "sockets": {"": "see `errors` and the log; clients resume by themselves"},
    "stages": {"": "mend the module, and restart"},
    "spool": {
        "down": "see to the disk below STATE_DIR/spool, and delete nothing there: it is tried each "
        "second",
        "draining": "nothing, while it gets less; where it grows see parts `redis`, `workers` and "
        "`full_streams`",
        "": "see part `redis`: what that refuses is kept on this disk, and drained by itself",
    },
    "queues": {
        "": "`troubles` says why. denied: see to the rights of this process's credentials "
        "(docs/migration.md); missing: to the tool's queue_url; unreachable: to the network; "
        "not-listed: to this process's HOOKSTREAM_SQS_QUEUES. What "
        "is not taken stays in its queue, what is not sent in its outbox, and it goes on by itself"
    },
    "kafka": {
        "": "`troubles` says why. denied: see to the rights of HOOKSTREAM_KAFKA_SASL_USERNAME; "
        "missing: make the topic; unreachable: see to HOOKSTREAM_KAFKA_URL and the network; "
        "not-listed: to this process's HOOKSTREAM_KAFKA_TOPICS. What "
        "is not taken stays in its topic, what is not mirrored waits in Redis, and it goes on by "
        "itself"
    },
    "streams": {"": "see part `redis`"},
    "dead_letters": {"": "`hookstream dead list` says which events, and why"},
    "versions": {"": "upgrade the workers: what waits comes by itself"},
    "workers": {"": "see `troubles`, and the workers' logs"},
    "generations": {
        "": "`hookstream doctor --loss` lists what is missing; see to Redis' persistence"
    },
    "partitions": {
        "": "see to what `refused` names: Redis' keys, rights and memory; it is tried again by "
        "itself"
    },
    "alerts": {
        "": "see whether HOOKSTREAM_ALERT_URL answers with 2xx; alerts are sent again for a day"
    },
    "summariser": {"": "see whether HOOKSTREAM_SUMMARISER_URL answers; templates do meanwhile"},
    "breakers": {
        "": "`hookstream dead list --tool T` and the log say why events of `tools` fail: once that "
        "is mended it closes by itself"
    },
}


def advise(parts: Mapping[str, dict[str, Any]]) -> None:
    """Have each part that is not well say what to ``do``, if it does not itself."""
    for name, part in parts.items():
        if part["status"] != "ok" and "do" not in part:
            advice = ADVICE.get(name, {"": "see the log"})
            part["do"] = advice.get(part["status"]) or advice[""]
