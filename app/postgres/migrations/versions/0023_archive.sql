-- migration: pre, for code from level 10
-- The archive's manifest: which objects there are, and what is where in them. A name is drawn before its
-- object is written (`finished` is false until it has been read back), and never drawn again: whatever
-- stands here unfinished, or in archive_leftovers, may be deleted without looking at anything else.
CREATE TABLE archive_objects (
    name            text PRIMARY KEY,
    tenant          text NOT NULL,
    tool_id         text NOT NULL,
    -- the first hour whose events it has; one that was made of several has all of a day
    hour            timestamptz NOT NULL,
    schema_version  integer NOT NULL,
    events          integer NOT NULL,
    bytes           bigint NOT NULL,
    payload_bytes   bigint NOT NULL,
    -- of its last bytes, which say where everything else in it is
    footer_bytes    integer NOT NULL,
    sha256          bytea NOT NULL,
    first_event     uuid NOT NULL,
    last_event      uuid NOT NULL,
    oldest_ms       bigint NOT NULL,
    newest_ms       bigint NOT NULL,
    finished        boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX archive_objects_by_tool ON archive_objects (tenant, tool_id, newest_ms);
CREATE INDEX archive_objects_unfinished ON archive_objects (created_at) WHERE NOT finished;

-- Its row groups. `place` is a number for tenant and tool (others may have the same); entries are those of
-- whichever partitions its events were in, times those at which events were received.
CREATE TABLE archive_ranges (
    object       text NOT NULL REFERENCES archive_objects (name) ON DELETE CASCADE,
    row_group    integer NOT NULL,
    place        bigint NOT NULL,
    first_entry  bigint NOT NULL,
    last_entry   bigint NOT NULL,
    oldest_ms    bigint NOT NULL,
    newest_ms    bigint NOT NULL,
    events       integer NOT NULL,
    PRIMARY KEY (object, row_group)
);
-- which of a tool's row groups may have an entry: a line over the milliseconds of entries' ids, at the
-- height of the tool
CREATE INDEX archive_ranges_by_entry ON archive_ranges
USING gist (box(point(first_entry, place), point(last_entry, place)));
CREATE INDEX archive_ranges_by_tool ON archive_ranges (place, oldest_ms, object, row_group);
CREATE INDEX archive_ranges_by_time ON archive_ranges (oldest_ms, object, row_group);

-- Ranges of a partition's entries of which every one of the tool is in objects. They do not overlap.
CREATE TABLE archive_covered (
    tenant      text NOT NULL,
    tool_id     text NOT NULL,
    partition   integer NOT NULL,
    first_ms    bigint NOT NULL,
    first_seq   bigint NOT NULL,
    last_ms     bigint NOT NULL,
    last_seq    bigint NOT NULL,
    newest_ms   bigint NOT NULL,
    PRIMARY KEY (tenant, tool_id, partition, last_ms, last_seq)
);

-- Names that no object has any more, whose bytes are still to be deleted.
CREATE TABLE archive_leftovers (
    name   text PRIMARY KEY,
    since  timestamptz NOT NULL DEFAULT now()
);
