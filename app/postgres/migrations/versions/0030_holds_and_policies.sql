-- migration: pre, for code from level 10
-- Legal holds: what they cover is deleted by nothing, until they are released.
CREATE TABLE holds (
    hold_id         uuid PRIMARY KEY,
    tenant          text NOT NULL,
    -- '': any
    tool_id         text NOT NULL DEFAULT '',
    context_id      text NOT NULL DEFAULT '',
    -- events from the first to the last one, both counted; all of them where nothing was said
    first_event     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    last_event      uuid NOT NULL DEFAULT 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    reason          text NOT NULL,
    placed_at       timestamptz NOT NULL DEFAULT now(),
    released_at     timestamptz,
    release_reason  text NOT NULL DEFAULT ''
);
CREATE INDEX holds_by_time ON holds (tenant, placed_at DESC, hold_id);
CREATE INDEX holds_now ON holds (tenant) WHERE released_at IS NULL;
CREATE CONSTRAINT TRIGGER holds_placed AFTER INSERT ON holds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('hold', 'hold_id', 'tool_id,context_id,first_event,last_event,reason', '', 'placed');
CREATE CONSTRAINT TRIGGER holds_released AFTER UPDATE ON holds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.released_at IS NOT NULL AND OLD.released_at IS NULL) EXECUTE FUNCTION
    audit_change(
        'hold', 'hold_id', 'tool_id,context_id,first_event,last_event,reason,release_reason', '',
        'released'
    );
-- whoever deletes a row must release the hold first
CREATE FUNCTION holds_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.released_at IS NULL THEN
        RAISE EXCEPTION 'hold % is in force: release it', OLD.hold_id;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER holds_kept BEFORE DELETE ON holds FOR EACH ROW EXECUTE FUNCTION holds_kept();

-- Which events are deleted after a time, sooner than their tool's ttl says.
CREATE TABLE retention_policies (
    tenant                text NOT NULL,
    policy_id             text NOT NULL,
    -- '': any
    tool_id               text NOT NULL DEFAULT '',
    types                 text NOT NULL DEFAULT '',
    data_class            text NOT NULL DEFAULT '',
    delete_after_seconds  bigint NOT NULL,
    reason                text NOT NULL DEFAULT '',
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, policy_id)
);
CREATE CONSTRAINT TRIGGER retention_policies_audited AFTER INSERT OR UPDATE OR DELETE ON retention_policies
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION
    audit_change(
        'retention_policy', 'policy_id', 'tool_id,types,data_class,delete_after_seconds,reason', ''
    );

-- What a policy has deleted: a row for each run, tier and tool. Rows are appended, and stay.
CREATE TABLE retention_proof (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL,
    policy_id    text NOT NULL,
    -- as it was when it was carried out
    rule         jsonb NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    tier         text NOT NULL,
    tool_id      text NOT NULL,
    deleted      bigint NOT NULL,
    first_event  uuid NOT NULL,
    last_event   uuid NOT NULL,
    -- SHA-256 over the ids, in their order, of 16 bytes each
    ids_sha256   bytea NOT NULL
);
CREATE INDEX retention_proof_by_policy ON retention_proof (tenant, policy_id, run_id DESC);
CREATE CONSTRAINT TRIGGER retention_proof_noted AFTER INSERT ON retention_proof
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION
    audit_change(
        'retention_policy', 'policy_id', 'rule,tier,tool_id,deleted,first_event,last_event,ids_sha256', '',
        'enforced'
    );
CREATE FUNCTION retention_proof_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what policies have deleted is append-only: % is refused', TG_OP;
END $$;
CREATE TRIGGER retention_proof_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON retention_proof
    FOR EACH STATEMENT EXECUTE FUNCTION retention_proof_kept();
ALTER TABLE retention_proof ENABLE ALWAYS TRIGGER retention_proof_kept;
