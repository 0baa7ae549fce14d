"""Every Redis key name. Keys of a partition share a hash tag, so one script may touch them all."""

__all__ = [
    "ALERTS",
    "ALERTS_DUE",
    "AUDIT_TRAIL",
    "DICTIONARIES",
    "ERASED",
    "ERASURES",
    "GROUP",
    "LIFECYCLE",
    "META",
    "OF_WORKERS",
    "PROBE",
    "RESERVED",
    "SPOOLS",
    "TENANT_SOCKETS",
    "UNKNOWN_REFUSALS",
    "WORKERS",
    "WORKER_CATALOGS",
    "WORKER_NOTES",
    "ack_times",
    "acks",
    "audit",
    "barrier",
    "barrier_of",
    "blob",
    "blocked_events",
    "blocked_keys",
    "breakers",
    "changelog",
    "coalesced_updates",
    "daily",
    "dead",
    "deaths",
    "deferred",
    "dictionary",
    "erased",
    "erasure_progress",
    "events",
    "failed_event",
    "failures",
    "feed",
    "feed_channel",
    "feed_field",
    "feed_marks",
    "hand_overs",
    "history",
    "history_day",
    "lease",
    "mirror",
    "not_copied",
    "outbox",
    "outboxes",
    "parked",
    "paths",
    "pins",
    "quarantined",
    "quarantines",
    "refusals",
    "retired_dictionaries",
    "retries",
    "rewritten",
    "seqs",
    "session",
    "source_positions",
    "stream",
    "table_log",
    "tenant_use",
    "throttled",
    "throttled_updates",
    "training",
    "trimmed",
    "updates",
    "warm_block",
    "warm_index",
    "warm_tools",
]

#: What stands behind a partition's hash tag: no channel of one's own may be called so.
RESERVED = frozenset(
    (  # noqa: SIM905 a line each would be longer than the rest of this module's head
        "ack-times acks audit barrier blob breakers changelog daily dead-letters deaths deferred "
        "erased erasing events feed feed-marks folded hand-overs held held-version held-versions "
        "history holds lease letter letters mirror origins outbox outboxes parked paths pins "
        "retries seqs table-log trimmed updates warm warm-tools withheld"
    ).split()
)
#: The consumer group of every stream.
GROUP = "hookstream"
#: Hash of facts about the whole installation: the partition count, the schema version.
META = "hs:meta"
#: Hash: when (ms) somebody asked for a run of the lifecycle, as ``asked``, and by worker what its
#: last run came to, as JSON.
LIFECYCLE = "hs:lifecycle"
#: Written to see whether anything can be.
PROBE = "hs:probe"
#: Hash of alerts by id, and the sorted set of when (ms) each is to be sent.
ALERTS = "{hs:alerts}:queue"
ALERTS_DUE = "{hs:alerts}:due"
#: Stream: records of the audit trail that wait for PostgreSQL.
AUDIT_TRAIL = "hs:audit-trail"
#: Hash: the dictionary that new events of each tool are compressed with.
DICTIONARIES = "hs:dictionaries"
#: Hash: what is to be remembered of each erasure, as JSON by its id.
ERASURES = "hs:erasures"
#: Set: the erasures that were carried out on what is no partition's here.
ERASED = "hs:erased"
#: Hash: by process that may have a spool, when (ms) it said so last and which erasures it knows.
SPOOLS = "hs:spools"
#: Sorted set of living workers by the time (ms) until which they are taken for alive.
WORKERS = "hs:workers"
#: Hash: when (ms) a worker said last what it cannot do, and what; in the slot of ``WORKERS``.
WORKER_NOTES = "{hs:workers}:notes"
#: Hash: the newest version of entries that each living worker reads; in the slot of ``WORKERS``.
WORKER_READS = "{hs:workers}:reads"
#: Hash: version and token of the catalog that each living worker has; in the slot of ``WORKERS``.
WORKER_CATALOGS = "{hs:workers}:catalogs"
#: What ``heartbeat`` looks at.
OF_WORKERS = (WORKERS, WORKER_NOTES, WORKER_READS, WORKER_CATALOGS)

#: Hash: how many WebSockets each process has open, by tenant, and when (ms) it said so, as JSON.
TENANT_SOCKETS = "hs:tenant-sockets"

#: Stream: the last webhooks that were refused because there is no such tool.
UNKNOWN_REFUSALS = "hs:refusals"


def erasure_progress(erasure_id: str) -> str:
    """Hash: how far each step of an erasure is, as JSON; ends with it."""
    return f"hs:erasure-progress:{erasure_id}"


def refusals(tenant: str, tool_id: str) -> str:
    """Stream of a tool's last webhooks that were refused; ends a day after the last one."""
    return f"hs:refusals:{tenant}/{tool_id}"


def not_copied(tool_id: str) -> str:
    """Stream of a tool's last events that could not be copied into its queue, and why."""
    return f"hs:not-copied:{tool_id}"


def session(digest: str) -> str:
    """Who has signed in, as JSON, by the SHA-256 of the session's token; ends with it."""
    return f"hs:session:{digest}"


def tenant_use(day: int) -> str:
    """Hash of what tenants sent in a day: ``tenant/events``, ``tenant/bytes``, and what was refused
    as ``tenant/refused:quota``; ``day`` counts from 1970 (UTC)."""
    return f"hs:tenant-use:{day}"


def failures(tool_id: str) -> str:
    """Hash that counts a tool's failures in its alert window, and ends with it."""
    return f"{{hs:alerts}}:failures:{tool_id}"


def dictionary(dictionary_id: int) -> str:
    """A compression dictionary; it stays for as long as anything may have been packed with it."""
    return f"hs:dictionary:{dictionary_id}"


def retired_dictionaries(erasure_id: str) -> str:
    """Set: dictionaries that an erasure has retired, until nothing needs them."""
    return f"hs:retired-dictionaries:{erasure_id}"


def training(tool_id: str) -> str:
    """Held by the worker that trains a dictionary for a tool."""
    return f"hs:training:{tool_id}"


def stream(name: str, partition: int) -> str:
    """The stream of a channel in one partition."""
    return f"{{hs:{partition}}}:{name}"


def events(partition: int) -> str:
    """Stream of accepted webhooks."""
    return stream("events", partition)


def blob(stream_key: str, event_id: str) -> str:
    """A payload too large for its stream, in the partition of that stream; lives as its event."""
    return f"{stream_key.rpartition('}')[0]}}}:blob:{event_id}"


def warm_tools(partition: int) -> str:
    """Set: ``tenant/tool`` of those that have warm blocks in this partition."""
    return f"{{hs:{partition}}}:warm-tools"


def warm_index(partition: int, tenant: str, tool_id: str) -> str:
    """Sorted set: a tool's warm blocks, ``first-entry:last-entry:events:bytes`` by the time (ms)
    of the last entry."""
    return f"{{hs:{partition}}}:warm:{tenant}/{tool_id}"


def warm_block(partition: int, tenant: str, tool_id: str, last_entry: str) -> str:
    """A tool's events up to an entry, packed together; the index says from which one on."""
    return f"{{hs:{partition}}}:warm:{tenant}/{tool_id}:{last_entry}"


def updates(partition: int) -> str:
    """Stream of routed events on their way to the contexts of this partition."""
    return stream("updates", partition)


def deferred(partition: int, priority: str) -> str:
    """Stream of updates of one priority that wait while more urgent ones go."""
    return stream(f"deferred:{priority}", partition)


def erased(partition: int) -> str:
    """Set: the erasures that were carried out on what this partition has here."""
    return f"{{hs:{partition}}}:erased"


def rewritten(stream_key: str) -> str:
    """What stands in place of a stream in a moment, in the slot of that stream."""
    tag, brace, _ = stream_key.partition("}")
    return f"{tag}}}:erasing" if brace else f"{{{stream_key}}}:erasing"


def paths(partition: int) -> str:
    """Hash: of tools that move, by ordering key and tool where that is, if not simply old."""
    return f"{{hs:{partition}}}:paths"


def hand_overs(partition: int) -> str:
    """Hash: hand-overs that are under way, as JSON by their marks."""
    return f"{{hs:{partition}}}:hand-overs"


def outbox(partition: int, tool_id: str) -> str:
    """Stream: events of a tool that are still to be copied into its queue, in their order."""
    return f"{{hs:{partition}}}:outbox:{tool_id}"


def outboxes(partition: int) -> str:
    """Hash: the tools that have, or had, an outbox in this partition."""
    return f"{{hs:{partition}}}:outboxes"


def mirror(partition: int, stream: str) -> str:
    """Stream: events, or updates, that are still to be mirrored to Kafka, in their order."""
    return f"{{hs:{partition}}}:mirror:{stream}"


def audit(partition: int) -> str:
    """Stream of what was decided, on its way to PostgreSQL."""
    return stream("audit", partition)


def changelog(partition: int, table: str = "dedup") -> str:
    """Stream of a table's writes, from which RocksDB is rebuilt."""
    return stream("changelog" if table == "dedup" else f"changelog:{table}", partition)


def table_log(partition: int) -> str:
    """Hash: how large the changelog of stages' tables is, and how far its compaction has come."""
    return f"{{hs:{partition}}}:table-log"


def history(partition: int) -> str:
    """Hash: how many keys dedup history has of each day, and how many of them are saved."""
    return f"{{hs:{partition}}}:history"


def history_day(partition: int, day: int) -> str:
    """A day's Bloom filter as bytes; ``day`` counts from 1970 (UTC)."""
    return f"{{hs:{partition}}}:history:{day}"


def failed_event(partition: int, failed_event_id: str) -> str:
    """Hash: an event that failed or waits, with its bytes and its history."""
    return f"{{hs:{partition}}}:letter:{failed_event_id}"


def retries(partition: int) -> str:
    """Sorted set: failed events by the time (ms) at which they are tried again."""
    return f"{{hs:{partition}}}:retries"


def dead(partition: int) -> str:
    """Sorted set: dead letters by the time (ms) of their last failure."""
    return f"{{hs:{partition}}}:dead-letters"


def deaths(partition: int, channel: str) -> str:
    """Hash: how often workers died with an entry in hand, and what may kill the next one."""
    return f"{{hs:{partition}}}:deaths:{channel}"


def parked(partition: int, tool_id: str) -> str:
    """Sorted set: failed events of a tool whose breaker is open, by the time they came (ms)."""
    return f"{{hs:{partition}}}:parked:{tool_id}"


def blocked_keys(partition: int) -> str:
    """Hash: ordering keys that are blocked, with the failed event that blocks each."""
    return f"{{hs:{partition}}}:holds"


def pins(partition: int) -> str:
    """Hash: failed events whose outputs may have been sent, with the entry they were sent for."""
    return f"{{hs:{partition}}}:pins"


def blocked_events(partition: int, ordering: str) -> str:
    """List: failed events of one ordering key in order, the one that blocks the others first."""
    return f"{{hs:{partition}}}:held:{ordering}"


def quarantines(partition: int) -> str:
    """Hash: the versions of envelopes of which entries wait for a newer worker."""
    return f"{{hs:{partition}}}:held-versions"


def quarantined(partition: int, version: int) -> str:
    """List: failed events that wait for a worker which reads this version, in order."""
    return f"{{hs:{partition}}}:held-version:{version}"


def breakers(partition: int) -> str:
    """Hash: the circuit breaker of each tool that has failed lately, as JSON."""
    return f"{{hs:{partition}}}:breakers"


def barrier_of(key: str) -> str:
    """The barrier of the partition that a key belongs to."""
    return f"{key.partition(':')[0]}:{key.split(':')[1]}:barrier"


def barrier(partition: int) -> str:
    """A value that is written only to wait for its replication."""
    return f"{{hs:{partition}}}:barrier"


def lease(partition: int) -> str:
    """Hash: owner, epoch, nonce and expiry of the partition's lease."""
    return f"{{hs:{partition}}}:lease"


def source_positions(partition: int) -> str:
    """Hash: the highest entry of each ``events[p]`` that has reached this partition's feeds."""
    return f"{{hs:{partition}}}:origins"


def seqs(partition: int) -> str:
    """Hash: the last sequence number of each context of this partition."""
    return f"{{hs:{partition}}}:seqs"


def acks(partition: int) -> str:
    """Hash: the sequence number that each context's client has acknowledged."""
    return f"{{hs:{partition}}}:acks"


def ack_times(partition: int, tenant: str, context_id: str) -> str:
    """Sorted set: ``seq:ms`` by sequence number, one for each acknowledgement that moved on."""
    return f"{{hs:{partition}}}:ack-times:{tenant}/{context_id}"


def feed(partition: int, tenant: str, context_id: str) -> str:
    """Stream of a context's updates; an entry's id is ``seq-0``."""
    return f"{{hs:{partition}}}:feed:{tenant}/{context_id}"


def trimmed(partition: int) -> str:
    """Hash: the highest number of each context's feed that has gone since its time was over."""
    return f"{{hs:{partition}}}:trimmed"


def feed_marks(partition: int) -> str:
    """Hash: when each context's feed had come how far, ``ms:seq:acknowledged`` each."""
    return f"{{hs:{partition}}}:feed-marks"


def throttled(partition: int) -> str:
    """Hash: how many updates of each context wait to be coalesced, for their rate is used up."""
    return f"{{hs:{partition}}}:withheld"


def throttled_updates(partition: int, tenant: str, context_id: str) -> str:
    """List: the updates of one context that wait to be coalesced, in their order."""
    return f"{{hs:{partition}}}:withheld:{tenant}/{context_id}"


def daily(partition: int) -> str:
    """Hash: the last day that each context's daily summary was for, and where it ended."""
    return f"{{hs:{partition}}}:daily"


def coalesced_updates(partition: int, tenant: str, context_id: str, seq: int) -> str:
    """List: the updates that a digest in a feed stands for, in their order."""
    return f"{{hs:{partition}}}:folded:{tenant}/{context_id}:{seq}"


def feed_channel(tenant: str, context_id: str) -> str:
    """Pub/sub channel that says: this feed has moved. A wake-up to read, never the news itself."""
    return f"hs:feed:{tenant}/{context_id}"


def feed_field(tenant: str, context_id: str) -> str:
    """The field of a context in the hashes of its partition."""
    return f"{tenant}/{context_id}"
