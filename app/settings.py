"""Settings: one class, every field an environment variable ``HOOKSTREAM_*``."""

import difflib
import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hookstream.app.addresses import Network, networks_of
from hookstream.app.archive_address import ArchiveAddress, parse_archive_url
from hookstream.app.errors import SettingsError, UnavailableError
from hookstream.app.identity.mapping import RoleMapping, parse_roles
from hookstream.app.kafka_address import is_topic, parse_kafka_url
from hookstream.app.keyring.keyring import KeyRing
from hookstream.app.keyring.sources import key_sources
from hookstream.app.keyring.wrapping import KeyFile, KeySource
from hookstream.app.public_addresses import check_url
from hookstream.app.secret_strength import essence
from hookstream.app.state_folder import close_file, close_folder

__all__ = [
    "EMBEDDED",
    "Settings",
    "cannot_listen",
    "host_in_url",
    "http_address",
    "listen_hosts",
    "load_settings",
    "settings_table",
]

logger = logging.getLogger(__name__)

PREFIX = "HOOKSTREAM_"
EMBEDDED = "embedded://"
#: An admin key that is shorter, or simpler, is refused.
MIN_KEY_CHARACTERS = 12
MIN_KEY_ESSENCE = 5
#: An embedded Redis with less has no room for events beside scripts and streams' own keys.
MIN_REDIS_BYTES = 16 << 20
#: An hour: what is younger is on its way to somebody.
MIN_FEED_DAYS = 1 / 24
#: How long an empty file of the admin key may be one that another process is about to write.
BEING_WRITTEN_SECONDS = 1.0
#: Whole URLs of queues, or what stands before their names. Amazon's have an account in between.
_SQS_QUEUES = re.compile(
    r"https?://(?:[^/\s*]+\.amazonaws\.com(?:\.cn)?/[0-9]+|(?![^/\s]+\.amazonaws\.com)[^/\s*]+"
    r"(?:/[A-Za-z0-9_-]+)*)/(?:[A-Za-z0-9_-]+(?:\.fifo)?)?"
)
#: In the state folder: where the API of what runs there is.
ADDRESS_FILE = "address"


class Settings(BaseSettings):
    """What an operator can set. Units are in the names; the README's table is made from this."""

    # what is shown of settings, and of those that are refused, has no secret in it: fields that
    # are or may hold one are not shown at all
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    state_dir: Path = Field(
        Path(".hookstream"),
        description="Folder of everything kept on this machine: embedded servers' data, RocksDB "
        "tables, the spool, the last known tools, the admin key.",
    )
    web_host: str = Field(
        "127.0.0.1",
        description="Address that the HTTP server listens on; several by commas. `0.0.0.0` is all "
        "of IPv4, `::` all of IPv6 and IPv4.",
    )
    web_port: int = Field(
        6066, ge=1, le=65535, description="Port of the HTTP server: webhooks, API, WebSocket, MCP."
    )
    worker_web_port: int = Field(
        6067,
        ge=1,
        le=65535,
        description="Port of the workers' health, metrics and pages under `hookstream up`.",
    )
    admin_host: str = Field(
        "127.0.0.1",
        description="Address that the operators' port listens on, where there is one; several by "
        "commas.",
    )
    admin_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of a second HTTP server for operators: API, console, pages, metrics, "
        "health. The other one then has webhooks, WebSocket, MCP and `/health/live` only. "
        "0: none, all is on one port.",
    )
    public_url: str = Field(
        "",
        description="Address that providers call, for schemes that sign the URL (Twilio); a tool's "
        "own `public_url` comes first. Empty: as the request says.",
    )
    trusted_proxies: str = Field(
        "",
        description="Networks of proxies, by commas (`10.0.0.0/8,2001:db8::/32`), from which alone "
        "`Forwarded` and `X-Forwarded-For`, `-Proto`, `-Host` and `-Port` are believed: whose "
        "webhook it is, and which address it called. Empty: nobody's.",
    )
    redis_url: str = Field(
        EMBEDDED,
        repr=False,
        description="`embedded://`, `redis://`, `rediss://`, `unix://`, "
        "`sentinel://h1:26379,h2:26379/mymaster` or `cluster://h1:6379,h2:6379`.",
    )
    postgres_url: str = Field(EMBEDDED, repr=False, description="`embedded://` or `postgresql://`.")
    archive_url: str = Field(
        "",
        description="Where events go when they are cold: `file:///folder`, `s3://bucket/prefix`, "
        "`gs://bucket/prefix` or `az://container/prefix`; credentials, region and endpoint by the "
        "cloud's own variables. Empty: the folder `archive` in `HOOKSTREAM_STATE_DIR`.",
    )
    archive_cache_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        description="Most bytes that a process keeps in memory of what it has read in the archive.",
    )
    admin_key: str = Field(
        "",
        repr=False,
        description="Bearer key of the API. Empty: made once and kept in "
        "`HOOKSTREAM_STATE_DIR/admin.key`.",
    )
    oidc_issuer: str = Field(
        "",
        description="OpenID provider by which people sign in, as it calls itself: "
        "`https://login.example.com/realms/main`. Empty: by keys alone.",
    )
    oidc_client_id: str = Field("", description="What this installation is called there.")
    oidc_client_secret: str = Field(
        "", repr=False, description="Its secret there. Empty: a public client."
    )
    oidc_scopes: str = Field(
        "openid profile email", description="What is asked for, by spaces; `openid` among it."
    )
    oidc_role_claim: str = Field(
        "groups", description="Claim of the identity token whose values stand for roles."
    )
    oidc_roles: str = Field(
        "",
        description="Values of that claim and the role that each stands for, by commas: "
        "`hooks-admins=owner,hooks-devs=developer`. Whoever has none of them is not let in.",
    )
    oidc_tenant_claim: str = Field(
        "", description="Claim that names a person's tenant. Empty: everybody is of `default`."
    )
    oidc_allow_private: bool = Field(
        False,
        description="Whether the provider may be at an address that is not public, and over http.",
    )
    oidc_session_hours: float = Field(
        8.0, gt=0, le=168, description="For how long somebody who has signed in stays so."
    )
    pseudonym_key: str = Field(
        "",
        repr=False,
        description="Secret from which pseudonyms of personal data are made, the same for all "
        "processes; with another one all get other names. Empty: no rule can ask for them.",
    )
    ner: str = Field(
        "",
        description="A model for names in free text, as `module:function`: it takes a list of "
        "texts and gives a list of `(start, end, kind)` for each (docs/privacy.md). The same in "
        "receivers and workers. Empty: names are found by their fields alone.",
    )
    ner_seconds: float = Field(
        5.0,
        gt=0,
        le=60,
        description="How long that model may take for the texts of one event; one that takes "
        "longer is ended, and the event is tried again.",
    )
    ner_memory_bytes: int = Field(
        4 << 30,
        ge=256 << 20,
        description="Address space of the child process that has that model, one for each process.",
    )
    key_url: str = Field(
        "",
        description="Keys by which tools' secrets, and data keys of payloads, are sealed: "
        "`file:///path`, `env://NAME`, `awskms:///KEY`, `gcpkms://KEY` or `vault:///KEY`; several "
        "by commas: the first seals, all open. Empty: with the embedded PostgreSQL the file "
        "`HOOKSTREAM_STATE_DIR/sealing.key`, which is made; with another one secrets are kept in "
        "the clear.",
    )
    seal_payloads: Literal["off", "on"] = Field(
        "off",
        description="`on`: payloads, and what is made of them, are kept sealed, by a data key for "
        "each tenant and month that `HOOKSTREAM_KEY_URL` wraps; the same in all processes. What "
        "was kept before stays as it is.",
    )
    agents: str = Field(
        "",
        description="Modules or packages with stages of your own, separated by commas, besides "
        "those of the entry point group `hookstream.agents`.",
    )
    partitions: int = Field(
        32, ge=1, le=4096, description="Number of partitions; fixed once data is there."
    )
    receiver_processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Receiver processes that `hookstream up` starts (`--receivers`). 0: by cores.",
    )
    worker_processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Worker processes that `hookstream up` starts (`--workers`). 0: by cores.",
    )
    max_body_bytes: int = Field(
        5 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest webhook body in bytes, as sent and once decompressed. 413 above it. "
        "GitHub's may have 25 MiB, unless this is set below its default.",
    )
    max_batch_events: int = Field(
        5_000,
        ge=1,
        le=10_000,
        description="Most events that a provider's batch becomes. One of more is one event, with "
        "counts by kind.",
    )
    max_payload_elements: int = Field(
        100_000,
        ge=1000,
        le=10_000_000,
        description="Most elements of a payload that is parsed. One with more is kept, "
        "delivered and shown as text; conditions, templates and schemas see no JSON in it.",
    )
    header_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Time a connection has to send a request's headers; idle ones close after it.",
    )
    body_timeout_seconds: float = Field(
        10.0, gt=0, description="Time a request has to send its body. 408 above it."
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        description="HTTP connections of a process; idle ones over it are closed within 1 s.",
    )
    redis_timeout_seconds: float = Field(
        3.0,
        gt=0,
        description="Time a Redis command may take; less than a third of the lease.",
    )
    embedded_redis_max_bytes: int = Field(
        0,
        ge=0,
        description="Most memory of the embedded Redis in bytes (its `maxmemory`); full, it "
        "refuses, and forgets nothing. 0: two fifths of the machine's memory, or of its "
        "container's.",
    )
    redis_allow_unsafe: bool = Field(
        False,
        description="Start although Redis may lose events: it writes nothing to disk, or drops "
        "streams when it is full.",
    )
    durability: Literal["local", "fsync", "replicated"] = Field(
        "local",
        description="When an event counts as kept: the server has it, its disk has it, or a "
        "replica has it too.",
    )
    spool_max_bytes: int = Field(
        1 << 30,
        ge=1,
        description="Most bytes that a receiver process keeps in its local spool while Redis is "
        "away, or too much waits there. 503 above it.",
    )
    backlog_max_events: int = Field(
        100_000,
        ge=0,
        description="Most events of one partition that wait for a worker in Redis. What comes "
        "above goes to the receiver's spool until they are fewer; of a tool with `critical` "
        "updates, above four times as many. 0: any number.",
    )
    compression: Literal["none", "zstd", "dictionary"] = Field(
        "dictionary",
        description="How payloads are kept in Redis: as they are, by zstd, or by zstd with "
        "dictionaries that workers train from each tool's own traffic.",
    )
    compression_min_bytes: int = Field(
        128, ge=0, description="Payloads of fewer bytes are kept as they are."
    )
    dictionary_min_events: int = Field(
        64,
        ge=32,
        description="Events of a tool that a worker sees before it trains the tool's first "
        "dictionary.",
    )
    claim_check_bytes: int = Field(
        256 * 1024,
        ge=1024,
        description="Events that take more bytes once packed keep their payload beside the stream.",
    )
    dedup_history_days: int = Field(
        7,
        ge=0,
        le=90,
        description="Longest dedup history that a tool may ask for, in days; nothing is kept until "
        "one does. 0: none may.",
    )
    dedup_history_events: int = Field(
        100_000,
        ge=100,
        le=100_000_000,
        description="Events of one partition and day that dedup history is sized for: 2.4 bytes "
        "each at the defaults. More than these are judged right, too, with more look-ups.",
    )
    dedup_history_false_positives: float = Field(
        0.001,
        ge=1e-9,
        le=0.5,
        description="How often dedup history may suspect an event that is new, over all of its "
        "days; what it suspects is looked up in PostgreSQL.",
    )
    dedup_history_memory_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        description="Most bytes of Bloom filters that a worker keeps in memory; what is not there "
        "is read from Redis.",
    )
    copy_window_seconds: int = Field(
        86_400,
        ge=60,
        le=31 * 86_400,
        description="How long a worker keeps what tells a second append of one event (its first "
        "reply was lost) from a new one, whatever the tool's dedup window. Copies that come later "
        "out of a spool are looked up in PostgreSQL.",
    )
    batch_max_events: int = Field(
        64, ge=1, le=4096, description="Most entries of one partition in one batch."
    )
    buffer_max_events: int = Field(
        1024,
        ge=1,
        description="Most entries of one partition that a worker reads ahead of its stages.",
    )
    lease_ttl_seconds: float = Field(
        10.0,
        ge=1.0,
        description="Life of a partition's lease; renewed each second, or at a third of its life "
        "where that is less.",
    )
    stall_seconds: float = Field(
        1.0,
        gt=0,
        description="From when on an event loop that does not turn is a stall: logged with its "
        "stack, counted, and shown in `/health`.",
    )
    stall_lease_seconds: float = Field(
        30.0,
        ge=0,
        description="How long a worker's leases are still renewed while its event loop stands "
        "still (a stage that computes, say); then they lapse, and other workers take over.",
    )
    shutdown_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Time that a stopping process has to finish what it has in flight; the rest "
        "stays pending.",
    )
    shutdown_delay_seconds: float = Field(
        0.0,
        ge=0,
        le=300,
        description="How long a stopping process still takes requests while `/health/ready` says "
        "503, so that a load balancer can look elsewhere first.",
    )
    retry_max_attempts: int = Field(
        8, ge=1, le=1000, description="How often an event is tried before it is a dead letter."
    )
    retry_base_seconds: float = Field(
        1.0, gt=0, description="Longest wait before the second attempt; doubles with each one."
    )
    retry_max_seconds: float = Field(
        300.0, gt=0, description="Longest wait before any attempt; the wait is random below it."
    )
    breaker_failures: int = Field(
        20,
        ge=1,
        description="Failures in a row of one tool's events that open its circuit breaker.",
    )
    breaker_wait_seconds: float = Field(
        30.0, gt=0, description="Time an open circuit breaker waits before it lets a probe through."
    )
    alert_url: str = Field(
        "",
        repr=False,
        description="Where alerts about tools that fail repeatedly are posted, signed after "
        "Standard Webhooks; none when empty.",
    )
    alert_secret: str = Field(
        "", repr=False, description="Secret that alerts are signed with (`whsec_…`)."
    )
    alert_allow_private: bool = Field(
        False, description="Whether alerts may go to addresses that are not public, and over http."
    )
    alert_failures: int = Field(
        10, ge=0, description="Failures of one tool within the window that raise an alert; 0: none."
    )
    alert_window_seconds: float = Field(
        300.0, gt=0, description="Window over which a tool's failures are counted."
    )
    link_hosts: str = Field(
        "",
        description="Hosts, by commas (`git.acme.com,*.ci.acme.com`), to which addresses in "
        "summaries and MCP results may lead, beside providers' own; others are shown as text.",
    )
    summariser_url: str = Field(
        "",
        repr=False,
        description="OpenAI-compatible chat-completions endpoint that summarises events; "
        "templates do when empty.",
    )
    summariser_model: str = Field(
        "", description="Name of the model that the endpoint is asked for."
    )
    summariser_key: str = Field(
        "", repr=False, description="Bearer key that the endpoint is asked with; none when empty."
    )
    summariser_timeout_seconds: float = Field(
        2.0,
        gt=0,
        le=60,
        description="Longest that a batch of updates waits for the model; templates say the rest.",
    )
    summariser_concurrency: int = Field(
        8, ge=1, le=1000, description="Most requests to the model at a time."
    )
    websocket_heartbeat_seconds: float = Field(
        20.0, gt=0, description="Time between WebSocket pings; a client that misses one is closed."
    )
    websocket_send_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Time that a WebSocket client has to take a frame; a slower one is closed "
        "with code 4008, and resumes where it was.",
    )
    write_timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="Time that a client has to take something of an answer; one that takes nothing "
        "for so long is cut off. A download that goes on may take as long as it likes.",
    )
    websockets_per_key: int = Field(
        64,
        ge=0,
        description="Most WebSockets that a key has open in one process (429 above it), "
        "and as many streams of `subscriptions/listen` over MCP. The admin key has no such limit. "
        "0: any number.",
    )
    mcp_sessions_per_key: int = Field(
        16,
        ge=1,
        le=500,
        description="Most MCP sessions of older clients that a key has in one process; a new one "
        "ends the same key's idlest one.",
    )
    tool_webhooks_per_second: float = Field(
        1000.0,
        ge=0,
        description="Webhooks of one tool that a receiver process accepts a second, on average; "
        "ten seconds' worth may come at once. 429 with `Retry-After` above it. 0: any number.",
    )
    sqs_queues: str = Field(
        "",
        description="Queues of Amazon SQS that tools may name, by commas: whole URLs, or their "
        "beginnings up to a `/`, as in `https://sqs.eu-west-1.amazonaws.com/123456789012/`. "
        "They are asked with this process's AWS credentials. Empty: none.",
    )
    sqs_profile: str = Field(
        "",
        description="The profile, of AWS's own files, whose credentials queues are asked with, "
        "where the process's others are for something else, such as the archive.",
    )
    kafka_url: str = Field(
        "",
        description="The Kafka that may stand beside: `kafka://HOST:9092`, several by commas, or "
        "`kafka+ssl://…`. Empty: none, and whatever needs one is refused.",
    )
    kafka_topics: str = Field(
        "",
        description="Topics that tools may name for their source, by commas: whole names, or "
        "beginnings with a `*` behind, as in `orders,webhooks.*`. They are read with this "
        "process's credentials. Empty: none.",
    )
    kafka_events_topic: str = Field(
        "",
        description="Topic that every event is mirrored to, by workers. Empty: events are not.",
    )
    kafka_updates_topic: str = Field(
        "",
        description="Topic that every context's updates are mirrored to, by workers. Empty: "
        "updates are not.",
    )
    kafka_group: str = Field(
        "hookstream",
        description="Consumer group of agents over topics. Tools' sources have this, a dot and "
        "the tool's id.",
    )
    kafka_sasl_mechanism: str = Field(
        "",
        description="How a user is known to Kafka: `SCRAM-SHA-256`, `SCRAM-SHA-512`, or `PLAIN` "
        "over TLS. Empty: nobody has to be.",
    )
    kafka_sasl_username: str = Field("", description="The user there.")
    kafka_sasl_password: str = Field("", repr=False, description="The password of that user.")
    kafka_ca_file: str = Field(
        "",
        description="File of certificates, in PEM, that sign those of the brokers. Empty: what "
        "the system trusts.",
    )
    key_calls_per_second: float = Field(
        50.0,
        ge=0,
        description="Calls of a key or session (API, MCP, WebSockets opened) that a process "
        "answers a second, on average; ten seconds' worth may come at once. 429 with "
        "`Retry-After` above it. The admin key has no such limit. 0: any number.",
    )
    key_replays_per_minute: float = Field(
        30.0,
        ge=0,
        description="Replays that a key begins in one process a minute, on average; a "
        "minute's worth may come at once. The admin key has no such limit. 0: any number.",
    )
    running_replays_per_context: int = Field(
        32,
        ge=0,
        description="Most replays that run to one context at a time, whoever began them; those "
        "that go where subscriptions say are counted together. 429 above it. 0: any number.",
    )
    max_tools: int = Field(10_000, ge=0, description="Most tools; 409 for one more. 0: any number.")
    max_contexts: int = Field(
        50_000, ge=0, description="Most contexts; 409 for one more. 0: any number."
    )
    max_keys: int = Field(50_000, ge=0, description="Most keys; 409 for one more. 0: any number.")
    max_subscriptions: int = Field(
        200_000, ge=0, description="Most subscriptions in all; 409 for one more. 0: any number."
    )
    max_subscriptions_per_context: int = Field(
        1000, ge=0, description="Most subscriptions of a context; 409 for one more. 0: any number."
    )
    feed_read_max_updates: int = Field(
        256, ge=1, description="Most updates a WebSocket reads from its feed at a time."
    )
    feed_max_days: float = Field(
        30.0,
        ge=MIN_FEED_DAYS,
        le=3650,
        description="How long a feed keeps an update, where its context does not say otherwise.",
    )
    feed_max_updates: int = Field(
        100_000,
        ge=1,
        le=100_000_000,
        description="Most updates a feed keeps, where its context does not say otherwise.",
    )
    feed_acknowledged_days: float = Field(
        7.0,
        ge=0,
        le=3650,
        description="How long a feed keeps an update once that is acknowledged, where its context "
        "does not say otherwise.",
    )
    dead_letter_days: float = Field(
        30.0,
        ge=MIN_FEED_DAYS,
        le=3650,
        description="How long after its last failure a dead letter is kept.",
    )
    replay_days: float = Field(
        90.0, ge=1, le=3650, description="How long a replay is shown after it has ended."
    )
    event_log_days: float = Field(
        400.0,
        ge=1,
        le=36500,
        description="How long PostgreSQL keeps what became of events, and daily summaries; longer "
        "where dead letters or feeds are kept longer, or some tool's `ttl` is.",
    )
    comparison_days: float = Field(
        7.0,
        ge=1,
        le=400,
        description="How long PostgreSQL keeps what events of a tool that moves from old workers "
        "came to in both paths (docs/migration.md); never longer than the event log.",
    )
    audit_days: float = Field(
        400.0,
        ge=1,
        le=36500,
        description="How long the audit trail keeps a row; what is left of its chain can be "
        "verified after that.",
    )
    health_oldest_seconds: float = Field(
        60.0,
        gt=0,
        description="Age of the oldest entry of a stream that waits, from which on `/health` says "
        "`degraded`.",
    )
    health_dead_letters: int = Field(
        10,
        ge=0,
        description="Dead letters within ten minutes from which on `/health` says `degraded`; 0: "
        "however many.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="`text` for people, `json` a line for programs; `auto`: text where standard "
        "error is a terminal.",
    )
    log_repeats_per_minute: int = Field(
        60,
        ge=0,
        description="How often the same line is logged within a minute, from `info` on; how often "
        "it came beyond that is said at its end. 0: without a limit.",
    )

    @model_validator(mode="after")
    def _timeouts_fit_the_lease(self) -> Self:
        if self.redis_timeout_seconds * 3 > self.lease_ttl_seconds:
            raise ValueError(
                "HOOKSTREAM_REDIS_TIMEOUT_SECONDS must be at most a third of "
                "HOOKSTREAM_LEASE_TTL_SECONDS, or one slow command costs the lease"
            )
        return self

    @model_validator(mode="after")
    def _postgres_has_an_address(self) -> Self:
        if self.postgres_url == EMBEDDED:
            return self
        scheme, mark, rest = self.postgres_url.partition("://")
        hosts = rest.partition("/")[0].rpartition("@")[2].split(",")
        ports = [re.fullmatch(r"(?:\[.*\]|[^:]*)(?::(\d*))?", host) for host in hosts]
        if scheme not in ("postgresql", "postgres") or not mark or not all(ports):
            raise ValueError(
                "HOOKSTREAM_POSTGRES_URL is no address of PostgreSQL: embedded://, or "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ and %2F for a "
                "/ in the password"
            )
        return self

    @model_validator(mode="after")
    def _archive_has_an_address(self) -> Self:
        if self.archive_url:
            try:
                parse_archive_url(self.archive_url)
            except ValueError as error:
                raise ValueError(f"HOOKSTREAM_ARCHIVE_URL {error}") from error
        return self

    @property
    def archive_address(self) -> ArchiveAddress:
        """Where the archive is."""
        if self.archive_url:
            return parse_archive_url(self.archive_url)
        return ArchiveAddress("file", "", str(self.state_path / "archive"))

    @model_validator(mode="after")
    def _redis_has_room(self) -> Self:
        if 0 < self.embedded_redis_max_bytes < MIN_REDIS_BYTES:
            raise ValueError(
                f"HOOKSTREAM_EMBEDDED_REDIS_MAX_BYTES: {MIN_REDIS_BYTES} at least, or nothing "
                "fits; 0 is a share of this machine's memory"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.admin_port in (self.web_port, self.worker_web_port):
            raise ValueError(
                "HOOKSTREAM_ADMIN_PORT must be another port than HOOKSTREAM_WEB_PORT and "
                "HOOKSTREAM_WORKER_WEB_PORT"
            )
        return self

    @model_validator(mode="after")
    def _admin_key_is_strong(self) -> Self:
        key = self.admin_key
        if key and not _is_strong(key):
            raise ValueError(
                f"HOOKSTREAM_ADMIN_KEY can be guessed: {MIN_KEY_CHARACTERS} characters at least, "
                "such as `openssl rand -hex 24` prints; or leave it empty, and one is made"
            )
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError(
                "HOOKSTREAM_ADMIN_KEY has a space, a line break or a character that is not ASCII, "
                "which no header can carry"
            )
        return self

    @model_validator(mode="after")
    def _pseudonym_key_is_strong(self) -> Self:
        if self.pseudonym_key and not _is_strong(self.pseudonym_key):
            raise ValueError(
                f"HOOKSTREAM_PSEUDONYM_KEY can be guessed: {MIN_KEY_CHARACTERS} characters at "
                "least, such as `openssl rand -hex 24` prints"
            )
        return self

    @model_validator(mode="after")
    def _ner_is_a_function(self) -> Self:
        module, colon, function = self.ner.partition(":")
        named = all(part.isidentifier() for part in (*module.split("."), function))
        if self.ner and not (colon and named):
            raise ValueError(
                "HOOKSTREAM_NER: module:function, as Python imports it: my_project.names:find"
            )
        return self

    @model_validator(mode="after")
    def _sign_in_is_whole(self) -> Self:
        """Who may come in is said in full, or nobody may."""
        if not self.oidc_issuer:
            given = {name for name in self.model_fields_set if name.startswith("oidc_")}
            if named := sorted(name for name in given if getattr(self, name)):
                raise ValueError(
                    f"HOOKSTREAM_{named[0].upper()} is set, and HOOKSTREAM_OIDC_ISSUER is not"
                )
            return self
        try:
            check_url(
                self.oidc_issuer,
                allow_private=self.oidc_allow_private,
                setting="HOOKSTREAM_OIDC_ALLOW_PRIVATE",
            )
            roles = parse_roles(self.oidc_roles)
        except ValueError as error:
            raise ValueError(f"HOOKSTREAM_OIDC_…: {error}") from error
        if not self.oidc_client_id or not roles or not self.oidc_role_claim:
            raise ValueError(
                "with HOOKSTREAM_OIDC_ISSUER go HOOKSTREAM_OIDC_CLIENT_ID, and "
                "HOOKSTREAM_OIDC_ROLES: without, nobody could sign in (docs/access.md)"
            )
        if "openid" not in self.oidc_scopes.split():
            raise ValueError("HOOKSTREAM_OIDC_SCOPES has to name openid")
        return self

    def role_mapping(self) -> RoleMapping:
        """Who may be what, of those that sign in."""
        return RoleMapping(
            self.oidc_role_claim, parse_roles(self.oidc_roles), self.oidc_tenant_claim
        )

    @model_validator(mode="after")
    def _key_url_names_keys(self) -> Self:
        try:
            key_sources(self.key_url)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _payloads_are_sealed_by_a_key(self) -> Self:
        if self.seal_payloads == "on" and not self.key_url and self.postgres_url != EMBEDDED:
            raise ValueError(
                "HOOKSTREAM_SEAL_PAYLOADS=on needs HOOKSTREAM_KEY_URL: with a PostgreSQL of your "
                "own there is no key by default (docs/sealing.md)"
            )
        return self

    def key_ring(self) -> KeyRing:
        """The keys by which secrets are sealed; without any where they are kept in the clear."""
        return KeyRing(self.key_sources())

    def key_sources(self) -> list[KeySource]:
        """Where those keys are, the first of which seals; none: nothing is sealed."""
        own = self.own_key_file
        return [own] if own else key_sources(self.key_url)

    @property
    def own_key_file(self) -> KeyFile | None:
        """The key file of an installation that has all its data in the state folder."""
        if self.key_url or self.postgres_url != EMBEDDED:
            return None
        return KeyFile(self.state_path / "sealing.key", make=True)

    @model_validator(mode="after")
    def _link_hosts_are_hosts(self) -> Self:
        for name in self.link_host_names:
            if not re.fullmatch(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*", name):
                raise ValueError(
                    f"HOOKSTREAM_LINK_HOSTS: {name[:100]!r} is no host: write git.acme.com, or "
                    "*.acme.com for all below it, without https:// or a path"
                )
        return self

    @property
    def link_host_names(self) -> tuple[str, ...]:
        """The hosts in ``link_hosts``, in lower case."""
        names = (name.strip().lower() for name in self.link_hosts.split(","))
        return tuple(name for name in names if name)

    @model_validator(mode="after")
    def _queues_are_urls(self) -> Self:
        for entry in self.sqs_queue_urls:
            # what matches no queue would be found out when a tool's queue is left alone
            if not _SQS_QUEUES.fullmatch(entry):
                raise ValueError(
                    f"HOOKSTREAM_SQS_QUEUES: {entry[:200]!r} is no URL of a queue, nor the "
                    "beginning of one up to a `/`: write "
                    "https://sqs.eu-west-1.amazonaws.com/123456789012/ for all queues of an "
                    "account there"
                )
        return self

    @property
    def sqs_queue_urls(self) -> tuple[str, ...]:
        """What stands in ``sqs_queues``: whole URLs, and beginnings that end in a slash."""
        urls = (url.strip() for url in self.sqs_queues.split(","))
        return tuple(url for url in urls if url)

    def may_ask_queue(self, url: str) -> bool:
        """Whether tools may name a queue: by its whole URL, or by all of that but its name."""
        account, slash, name = url.rpartition("/")
        return bool(name and {url, account + slash}.intersection(self.sqs_queue_urls))

    @model_validator(mode="after")
    def _kafka_can_be_asked(self) -> Self:
        if not self.kafka_url:
            given = {
                "KAFKA_TOPICS": self.kafka_topics,
                "KAFKA_EVENTS_TOPIC": self.kafka_events_topic,
                "KAFKA_UPDATES_TOPIC": self.kafka_updates_topic,
                "KAFKA_SASL_MECHANISM": self.kafka_sasl_mechanism,
            }
            if without := [name for name, value in given.items() if value]:
                raise ValueError(
                    f"HOOKSTREAM_{without[0]}: it needs HOOKSTREAM_KAFKA_URL, which says where "
                    "the Kafka is"
                )
            return self
        try:
            tls = parse_kafka_url(self.kafka_url).tls
        except ValueError as error:
            raise ValueError(f"HOOKSTREAM_KAFKA_URL: {error}") from error
        self._check_kafka_names()
        if self.kafka_ca_file and not tls:
            raise ValueError("HOOKSTREAM_KAFKA_CA_FILE: it is for kafka+ssl:// URLs")
        if not self.kafka_sasl_mechanism:
            return self
        if self.kafka_sasl_mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise ValueError(
                f"HOOKSTREAM_KAFKA_SASL_MECHANISM: {self.kafka_sasl_mechanism[:100]!r} is not "
                "supported: SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN are"
            )
        if self.kafka_sasl_mechanism == "PLAIN" and not tls:
            raise ValueError(
                "HOOKSTREAM_KAFKA_SASL_MECHANISM: PLAIN sends the password as it is: use "
                "kafka+ssl://, or SCRAM-SHA-512"
            )
        if not (self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError(
                "HOOKSTREAM_KAFKA_SASL_MECHANISM: it needs HOOKSTREAM_KAFKA_SASL_USERNAME and "
                "HOOKSTREAM_KAFKA_SASL_PASSWORD"
            )
        return self

    def _check_kafka_names(self) -> None:
        """Raise ValueError where a topic or group cannot be called so, or events would go round."""
        for entry in self.kafka_topic_patterns:
            if not is_topic(entry.removesuffix("*") or "x"):
                raise ValueError(
                    f"HOOKSTREAM_KAFKA_TOPICS: {entry[:200]!r} is no name of a topic, nor the "
                    "beginning of one with a * behind"
                )
        if not is_topic(self.kafka_group):
            raise ValueError("HOOKSTREAM_KAFKA_GROUP: letters, digits, ., _ and -")
        for setting, name in (
            ("KAFKA_EVENTS_TOPIC", self.kafka_events_topic),
            ("KAFKA_UPDATES_TOPIC", self.kafka_updates_topic),
        ):
            if name and not is_topic(name):
                raise ValueError(
                    f"HOOKSTREAM_{setting}: {name[:200]!r} is no name of a topic: up to 249 "
                    "letters, digits, ., _ and -"
                )
        if self.kafka_events_topic and self.kafka_events_topic == self.kafka_updates_topic:
            raise ValueError(
                "HOOKSTREAM_KAFKA_UPDATES_TOPIC: it is HOOKSTREAM_KAFKA_EVENTS_TOPIC: give updates "
                "a topic of their own"
            )

    @property
    def kafka_topic_patterns(self) -> tuple[str, ...]:
        """What stands in ``kafka_topics``: names, and beginnings with a ``*`` behind."""
        names = (name.strip() for name in self.kafka_topics.split(","))
        return tuple(name for name in names if name)

    def may_read_topic(self, name: str) -> bool:
        """Whether tools may name a topic; never one that events or updates are mirrored to."""
        if not self.kafka_url or name in (self.kafka_events_topic, self.kafka_updates_topic):
            return False
        return any(
            name == entry or (entry.endswith("*") and name.startswith(entry[:-1]))
            for entry in self.kafka_topic_patterns
        )

    @model_validator(mode="after")
    def _proxies_are_networks(self) -> Self:
        try:
            networks = self.trusted_networks
        except ValueError as error:
            raise ValueError(f"HOOKSTREAM_TRUSTED_PROXIES: {error}") from error
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError(
                "HOOKSTREAM_TRUSTED_PROXIES: everybody could then say to be anybody: name the "
                "networks of your proxies alone"
            )
        return self

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks in ``trusted_proxies``."""
        return networks_of(text for text in self.trusted_proxies.split(",") if text.strip())

    @model_validator(mode="after")
    def _alerts_can_be_sent(self) -> Self:
        if self.alert_url:
            try:
                check_url(self.alert_url, allow_private=self.alert_allow_private)
            except ValueError as error:
                raise ValueError(f"HOOKSTREAM_ALERT_URL: {error}") from error
            # the providers' packages are a third of a second: not for everybody who has no alerts
            from hookstream.app.providers.signatures.standard import standard_key

            if standard_key(self.alert_secret) is None:
                raise ValueError(
                    "HOOKSTREAM_ALERT_SECRET: whsec_ and the base64 of 24 to 64 random bytes"
                )
        return self

    @model_validator(mode="after")
    def _summariser_can_be_asked(self) -> Self:
        if not self.summariser_url:
            return self
        try:
            check_url(self.summariser_url, allow_private=True)
        except ValueError as error:
            raise ValueError(
                "HOOKSTREAM_SUMMARISER_URL: an http or https address such as "
                "https://models.example.com/v1/chat/completions, without credentials"
            ) from error
        if not self.summariser_model:
            raise ValueError("HOOKSTREAM_SUMMARISER_MODEL must name a model of that endpoint")
        if not re.fullmatch(r"[!-~]*", self.summariser_key):
            raise ValueError(
                "HOOKSTREAM_SUMMARISER_KEY has a space, a line break or a character that is not "
                "ASCII, which no header can carry"
            )
        return self

    @cached_property
    def state_path(self) -> Path:
        """Absolute form of ``state_dir``."""
        return self.state_dir.expanduser().absolute()

    @property
    def stop_seconds(self) -> float:
        """Time after which a process that was asked to stop hangs."""
        return self.shutdown_delay_seconds + 2 * self.shutdown_timeout_seconds

    def ensure_state_dir(self) -> Path:
        """Create the state folder, readable by its owner only; one that is there is made so.

        Raises:
            SettingsError: it cannot be made, this user may not write there, or others may, and it
                is none that could be closed to them.
        """
        path = self.state_path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            close_folder(path)
        except OSError as error:
            raise SettingsError(
                f"HOOKSTREAM_STATE_DIR: {path} cannot be used ({error.strerror}): name a folder "
                "that this user may make and write"
            ) from error
        return path

    @property
    def address(self) -> str:
        """Where this process listens for HTTP, as somebody on this machine calls it."""
        return http_address(self.web_host, self.web_port)

    @property
    def api_address(self) -> str:
        """Where it serves operators: the API, health, metrics and pages."""
        if not self.admin_port:
            return self.address
        return http_address(self.admin_host, self.admin_port)

    def known_api_key(self) -> str:
        """The admin key for a command that talks to a running system: none is made.

        Raises:
            SettingsError: there is none here.
        """
        path = self.state_path / "admin.key"
        if self.admin_key:
            return self.admin_key
        if path.exists():
            return _key_in(path)
        raise SettingsError(
            f"there is no admin key in {self.state_path}: run this where Hookstream runs, or set "
            "HOOKSTREAM_STATE_DIR to its folder, or HOOKSTREAM_ADMIN_KEY"
        )

    def known_address(self) -> str:
        """Where a running system's API is: by the settings, else as its state folder says."""
        return self._known()[0]

    def known_hooks_address(self) -> str:
        """Where a running system takes webhooks, found in the same way."""
        return self._known()[-1]

    def _known(self) -> list[str]:
        if {"web_host", "web_port", "admin_host", "admin_port"} & self.model_fields_set:
            return [self.api_address, self.address]
        try:
            noted = (self.state_path / ADDRESS_FILE).read_text().split()
        except OSError:
            noted = []
        return noted or [self.api_address, self.address]

    def note_address(self) -> None:
        """Say in the state folder where the API is, and below it where webhooks go if elsewhere."""
        path = self.ensure_state_dir() / ADDRESS_FILE
        try:
            addresses = dict.fromkeys((self.api_address, self.address))
            path.write_text("".join(f"{address}\n" for address in addresses))
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error.strerror}") from error

    def api_key(self) -> str:
        """The admin key: the setting's, else the one kept in the state folder (made if absent).

        Raises:
            SettingsError: what is there is empty, can be guessed, or can be written by others.
            UnavailableError: it cannot be written.
        """
        if self.admin_key:
            return self.admin_key
        path = self.ensure_state_dir() / "admin.key"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"hs_{secrets.token_urlsafe(32)}\n")
        except FileExistsError:
            close_file(path)
        except OSError as error:
            # a full disk, say: an empty file would be there for good
            path.unlink(missing_ok=True)
            raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error
        else:
            logger.info("made an admin key: %s", path)
        return _key_in(path, wait_seconds=BEING_WRITTEN_SECONDS)


def _key_in(path: Path, wait_seconds: float = 0.0) -> str:
    """The key in a file; another process may be about to write it for ``wait_seconds``."""
    try:
        until = time.monotonic() + wait_seconds
        while not (key := path.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.01)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if not _is_strong(key):
        what = "holds a key that can be guessed" if key else "is empty"
        raise SettingsError(f"{path} {what}: delete it, and a new key is made at next start")
    return key


def _is_strong(key: str) -> bool:
    return len(key) >= MIN_KEY_CHARACTERS and essence(key) >= MIN_KEY_ESSENCE


def listen_hosts(hosts: str) -> list[str]:
    """The hosts to listen on, one socket each; ``::`` stands for IPv4, too.

    A socket of both kinds would say of IPv4 clients that they are IPv6 ones.
    """
    found = [host.strip().strip("[]") for host in hosts.split(",") if host.strip()]
    if "::" in found:
        found.append("0.0.0.0")  # noqa: S104
    return list(dict.fromkeys(found)) or [""]


def host_in_url(hosts: str) -> str:
    """What stands in a URL for this machine: of several hosts the first, for all the loopback."""
    host = listen_hosts(hosts)[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def http_address(hosts: str, port: int) -> str:
    """``http://host:port`` for this machine; who listens everywhere is called by loopback."""
    return f"http://{host_in_url(hosts)}:{port}"


def cannot_listen(host: str, port: int, error: Exception, setting: str) -> SettingsError:
    """What is said where something else has the port, or there is no such address here.

    ``setting`` is that of the port.
    """
    host_setting = "HOOKSTREAM_ADMIN_HOST" if "ADMIN" in setting else "HOOKSTREAM_WEB_HOST"
    shown = f"[{host}]" if ":" in host else host
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number and number > 0 else str(error)
    return SettingsError(
        f"cannot listen on {shown}:{port} ({reason}): is Hookstream up already? "
        f"Set {setting} to another port, or {host_setting} to an address of this machine"
    )


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: for a value that does not fit, and for a ``HOOKSTREAM_*`` name that no
            setting has (a misspelt setting is worse than a missing one).
    """
    environ = os.environ if environ is None else environ
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name not in known:
            # case counts: a shell takes any, and this would be passed over
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else " See the README's table of settings."
            raise SettingsError(f"{name} is not a setting.{hint}")
    values = {
        name: environ[PREFIX + name.upper()]
        for name in Settings.model_fields
        if PREFIX + name.upper() in environ
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = [
            ("_".join(map(str, item["loc"])).upper(), item["msg"].removeprefix("Value error, "))
            for item in error.errors(include_input=False, include_url=False)
        ]
        # what is about several settings names them itself
        said = (f"{PREFIX}{name}: {text}" if name else text for name, text in problems)
        raise SettingsError("; ".join(said)) from error


def settings_table() -> str:
    """The README's table: one row a setting, in the order of the class."""
    rows = ["| setting | default | what it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if str(field.default) else "empty"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
