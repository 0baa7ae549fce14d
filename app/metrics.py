"""Every metric. Names: ``hookstream_<noun>_<unit>[_total]``; labels are bounded."""

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

__all__ = [
    "AGENT_DROPPED",
    "APPEND_BATCH_REQUESTS",
    "ARCHIVE_BYTES",
    "ARCHIVE_CACHE_BYTES",
    "ARCHIVE_DAMAGED",
    "ARCHIVE_ERRORS",
    "ARCHIVE_EVENTS",
    "ARCHIVE_OBJECTS",
    "ARCHIVE_READS",
    "ARCHIVE_READ_BYTES",
    "ARCHIVE_SECONDS",
    "ARCHIVE_WRITTEN_BYTES",
    "ARCHIVE_WRITTEN_EVENTS",
    "AUDIT_LOST",
    "AUDIT_REFUSED_KEYS",
    "AUDIT_REWRITTEN",
    "AUDIT_WAITING",
    "AUDIT_WRITTEN",
    "BATCH_EVENTS",
    "BATCH_FAILURES",
    "BOUNDED_BREACHES",
    "BOUNDED_SECONDS",
    "BREAKERS_OPEN",
    "CATALOG_COPIES",
    "CATALOG_MISSED",
    "CATALOG_ROWS_READ",
    "CATALOG_VERSION",
    "CLAIM_CHECKS",
    "CLIENTS_CUT_OFF",
    "CONDITIONS_SWITCHED_OFF",
    "CONDITION_ERRORS",
    "CONFIRMATIONS",
    "CONFIRMATION_SECONDS",
    "CONTEXT_ACKNOWLEDGED",
    "CONTEXT_SENT",
    "CONTEXT_SUCCESS",
    "CONTEXT_THROTTLED",
    "DATA_KEYS_MADE",
    "DATA_KEYS_REWRAPPED",
    "DATA_KEYS_SHREDDED",
    "DEAD_LETTERS_EXPIRED",
    "DEDUP_PURGED",
    "DICTIONARY",
    "DUPLICATES",
    "ERASED",
    "ERASED_REPEATS",
    "ERASURES_UNDER_WAY",
    "EVENTS",
    "EVENT_LOG_EXPIRED",
    "EVENT_LOG_ROWS",
    "FEED_OLDEST_SECONDS",
    "FEED_OVERDUE",
    "FEED_RESETS",
    "FEED_TRIMMED",
    "FEED_UNREADABLE",
    "FULL_STREAMS",
    "HAND_OVERS",
    "HISTORY_BYTES",
    "HISTORY_CANDIDATES",
    "HISTORY_CHECKED",
    "HISTORY_FALSE_POSITIVES",
    "HISTORY_FILL",
    "HISTORY_LOADED",
    "HISTORY_SAVED",
    "HISTORY_UNREADABLE",
    "KAFKA_ERRORS",
    "KAFKA_MIRRORED",
    "KAFKA_MIRROR_OLDEST_SECONDS",
    "KAFKA_MIRROR_WAITING",
    "KAFKA_NOT_MIRRORED",
    "KAFKA_RECEIVED",
    "KAFKA_REFUSED",
    "KAFKA_SOURCE_LAG",
    "KEY_FETCHES",
    "LEASES_LOST",
    "LIMITED",
    "LOOP_LONGEST_STALL_SECONDS",
    "LOOP_STALLED_SECONDS",
    "LOOP_STALLS",
    "MALFORMED_REQUESTS",
    "MASKED",
    "OF_ALL_PROCESSES",
    "OLD_PATH",
    "PARTITIONS_OWNED",
    "PARTITIONS_UNOWNED",
    "PAYLOAD_BYTES",
    "POLICY_DELETED",
    "QUARANTINED_ENTRIES",
    "READ_ERRORS",
    "RECEIVED",
    "REDELIVERY_CHECKS",
    "REFUSALS",
    "REFUSALS_NOT_KEPT",
    "RETRIES",
    "SCANS_CUT",
    "SOCKETS_CLOSED",
    "SPOOL_APPENDED",
    "SPOOL_BYTES",
    "SPOOL_DRAINED",
    "SPOOL_ENTRIES",
    "SPOOL_LEFTOVERS",
    "SPOOL_OLDEST_SECONDS",
    "SPOOL_REFUSED",
    "SPOOL_SET_ASIDE",
    "SQS_DELETED",
    "SQS_ERRORS",
    "SQS_NOT_SENT",
    "SQS_OLDEST_SECONDS",
    "SQS_RECEIVED",
    "SQS_REFUSED",
    "SQS_SENT",
    "SQS_WAITING",
    "STAGE_SECONDS",
    "STALLED_RENEWALS",
    "STREAM_LAG",
    "STREAM_OLDEST_PENDING_SECONDS",
    "STREAM_PENDING",
    "SUMMARIES",
    "SUMMARISER_REQUESTS",
    "SUMMARISER_SECONDS",
    "TABLE_LATE",
    "TASK_FAILURES",
    "TEMPLATE_ERRORS",
    "TENANT_BYTES",
    "TENANT_EVENTS",
    "TENANT_REFUSED",
    "TOOL_SECRETS_SEALED",
    "TRAININGS",
    "UNVERIFIED_TYPES",
    "UPDATES",
    "UPDATES_COALESCED",
    "UPDATES_DEFERRED",
    "UPDATES_THROTTLED",
    "UPDATE_LATENCY_SECONDS",
    "WEBSOCKETS",
    "WEBSOCKETS_TOO_SLOW",
    "WORKERS",
]

RECEIVED = Counter(
    "hookstream_requests_total",
    "Webhook requests by provider and HTTP status; 499: the sender has gone, nobody was answered.",
    ["provider", "status"],
)
REFUSALS = Counter(
    "hookstream_refusals_total",
    "Webhooks that were refused, by tool and reason; tools that there are not are one.",
    ["tool", "reason"],
)
SQS_RECEIVED = Counter(
    "hookstream_sqs_received_total",
    "Messages that came out of tools' queues, also those that came again.",
    ["tool"],
)
SQS_DELETED = Counter(
    "hookstream_sqs_deleted_total",
    "Messages deleted from tools' queues, since their events are durable, or they were refused.",
    ["tool"],
)
SQS_REFUSED = Counter(
    "hookstream_sqs_refused_total",
    "Messages out of tools' queues that can be no event, by reason.",
    ["tool", "reason"],
)
SQS_SENT = Counter(
    "hookstream_sqs_sent_total",
    "Events copied into tools' queues, also those sent again.",
    ["tool"],
)
SQS_NOT_SENT = Counter(
    "hookstream_sqs_not_sent_total",
    "Events that are not copied into their tool's queue: gone, too-large, refused, forgotten.",
    ["tool", "reason"],
)
OLD_PATH = Counter(
    "hookstream_old_path_events_total",
    "Events that old workers work on, by what came of them here: reaches, unrouted, dropped, "
    "fails.",
    ["tool", "here"],
)
HAND_OVERS = Counter(
    "hookstream_hand_overs_total",
    "Ordering keys that have moved from old workers to here, or were to: done, cancelled.",
    ["tool", "end"],
)
SQS_WAITING = Gauge(
    "hookstream_sqs_waiting",
    "Events that are still to be copied into their tool's queue, of this worker's partitions.",
    ["tool"],
)
SQS_OLDEST_SECONDS = Gauge(
    "hookstream_sqs_oldest_seconds", "For how long the first of those has waited.", ["tool"]
)
SQS_ERRORS = Counter(
    "hookstream_sqs_errors_total",
    "Requests that SQS did not carry out: throttled, denied, missing, unreachable, refused.",
    ["tool", "kind"],
)
KAFKA_RECEIVED = Counter(
    "hookstream_kafka_received_total",
    "Records that came out of tools' topics, also those that came again.",
    ["tool"],
)
KAFKA_REFUSED = Counter(
    "hookstream_kafka_refused_total",
    "Records out of tools' topics that can be no event, by reason.",
    ["tool", "reason"],
)
KAFKA_SOURCE_LAG = Gauge(
    "hookstream_kafka_source_lag",
    "Records that a tool's topic still has for this process's partitions of it.",
    ["tool"],
)
KAFKA_ERRORS = Counter(
    "hookstream_kafka_errors_total",
    "What brokers did not do: denied, missing, too-large, unreachable, refused. No tool: mirrors.",
    ["tool", "kind"],
)
KAFKA_MIRRORED = Counter(
    "hookstream_kafka_mirrored_total",
    "Events, and updates, that are in their topic, also those sent again.",
    ["stream"],
)
KAFKA_NOT_MIRRORED = Counter(
    "hookstream_kafka_not_mirrored_total",
    "Events, and updates, that do not come into their topic: gone, too-large, unread, forgotten.",
    ["stream", "reason"],
)
KAFKA_MIRROR_WAITING = Gauge(
    "hookstream_kafka_mirror_waiting",
    "Events, and updates, that are still to be mirrored, of this worker's partitions: the lag.",
    ["stream"],
)
KAFKA_MIRROR_OLDEST_SECONDS = Gauge(
    "hookstream_kafka_mirror_oldest_seconds",
    "For how long the first of those has waited.",
    ["stream"],
)
REFUSALS_NOT_KEPT = Counter(
    "hookstream_refusals_not_kept_total",
    "Refused webhooks that the API does not show: too many at a time, or Redis was away.",
)
TENANT_EVENTS = Counter(
    "hookstream_tenant_events_total", "Accepted events of each tenant.", ["tenant"]
)
TENANT_BYTES = Counter(
    "hookstream_tenant_bytes_total", "Bytes of the bodies of these, as sent.", ["tenant"]
)
TENANT_REFUSED = Counter(
    "hookstream_tenant_refused_total",
    "What was refused since a quota of its tenant is used up, by the quota.",
    ["tenant", "quota"],
)
UNVERIFIED_TYPES = Counter(
    "hookstream_unverified_types_total",
    "Events whose signed body does not bear out the type that an unsigned header names.",
    ["provider"],
)
KEY_FETCHES = Counter(
    "hookstream_key_fetches_total",
    "Calls to providers for keys that webhooks are verified by: ok, absent or failed.",
    ["result"],
)
MALFORMED_REQUESTS = Counter(
    "hookstream_malformed_requests_total",
    "What came and was no HTTP request, by what is wrong with it (aiohttp's name for it).",
    ["kind"],
)
APPEND_BATCH_REQUESTS = Histogram(
    "hookstream_append_batch_requests",
    "Requests that shared one flush to Redis.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
ARCHIVE_OBJECTS = Gauge(
    "hookstream_archive_objects", "Objects that the archive's manifest names, when last counted."
)
ARCHIVE_BYTES = Gauge("hookstream_archive_bytes", "Bytes of these objects.")
ARCHIVE_EVENTS = Gauge("hookstream_archive_events", "Events in these objects.")
ARCHIVE_WRITTEN_EVENTS = Counter(
    "hookstream_archive_written_events_total",
    "Events written to the archive: stored, or moved from small objects into larger ones.",
    ["by"],
)
ARCHIVE_WRITTEN_BYTES = Counter(
    "hookstream_archive_written_bytes_total", "Bytes of the objects written for these.", ["by"]
)
ARCHIVE_READS = Counter(
    "hookstream_archive_reads_total",
    "Footers and row groups wanted: in memory (hit), being read by another (shared), or read.",
    ["what", "result"],
)
ARCHIVE_READ_BYTES = Counter(
    "hookstream_archive_read_bytes_total", "Bytes of these that were read from the archive."
)
ARCHIVE_CACHE_BYTES = Gauge(
    "hookstream_archive_cache_bytes", "What is kept in memory of what was read in the archive."
)
ARCHIVE_SECONDS = Histogram(
    "hookstream_archive_seconds",
    "How long requests to the folder or bucket took, whatever came of them.",
    ["what"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
ARCHIVE_ERRORS = Counter(
    "hookstream_archive_errors_total", "Requests to it that failed, by what was asked.", ["what"]
)
ARCHIVE_DAMAGED = Counter(
    "hookstream_archive_damaged_total",
    "Reads of objects that were missing, or not what was written.",
)
BOUNDED_SECONDS = Histogram(
    "hookstream_bounded_seconds",
    "Work with a bound, done in a child process: how long it ran, by kind.",
    ["what"],
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)
BOUNDED_BREACHES = Counter(
    "hookstream_bounded_breaches_total",
    "Work that was given up, by kind and why: time, memory, crash, busy, allowance.",
    ["what", "reason"],
)
EVENTS = Counter("hookstream_events_total", "Events committed, by what became of them.", ["status"])
MASKED = Counter(
    "hookstream_masked_total",
    "What was hidden of personal data and secrets, by its kind and by how.",
    ["kind", "action"],
)
ERASED = Counter(
    "hookstream_erased_total", "What erasures took out, by the place that it was in.", ["place"]
)
ERASED_REPEATS = Counter(
    "hookstream_erased_repeats_total",
    "Webhooks that repeat what was erased, and are not kept; events that come late after it.",
    ["where"],
)
ERASURES_UNDER_WAY = Gauge("hookstream_erasures_under_way", "Erasures that are not done.")
POLICY_DELETED = Counter(
    "hookstream_policy_deleted_events_total",
    "Events that retention policies deleted before their tool's ttl, by tier.",
    ["tier"],
)
SUMMARIES = Counter(
    "hookstream_summaries_total", "Summaries asked for, by whether one was remembered.", ["cache"]
)
FEED_UNREADABLE = Counter(
    "hookstream_feed_unreadable_entries_total",
    "Entries read from feeds that are no updates, and were passed over.",
)
FEED_RESETS = Counter(
    "hookstream_feed_resets_total",
    "Feeds that began a new generation here, since Redis had lost data.",
)
FEED_TRIMMED = Counter(
    "hookstream_feed_updates_trimmed_total",
    "Updates that went from feeds since their time was over, by rule: age, acknowledged, updates.",
    ["rule"],
)
FEED_OLDEST_SECONDS = Gauge(
    "hookstream_feed_oldest_update_seconds",
    "How old the oldest update in any feed of this worker is at least.",
)
FEED_OVERDUE = Gauge(
    "hookstream_feed_updates_overdue",
    "Updates seen in this worker's last round over its feeds that are still to go.",
)
DEAD_LETTERS_EXPIRED = Counter(
    "hookstream_dead_letters_expired_total",
    "Dead letters that were thrown away since their time was over, by tool.",
    ["tool"],
)
AUDIT_WRITTEN = Counter(
    "hookstream_audit_written_rows_total",
    "Rows of the audit trail that have waited in Redis and were written.",
)
AUDIT_WAITING = Gauge(
    "hookstream_audit_waiting_rows",
    "Records of the audit trail that wait in Redis for PostgreSQL.",
)
AUDIT_LOST = Counter(
    "hookstream_audit_lost_rows_total",
    "Changes whose row of the audit trail neither PostgreSQL nor Redis has taken: see the log.",
)
AUDIT_REWRITTEN = Counter(
    "hookstream_audit_rewritten_total",
    "Times that a chain of the audit trail was not the one that it was when it was looked at last.",
)
AUDIT_REFUSED_KEYS = Counter(
    "hookstream_audit_refused_keys_total",
    "API keys that were refused, by reason.",
    ["reason"],
)
EVENT_LOG_EXPIRED = Counter(
    "hookstream_event_log_expired_rows_total",
    "Rows that were deleted from PostgreSQL since their time was over, by table.",
    ["table"],
)
TASK_FAILURES = Counter(
    "hookstream_task_failures_total",
    "Background tasks that raised, by task; each was started again, or what needs it was closed.",
    ["task"],
)
LOOP_STALLS = Counter(
    "hookstream_event_loop_stalls_total",
    "Times that the event loop did not turn for HOOKSTREAM_STALL_SECONDS; the log says where.",
)
LOOP_STALLED_SECONDS = Counter(
    "hookstream_event_loop_stalled_seconds_total", "Time that the event loop stood still in these."
)
LOOP_LONGEST_STALL_SECONDS = Gauge(
    "hookstream_event_loop_longest_stall_seconds", "The longest of them since the process began."
)
STALLED_RENEWALS = Counter(
    "hookstream_stalled_lease_renewals_total",
    "Leases renewed beside an event loop that stood still.",
)
TEMPLATE_ERRORS = Counter(
    "hookstream_template_errors_total",
    "Templates that failed on a payload; the plain summary stood in.",
    ["provider"],
)
SUMMARISER_REQUESTS = Counter(
    "hookstream_summariser_requests_total",
    "Summaries wanted of the model: ok, failed, timeout; open: not asked for, its breaker is open.",
    ["result"],
)
SUMMARISER_SECONDS = Histogram(
    "hookstream_summariser_seconds",
    "How long requests to the model took, whatever came of them.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
)
UPDATES = Counter(
    "hookstream_updates_total", "Updates written to feeds, by priority.", ["priority"]
)
DICTIONARY = Gauge(
    "hookstream_dictionary_id",
    "The dictionary with which each tool's new events are packed.",
    ["tool"],
)
CONTEXT_SENT = Gauge(
    "hookstream_context_last_seq", "Updates in each context's feed so far.", ["tenant", "context"]
)
CONTEXT_ACKNOWLEDGED = Gauge(
    "hookstream_context_acknowledged_seq",
    "Updates of each context that its clients have acknowledged.",
    ["tenant", "context"],
)
CONTEXT_SUCCESS = Gauge(
    "hookstream_context_success_ratio",
    "Acknowledged share of each context's updates.",
    ["tenant", "context"],
)
CONTEXT_THROTTLED = Gauge(
    "hookstream_context_throttled_updates",
    "Updates of each context that wait to be coalesced.",
    ["tenant", "context"],
)
UPDATES_DEFERRED = Counter(
    "hookstream_updates_deferred_total", "Updates that waited while more urgent ones went first."
)
UPDATES_TAKEN_ALONG = Counter(
    "hookstream_updates_taken_along_total",
    "Updates that waited and went with something most urgent about the same thing.",
)
UPDATES_THROTTLED = Counter(
    "hookstream_updates_throttled_total", "Updates that came faster than their context's rate."
)
UPDATES_COALESCED = Counter(
    "hookstream_updates_coalesced_total", "Updates for which a digest update stands."
)
UPDATE_LATENCY_SECONDS = Histogram(
    "hookstream_update_latency_seconds",
    "From a webhook's receipt to its update in the feed.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
BATCH_EVENTS = Histogram(
    "hookstream_batch_events",
    "Entries in a batch.",
    ["channel"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
EVENT_LOG_ROWS = Histogram(
    "hookstream_event_log_rows",
    "Events and deliveries that one transaction writes to the event log in PostgreSQL.",
    buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384),
)
AGENT_DROPPED = Counter(
    "hookstream_agent_dropped_total",
    "Events that an agent which looks on was too slow for: they went past it.",
    ["agent"],
)
TABLE_LATE = Counter(
    "hookstream_table_late_total",
    "What stages wrote for events that came after their window had expired: it is not counted.",
    ["table"],
)
BATCH_FAILURES = Counter(
    "hookstream_batch_failures_total", "Batches that failed and were tried again.", ["channel"]
)
STAGE_SECONDS = Counter(
    "hookstream_stage_seconds_total", "Wall time spent in each stage.", ["stage"]
)
PAYLOAD_BYTES = Counter(
    "hookstream_payload_bytes_total", "Bytes of accepted payloads: raw, and as stored.", ["form"]
)
CLAIM_CHECKS = Counter(
    "hookstream_claim_checks_total", "Payloads that went to a blob beside their stream."
)
TRAININGS = Counter(
    "hookstream_dictionary_trainings_total",
    "Dictionaries tried: stored, not-better, failed.",
    ["result"],
)
SPOOL_ENTRIES = Gauge("hookstream_spool_entries", "Events in this process's local spool.")
SPOOL_BYTES = Gauge("hookstream_spool_bytes", "Bytes in this process's local spool.")
SPOOL_OLDEST_SECONDS = Gauge(
    "hookstream_spool_oldest_seconds", "Age of the oldest event in the local spool."
)
SPOOL_LEFTOVERS = Gauge(
    "hookstream_spool_leftover_folders",
    "Spool folders with events in them whose process is gone.",
)
FULL_STREAMS = Gauge(
    "hookstream_full_streams",
    "Streams of events with so much waiting that new events go to this process's spool.",
)
SPOOL_APPENDED = Counter(
    "hookstream_spool_appended_total", "Events that went to the local spool first."
)
SPOOL_DRAINED = Counter(
    "hookstream_spool_drained_total", "Events brought from the local spool to Redis."
)
SPOOL_REFUSED = Counter(
    "hookstream_spool_refused_total", "Events that neither Redis nor the spool could keep (503)."
)
SPOOL_SET_ASIDE = Counter(
    "hookstream_spool_set_aside_total", "Spool folders that could not be read."
)
QUARANTINED_ENTRIES = Gauge(
    "hookstream_quarantined_entries",
    "Entries that wait for a worker which reads their version of the envelope.",
    ["version"],
)
BREAKERS_OPEN = Gauge(
    "hookstream_breaker_open",
    "1 for each tool whose circuit breaker is open or half-open in a partition of this worker.",
    ["tool", "state"],
)
TOOL_FAILURES = Counter(
    "hookstream_tool_failures_total", "Failed attempts at events of a tool.", ["tool", "stage"]
)
TOOL_FAILING = Gauge(
    "hookstream_tool_failing",
    "Failures of each tool that is over its alert threshold in its window, over all workers.",
    ["tool"],
)
ALERTS_RAISED = Counter("hookstream_alerts_raised_total", "Alerts raised.", ["tool"])
ALERTS_SENT = Counter(
    "hookstream_alerts_sent_total", "Attempts to send an alert: ok, failed, given-up.", ["result"]
)
RETRIES = Counter(
    "hookstream_retries_total", "Events put back into their stream to be tried again."
)
REPLAY_SENT = Counter(
    "hookstream_replay_sent_total", "Events that replays by filter put into their streams again."
)
READ_ERRORS = Counter("hookstream_read_errors_total", "Reads from Redis that failed.", ["channel"])
PARTITIONS_OWNED = Gauge("hookstream_partitions_owned", "Partitions that this worker owns.")
WORKERS = Gauge("hookstream_workers", "Workers that live, as Redis knows them.")
PARTITIONS_UNOWNED = Gauge(
    "hookstream_partitions_unowned", "Partitions that no worker has: they stand still."
)
LEASES_LOST = Counter("hookstream_leases_lost_total", "Leases that went to another worker.")
DUPLICATES = Counter(
    "hookstream_dedup_duplicates_total",
    "Duplicates, by tool and by what found them: window, history, or copy (of itself).",
    ["tool", "layer"],
)
HISTORY_CHECKED = Counter(
    "hookstream_dedup_history_checked_total", "Events that dedup history was asked about."
)
HISTORY_CANDIDATES = Counter(
    "hookstream_dedup_history_candidates_total", "Events that a Bloom filter has perhaps seen."
)
CONFIRMATIONS = Counter(
    "hookstream_dedup_confirmations_total",
    "Candidates by what the event log said: duplicate, fresh, or unconfirmed when it said nothing.",
    ["result"],
)
REDELIVERY_CHECKS = Counter(
    "hookstream_dedup_redelivery_checks_total",
    "Events out of a spool looked up in the event log: copy, fresh, unconfirmed, or waits.",
    ["result"],
)
CONFIRMATION_SECONDS = Histogram(
    "hookstream_dedup_confirmation_seconds",
    "Time that the event log took to answer for a batch.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
HISTORY_LOADED = Counter(
    "hookstream_dedup_history_loaded_total", "Days' filters that were read from Redis."
)
HISTORY_SAVED = Counter(
    "hookstream_dedup_history_saved_total", "Days' filters that were saved in Redis."
)
HISTORY_UNREADABLE = Counter(
    "hookstream_dedup_history_unreadable_total",
    "Days' filters that could not be read: every event is looked up in the event log instead.",
)
HISTORY_BYTES = Gauge("hookstream_dedup_history_bytes", "Memory of the filters of this worker.")
HISTORY_FILL = Gauge(
    "hookstream_dedup_history_fill_ratio", "Bits set in the fullest filter in memory."
)
HISTORY_FALSE_POSITIVES = Gauge(
    "hookstream_dedup_history_false_positive_ratio",
    "How often an event that is new is suspected, over all days of its history: estimated from the "
    "fill of the fullest partition in memory, and observed since the start.",
    ["kind"],
)
DEDUP_PURGED = Counter("hookstream_dedup_purged_total", "Dedup marks deleted after their window.")
CATALOG_VERSION = Gauge(
    "hookstream_catalog_version", "Version of tools, contexts and subscriptions in use."
)
CATALOG_ROWS_READ = Counter(
    "hookstream_catalog_rows_read_total",
    "Rows of tools, contexts, subscriptions and so on read from PostgreSQL: all of them at a start "
    "and after a restore, else those that changed.",
    ["load"],
)
CATALOG_COPIES = Counter(
    "hookstream_catalog_copies_total", "How often registry.json was written by this process."
)
TOOL_SECRETS_SEALED = Counter(
    "hookstream_tool_secrets_sealed_total",
    "Tools whose secrets were sealed in the background: in the clear before, or by another key.",
)
DATA_KEYS_MADE = Counter(
    "hookstream_data_keys_made_total", "Data keys of tenants' months that this process has made."
)
DATA_KEYS_REWRAPPED = Counter(
    "hookstream_data_keys_rewrapped_total",
    "Data keys that were wrapped anew, by another wrapping key.",
)
DATA_KEYS_SHREDDED = Counter(
    "hookstream_data_keys_shredded_total", "Data keys that were destroyed by this process."
)
REDIS_DANGERS = Gauge(
    "hookstream_redis_dangers", "Settings of Redis by which it may lose events; /health names them."
)
REDIS_MEMORY_BYTES = Gauge(
    "hookstream_redis_memory_bytes",
    "Memory of the fullest Redis server, used and at most.",
    ["kind"],
)
CATALOG_MISSED = Counter(
    "hookstream_catalog_missed_versions_total",
    "Versions of tools and subscriptions that events asked for and that could not be had.",
)
SCANS_CUT = Counter(
    "hookstream_scans_cut_total",
    "Looks that ended at their bound: through a stream for an event (the request got 503), through "
    "events or dead letters for a page (its cursor leads on).",
    ["what"],
)
LIMITED = Counter(
    "hookstream_limited_total",
    "Requests refused since a client takes as much as it may, by the limit's setting.",
    ["limit"],
)
WEBSOCKETS_TOO_SLOW = Counter(
    "hookstream_websockets_too_slow_total", "WebSocket clients closed since they took nothing."
)
CLIENTS_CUT_OFF = Counter(
    "hookstream_clients_cut_off_total",
    "Connections ended since their clients took nothing of an answer for the write timeout.",
)
SOCKETS_CLOSED = Counter(
    "hookstream_sockets_closed_total",
    "Clients of feeds that this process closed; failed, unreadable, stalled: for trouble here.",
    ["kind", "reason"],
)
WEBSOCKETS = Gauge("hookstream_websockets", "Open WebSocket connections.")
CONDITION_ERRORS = Counter(
    "hookstream_condition_errors_total",
    "Evaluations of a subscription's where that went wrong: no match. Kinds: type, arithmetic, "
    "too-large, time, memory, crash, allowance, busy, other.",
    ["kind"],
)
CONDITIONS_SWITCHED_OFF = Counter(
    "hookstream_conditions_switched_off_total",
    "Subscriptions that were switched off since their conditions went over their bounds.",
)
STREAM_LAG = Gauge(
    "hookstream_stream_lag_entries", "Entries that no worker has read yet.", ["channel"]
)
STREAM_PENDING = Gauge(
    "hookstream_stream_pending_entries", "Entries read and not yet committed.", ["channel"]
)
STREAM_OLDEST_PENDING_SECONDS = Gauge(
    "hookstream_stream_oldest_pending_seconds", "Age of the oldest uncommitted entry.", ["channel"]
)
STREAM_OLDEST_SECONDS = Gauge(
    "hookstream_stream_oldest_seconds",
    "Age of the oldest entry that waits, whether it was read or not.",
    ["channel"],
)
TIER_CACHE = Counter(
    "hookstream_tier_cache_total",
    "Looks for what is kept packed together, in the cache of what was unpacked: hit or miss.",
    ["tier", "result"],
)
TIER_MOVED = Counter(
    "hookstream_tier_moved_total",
    "Events that were moved, by the tier that they left; gone: their time was over.",
    ["left"],
)
TIER_EVENTS = Gauge(
    "hookstream_tier_events", "Events of this worker's partitions that are warm.", ["tier"]
)
TIER_BYTES = Gauge(
    "hookstream_tier_bytes", "Bytes of the warm blocks of this worker's partitions.", ["tier"]
)
TIER_LAG_SECONDS = Gauge(
    "hookstream_tier_lag_seconds",
    "For how long the event that should have moved first has been due, by the tier it is in.",
    ["tier"],
)
MEMORY_PRESSURE = Gauge(
    "hookstream_memory_pressure",
    "Which mark of its memory Redis is above: 0 none, 1 to 3 as docs/retention.md says.",
)
DEAD_LETTERS = Gauge("hookstream_dead_letters", "Dead letters that nobody has dealt with yet.")

#: Names of before, by those of now; dashboards and alerts go on with them for a release.
RENAMED: Final = {
    "hookstream_context_throttled_updates": "hookstream_context_withheld_updates",
    "hookstream_updates_throttled": "hookstream_updates_withheld",
    "hookstream_updates_coalesced": "hookstream_updates_folded",
    "hookstream_quarantined_entries": "hookstream_held_entries",
    "hookstream_dedup_history_candidates": "hookstream_dedup_history_suspected",
    "hookstream_dedup_redelivery_checks": "hookstream_dedup_copy_checks",
    "hookstream_catalog_version": "hookstream_registry_version",
    "hookstream_catalog_missed_versions": "hookstream_registry_missed_versions",
}


class _OldNames:
    """Shows renamed metrics under their old names, too; their help says what to ask for."""

    def __init__(self, *metrics: Any) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        """Nothing: what is collected depends on the others."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Each under its old name."""
        for source in self._metrics:
            for family in source.collect():
                old = RENAMED[family.name]
                help_text = f"Deprecated, use {family.name}: {family.documentation}"
                again = Metric(old, help_text, family.type)
                for sample in family.samples:
                    name = old + sample.name.removeprefix(family.name)
                    again.add_sample(name, sample.labels, sample.value)
                yield again


#: What every process measures alike in Redis when it is asked: it is told once for all of them.
OF_ALL_PROCESSES: Final = frozenset(
    name
    for metric in (
        CONTEXT_SENT,
        CONTEXT_ACKNOWLEDGED,
        CONTEXT_SUCCESS,
        CONTEXT_THROTTLED,
        DEAD_LETTERS,
        PARTITIONS_UNOWNED,
        QUARANTINED_ENTRIES,
        REDIS_DANGERS,
        REDIS_MEMORY_BYTES,
        STREAM_LAG,
        STREAM_OLDEST_PENDING_SECONDS,
        STREAM_OLDEST_SECONDS,
        STREAM_PENDING,
        TOOL_FAILING,
        WORKERS,
    )
    for family in metric.describe()
    for name in (family.name, RENAMED.get(family.name, family.name))
)

REGISTRY.register(
    _OldNames(
        CONTEXT_THROTTLED,
        UPDATES_THROTTLED,
        UPDATES_COALESCED,
        QUARANTINED_ENTRIES,
        HISTORY_CANDIDATES,
        REDELIVERY_CHECKS,
        CATALOG_VERSION,
        CATALOG_MISSED,
    )
)
